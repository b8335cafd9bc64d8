"""The files that an evaluation leaves: report.json, report.md, plots, and sheets of the queries that went worst."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from serve_app.adapters.corpora import picture_bytes
from serve_app.adapters.evaluation_plots import classes_plot, recall_plot, sweep_plot
from serve_app.contact_sheet import Cell, contact_sheet
from serve_app.core.judgements import Found, JudgedQuery
from serve_app.services.evaluation import Asked, Classified, WorstQuery
from serve_app.services.evaluation_report import Evaluation, as_json, as_markdown
from serve_app.services.index_sweep import Sweep

FOUND_IN_ROW = 4
COLUMNS = FOUND_IN_ROW + 2  # the query, and the answer that it should have had

PictureOf = Callable[[str], bytes | None]
TextOf = Callable[[str], str | None]


def write_files(folder: Path, evaluation: Evaluation, picture_of: PictureOf, text_of: TextOf) -> list[Path]:
    """Write everything there is to see; returns what was written. `picture_of`, `text_of`: of a document, by its id."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "report.json", folder / "report.md"]
    written[0].write_text(json.dumps(as_json(evaluation), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    written[1].write_text(as_markdown(evaluation), encoding="utf-8")
    answered = [each for each in evaluation.asked if each.queries]
    if answered:
        written.append(folder / "recall.png")
        recall_plot({_name(each): each.curve for each in answered}, _title(evaluation), written[-1])
    for each in answered:
        if each.worst:
            written.append(folder / f"worst-{each.direction}-{each.ranking}.jpg")
            _sheet(each, picture_of, text_of, written[-1])
    if evaluation.sweep is not None:
        written.append(folder / "index.png")
        _draw_sweep(evaluation.sweep, written[-1])
    if evaluation.classified is not None:
        written.append(folder / "classes.png")
        _draw_classes(evaluation, evaluation.classified, written[-1])
    return written


def _sheet(asked: Asked, picture_of: PictureOf, text_of: TextOf, path: Path) -> None:
    """A row a query: what asks, what would have been right, and what came first instead."""
    cells = [cell for worst in asked.worst for cell in _row(worst, picture_of, text_of)]
    title = f"{asked.direction}, {asked.ranking}: the queries that went worst, what is right, what came first"
    contact_sheet(title, cells, COLUMNS).save(path, quality=88)


def _row(worst: WorstQuery, picture_of: PictureOf, text_of: TextOf) -> list[Cell]:
    query = worst.query
    rank = "not found" if math.isinf(worst.rank) else f"found at {worst.rank:.0f}"
    right = next(iter(query.relevant))
    found = [
        Cell(_label(at, hit, query), picture_of(hit.id), hit.text or text_of(hit.id) or hit.id)
        for at, hit in enumerate(worst.found[:FOUND_IN_ROW], 1)
    ]
    row = [
        Cell("asked", _picture_of_query(query), _words(query)),
        Cell(f"right, {rank}", picture_of(right), text_of(right) or right),
        *found,
    ]
    return row + [Cell("", None, "")] * (COLUMNS - len(row))


def _label(place: int, hit: Found, query: JudgedQuery) -> str:
    return f"{place}. {hit.score:.2f}  {'right' if hit.id in query.relevant else hit.id}"


def _picture_of_query(query: JudgedQuery) -> bytes | None:
    return None if query.picture is None else picture_bytes(query.picture)


def _words(query: JudgedQuery) -> str:
    if query.text is not None or query.body is None:
        return query.text or query.id
    return str(query.body.get("text") or json.dumps(query.body, ensure_ascii=False))


def _draw_sweep(sweep: Sweep, path: Path) -> None:
    exact, *others = sweep.points
    lines: dict[str, list[tuple[float, float, float, str]]] = {}
    for each in others:
        if each.reading is not None:
            point = (each.p50_ms, each.nearest, each.recall, f"{each.reading.nprobes} of {sweep.partitions} lists")
            lines.setdefault(f"{each.reading.compared} compared on raw vectors", []).append(point)
    title = (
        f"{sweep.kind.value} over {sweep.rows:,} rows, {sweep.queries} queries for {sweep.modality.value}s; "
        "along a line more lists are read"
    )
    sweep_plot(lines, (exact.p50_ms, exact.recall), title, path)


def _draw_classes(evaluation: Evaluation, found: Classified, path: Path) -> None:
    classes_plot(found.accuracy.per_class, found.accuracy.top1.value, f"{_title(evaluation)}, zero-shot", path)


def _title(evaluation: Evaluation) -> str:
    return f"{evaluation.corpus}, model {evaluation.facts['model']}, {evaluation.facts['where']}"


def _name(asked: Asked) -> str:
    return f"{asked.direction.arrow}, {asked.ranking} ({asked.queries:,} queries)"
