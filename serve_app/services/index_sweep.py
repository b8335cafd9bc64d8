"""What a vector index costs and gives on a corpus' own queries: recall against latency over the settings of its search.

Knows no corpus format and no storage. The queries look for one modality each, as the product's searches do.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serve_app.core.evaluation import gains_of, recall
from serve_app.core.index_policy import COMPARED, RECALL_DEPTH, kind_for, partitions_for, probe_ladder, recall_of
from serve_app.ports import MaintainedTable
from serve_app.types import FloatMatrix, IndexKind, IndexReading, Modality

WARMING = 3
TIMED = 60


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One setting. `reading` None: exact search. `nearest`: the share of the ten nearest rows that it finds; `recall`:
    recall@10 of the corpus. Latencies are those of one query alone."""

    reading: IndexReading | None
    nearest: float
    recall: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Of an index of `partitions` lists over `rows`; the exact search is the first point."""

    kind: IndexKind
    partitions: int
    rows: int
    modality: Modality
    queries: int
    build_s: float
    points: Sequence[SweepPoint]


async def sweep(
    table: MaintainedTable,
    vectors: FloatMatrix,
    modality: Modality,
    relevant: Sequence[Mapping[str, float]],
    *,
    partitions: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Sweep:
    """Build the index over the table, however small that is, and ask it by every setting of the policy's ladders.

    `vectors` [n, d] are the queries', `relevant` what answers each. The index stays; the table is the caller's to throw away.
    """
    info = await table.info()
    rows = sum(info.counts.values())
    lists = partitions or partitions_for(rows)
    kind = kind_for(info.dimension or 0)
    began = clock()
    await table.build_index(kind, lists)
    build_s = clock() - began
    nearest = await table.probe(vectors, modality, RECALL_DEPTH, None)
    # Beyond all rows of the modality there is nothing more to compare.
    enough = [each for at, each in enumerate(COMPARED) if at == 0 or COMPARED[at - 1] < info.counts[modality]]
    readings = [None, *(IndexReading(probes, compared) for compared in enough for probes in probe_ladder(lists))]
    points = []
    for reading in readings:
        found = await table.probe(vectors, modality, RECALL_DEPTH, reading)
        taken = await _latencies(table, vectors, modality, reading, clock)
        hits = recall(gains_of(found, relevant, RECALL_DEPTH), RECALL_DEPTH)
        points.append(
            SweepPoint(
                reading,
                recall_of(found, nearest),
                float(hits.mean()),
                1e3 * statistics.median(taken),
                1e3 * float(np.quantile(taken, 0.95)),
            )
        )
    return Sweep(kind, lists, rows, modality, len(vectors), build_s, points)


async def _latencies(
    table: MaintainedTable,
    vectors: FloatMatrix,
    modality: Modality,
    reading: IndexReading | None,
    clock: Callable[[], float],
) -> list[float]:
    """Seconds of single queries, after some that warm the caches."""
    taken = []
    for query in [*vectors[:WARMING], *vectors[:TIMED]]:
        began = clock()
        await table.probe(query[None], modality, RECALL_DEPTH, reading)
        taken.append(clock() - began)
    return taken[min(WARMING, len(vectors)) :]
