"""Two ways to search the same documents, compared query by query. Pure: knows no model and no table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

TOP = 10


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """Words, and the ids of the documents that answer them where somebody judged that."""

    text: str
    relevant: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchedSide:
    """What one side found for each query, best first, and how long it took to encode and to search, in milliseconds."""

    table: str
    model: str
    found: tuple[tuple[str, ...], ...]
    encode_ms: tuple[float, ...]
    search_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SideFigures:
    """`recall`: share of the judged documents among the first ten, mean over judged queries; None without any."""

    table: str
    model: str
    recall: float | None
    encode_p50_ms: float
    search_p50_ms: float
    search_p95_ms: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`overlap`: share of the first ten of one side that are among those of the other, mean over queries."""

    queries: int
    overlap: float
    before: SideFigures
    after: SideFigures


def compare(queries: Sequence[SampleQuery], before: SearchedSide, after: SearchedSide) -> Comparison:
    overlaps = [
        len(set(mine[:TOP]) & set(others[:TOP])) / max(1, min(TOP, max(len(mine), len(others))))
        for mine, others in zip(before.found, after.found, strict=True)
    ]
    return Comparison(
        queries=len(queries),
        overlap=float(np.mean(overlaps)) if overlaps else 1.0,
        before=_figures(queries, before),
        after=_figures(queries, after),
    )


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    return asdict(comparison)


def comparison_text(comparison: Comparison) -> str:
    """A small table for people."""
    lines = [f"{comparison.queries} queries, the same {comparison.overlap:.0%} of the first {TOP} results"]
    for name, side in (("before", comparison.before), ("after", comparison.after)):
        recall = "" if side.recall is None else f", recall@{TOP} {side.recall:.3f}"
        lines.append(
            f"  {name:6}  {side.model}: encode {side.encode_p50_ms:.1f} ms, search {side.search_p50_ms:.1f} ms "
            f"(p95 {side.search_p95_ms:.1f}){recall}"
        )
    return "\n".join(lines)


def _figures(queries: Sequence[SampleQuery], side: SearchedSide) -> SideFigures:
    recalls = [
        len(set(found[:TOP]) & set(query.relevant)) / min(TOP, len(set(query.relevant)))
        for query, found in zip(queries, side.found, strict=True)
        if query.relevant
    ]
    return SideFigures(
        table=side.table,
        model=side.model,
        recall=float(np.mean(recalls)) if recalls else None,
        encode_p50_ms=_percentile(side.encode_ms, 50),
        search_p50_ms=_percentile(side.search_ms, 50),
        search_p95_ms=_percentile(side.search_ms, 95),
    )


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else 0.0
