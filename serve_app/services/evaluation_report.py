"""What an evaluation says: as JSON with every figure, and as Markdown to read. Pure; knows no file and no plot."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve_app.core.evaluation import Figure
from serve_app.services.evaluation import Asked, Classified, WorstQuery
from serve_app.services.index_sweep import Sweep

MEASURES = ("recall@1", "recall@5", "recall@10", "median_rank", "mrr", "ndcg@10", "capped_recall@10")
WORST_CLASSES = 20


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was found out. `facts`: where it ran, on what, with what settings; `remarks`: sentences that a
    reader has to know; `broken`: rows that were left out, a sentence each."""

    corpus: str
    facts: Mapping[str, str | int]
    asked: Sequence[Asked] = ()
    classified: Classified | None = None
    sweep: Sweep | None = None
    remarks: Sequence[str] = ()
    broken: Sequence[str] = ()


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Every figure; what is infinite (a rank that was not reached) is null."""
    report: dict[str, Any] = {"corpus": evaluation.corpus, **evaluation.facts, "remarks": list(evaluation.remarks)}
    report["broken"] = list(evaluation.broken)
    if evaluation.asked:
        report["results"] = [_asked_json(each) for each in evaluation.asked]
    if evaluation.classified is not None:
        found = evaluation.classified
        report["classification"] = {
            "pictures": found.pictures,
            "classes": found.classes,
            "templates": list(found.templates),
            "top1": _figure_json(found.accuracy.top1),
            "top5": _figure_json(found.accuracy.top5),
            "per_class": dict(found.accuracy.per_class),
            "confused": [
                {"class": right, "taken_for": wrong, "times": times} for right, wrong, times in found.accuracy.confused
            ],
            "failed": [{"code": each.code, "message": each.message} for each in found.failures],
        }
    if evaluation.sweep is not None:
        report["index"] = _sweep_json(evaluation.sweep)
    return report


def as_markdown(evaluation: Evaluation) -> str:
    """Tables, with 95 % intervals in brackets, and the conditions below."""
    lines = [f"### {evaluation.corpus}", ""]
    if evaluation.asked:
        lines += _asked_table(evaluation.asked)
    if evaluation.classified is not None:
        lines += _classified_table(evaluation.classified)
    if evaluation.sweep is not None:
        lines += _sweep_table(evaluation.sweep)
    lines += [f"- {each.rstrip('.')}." for each in [*evaluation.remarks, *_failed(evaluation)]]
    lines += ["", "; ".join(f"{name} {value}" for name, value in evaluation.facts.items()), ""]
    return "\n".join(lines)


def _failed(evaluation: Evaluation) -> Iterator[str]:
    """Sentences about what could not be read, asked or classified."""
    if evaluation.broken:
        yield f"{len(evaluation.broken):,} rows are broken and were left out; the first: {evaluation.broken[0]}"
    for each in evaluation.asked:
        if each.failures:
            asked = f"{each.direction.arrow}, {each.ranking}"
            yield f"{asked}: {len(each.failures):,} queries failed and count as not found; {each.failures[0].message}"
    found = evaluation.classified
    if found is not None and found.failures:
        yield f"{len(found.failures):,} pictures failed and count as wrong; the first: {found.failures[0].message}"


def shown(figure: Figure, form: str = ".3f") -> str:
    """Such as `0.812 [0.788, 0.835]`."""
    return f"{number(figure.value, form)} [{number(figure.low, form)}, {number(figure.high, form)}]"


def number(value: float | None, form: str = ".3f") -> str:
    """In this format; `beyond` for a rank that was not reached."""
    if value is None:
        return "–"
    return "beyond" if math.isinf(value) else format(value, form)


def _asked_table(asked: Sequence[Asked]) -> list[str]:
    """A column for each direction and ranking: intervals are long, and rankings are compared side by side."""
    rows = [["queries", *(f"{each.queries:,}" for each in asked)]]
    for name in MEASURES:
        form = "g" if name == "median_rank" else ".3f"
        rows.append([name, *(shown(each.figures[name], form) if name in each.figures else "–" for each in asked)])
    rows.append(["pictures among the first ten", *(number(each.pictures) for each in asked)])
    rows.append(["pictures among the right ones", *(number(each.pictures_relevant) for each in asked)])
    if any(each.unanswerable for each in asked):
        rows.append(["queries without an answer", *(f"{each.unanswerable:,}" for each in asked)])
        rows.append(["refused, precision", *(number(each.refusal.precision) for each in asked)])
        rows.append(["refused, recall", *(number(each.refusal.recall) for each in asked)])
    head = ["", *(f"{each.direction.arrow}, {each.ranking}" for each in asked)]
    return [_row(head), "|---" * len(head) + "|", *map(_row, rows), ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _classified_table(found: Classified) -> list[str]:
    worst = sorted(found.accuracy.per_class.items(), key=lambda item: (item[1], item[0]))[:WORST_CLASSES]
    return [
        "| pictures | classes | templates | top-1 | top-5 |",
        "|---|---|---|---|---|",
        f"| {found.pictures:,} | {found.classes} | {len(found.templates)} | {shown(found.accuracy.top1)} | "
        f"{shown(found.accuracy.top5)} |",
        "",
        "| worst classes | top-1 |",
        "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in worst),
        "",
    ]


def _sweep_table(sweep: Sweep) -> list[str]:
    lines = ["| search | nearest ten found | recall@10 | p50, ms | p95, ms |", "|---|---|---|---|---|"]
    for each in sweep.points:
        name = f"{each.reading.nprobes} lists, {each.reading.compared} compared" if each.reading else "exact"
        lines.append(f"| {name} | {each.nearest:.3f} | {each.recall:.3f} | {each.p50_ms:.2f} | {each.p95_ms:.2f} |")
    return [*lines, ""]


def _asked_json(asked: Asked) -> dict[str, Any]:
    cuts, curve = asked.curve
    return {
        "direction": asked.direction.value,
        "ranking": asked.ranking.value,
        "queries": asked.queries,
        **{name: _figure_json(figure) for name, figure in asked.figures.items()},
        "pictures": asked.pictures,
        "pictures_relevant": asked.pictures_relevant,
        "unanswerable": asked.unanswerable,
        "refused_precision": asked.refusal.precision,
        "refused_recall": asked.refusal.recall,
        "recall": [{"k": k, **_figure_json(figure)} for k, figure in zip(cuts, curve, strict=True)],
        "worst": [_worst_json(each) for each in asked.worst],
        "failed": [{"code": each.code, "message": each.message} for each in asked.failures],
    }


def _worst_json(worst: WorstQuery) -> dict[str, Any]:
    return {
        "query": worst.query.id,
        "text": worst.query.text,
        "picture": worst.query.picture,
        "rank": _finite(worst.rank),
        "relevant": list(worst.query.relevant)[:10],
        "found": [{"id": hit.id, "modality": hit.modality.value, "score": hit.score} for hit in worst.found],
    }


def _sweep_json(sweep: Sweep) -> dict[str, Any]:
    return {
        "kind": sweep.kind.value,
        "partitions": sweep.partitions,
        "rows": sweep.rows,
        "modality": sweep.modality.value,
        "queries": sweep.queries,
        "build_s": sweep.build_s,
        "points": [
            {
                "nprobes": each.reading.nprobes if each.reading else None,
                "compared": each.reading.compared if each.reading else None,
                "nearest": each.nearest,
                "recall@10": each.recall,
                "p50_ms": each.p50_ms,
                "p95_ms": each.p95_ms,
            }
            for each in sweep.points
        ],
    }


def _figure_json(figure: Figure) -> dict[str, float | None]:
    return {"value": _finite(figure.value), "low": _finite(figure.low), "high": _finite(figure.high)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
