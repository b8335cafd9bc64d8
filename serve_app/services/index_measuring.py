"""Measure the vector index of a table, and find how it is best asked. Writes nothing; knows nothing of when that is due.

Recall is measured on stored vectors as queries, of each modality against each, with the modality filter that search uses:
where a space has a modality gap, the lists nearest to a text hold texts alone, and a search for pictures that reads the usual
few lists finds none of the right ones. A calibrated search aims at the modality instead, and needs few lists; so each reach is
measured by itself. All of it is asked of one version of the table: rows that come and go between a question and its answer
would pass for misses of the index.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from serve_app.core.index_policy import COMPARED, RECALL_DEPTH, depth_of, probe_ladder, recall_of
from serve_app.core.ranking import aim, centred_rows, directions
from serve_app.ports import MaintainedTable
from serve_app.types import Calibration, FloatMatrix, IndexReading, Modality, Reach

QUERIES = 48  # of each modality, that recall is measured with
NEAR = (Reach.AIMED, Reach.PLAIN)  # where the ten nearest are looked for
DEEP_QUERIES = 12  # where each has hundreds or thousands of answers
# Candidates per answer there: enough that a miss is the fault of the lists, which is what is measured there.
DEEP_REFINE = 5
ASKED_TOGETHER = 4
TIMED_QUERIES = 5  # of each pair of modalities, that a search is timed with


@dataclass(frozen=True, slots=True)
class Case:
    """Queries of one modality, what they look for, and the right answers; how many there are, at most."""

    queries: FloatMatrix
    modality: Modality
    depth: int
    nearest: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Found:
    """The cheapest readings that reach the wanted recall, or the best there are."""

    readings: Mapping[Reach, IndexReading]
    recall: float


class IndexMeasuring:
    """Of one version of a table: `frozen` is what MaintainedTable.frozen gave."""

    def __init__(
        self, frozen: MaintainedTable, target_recall: float, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._table = frozen
        self._target_recall = target_recall
        self._clock = clock

    async def tune(self, cases: Mapping[Reach, Sequence[Case]], partitions: int) -> Found:
        """At each reach the fewest candidates that lose nothing to speak of, then the fewest lists that reach the target."""
        readings = {reach: await self._fewest_candidates(cases[reach], partitions) for reach in NEAR}
        # Filters leave the candidates as they are, and send them farther.
        readings |= dict.fromkeys(set(Reach) - readings.keys(), readings[Reach.AIMED])
        recall = await self.near_recall(cases, readings)
        if recall < self._target_recall:
            return Found(readings, recall)
        readings = {reach: await self._fewest_lists(cases[reach], reading) for reach, reading in readings.items()}
        return Found(readings, await self.near_recall(cases, readings))

    async def near_recall(self, cases: Mapping[Reach, Sequence[Case]], readings: Mapping[Reach, IndexReading]) -> float:
        """Among the ten nearest, of the worst case. What lies deeper only says how many lists a filter wants."""
        return min([await self._recall(cases[reach], readings[reach]) for reach in NEAR])

    async def _fewest_candidates(self, cases: Sequence[Case], partitions: int) -> IndexReading:
        """Of all lists. Halfway to perfect: what comparing too few candidates loses, no number of lists brings back."""
        for compared in COMPARED:
            reading = IndexReading(partitions, compared)
            if await self._recall(cases, reading) >= (1 + self._target_recall) / 2:
                break
        return reading

    async def _fewest_lists(self, cases: Sequence[Case], of_all: IndexReading) -> IndexReading:
        """That reach the target; all where fewer do not."""
        ladder = probe_ladder(of_all.nprobes)
        low, high = 0, len(ladder) - 1
        while low < high:
            middle = (low + high) // 2
            fewer = replace(of_all, nprobes=ladder[middle])
            if await self._recall(cases, fewer) >= self._target_recall:
                high = middle
            else:
                low = middle + 1
        return replace(of_all, nprobes=ladder[high])

    async def _recall(self, cases: Sequence[Case], reading: IndexReading) -> float:
        """Of the worst case."""
        recalls = []
        for case in cases:
            enough = replace(reading, compared=max(reading.compared, DEEP_REFINE * case.depth))
            found = await self._probe(case.queries, case.modality, case.depth + 1, enough)
            recalls.append(recall_of(found, case.nearest))
        return min(recalls, default=1.0)

    async def _probe(
        self, queries: FloatMatrix, modality: Modality, limit: int, reading: IndexReading | None
    ) -> list[list[str]]:
        """A few at a time: asked all at once, they would fill the queue in which the writes of this process wait too."""
        found = []
        for start in range(0, len(queries), ASKED_TOGETHER):
            found += await self._table.probe(queries[start : start + ASKED_TOGETHER], modality, limit, reading)
        return found

    async def median_ms(self, cases: Sequence[Case], reading: IndexReading | None) -> float:
        """Of one search, after one that warms the caches."""
        taken = []
        for case in cases:
            for query in [case.queries[:1], *np.split(case.queries[:TIMED_QUERIES], len(case.queries[:TIMED_QUERIES]))]:
                started = self._clock()
                await self._table.probe(query, case.modality, RECALL_DEPTH, reading)
                taken.append(self._clock() - started)
        return 1000 * statistics.median(taken) if taken else 0.0

    async def exact_ms(self) -> float:
        return await self.median_ms(await self._cases(Reach.PLAIN, TIMED_QUERIES, answered=False), None)

    async def all_cases(self) -> dict[Reach, list[Case]]:
        return {reach: await self._cases(reach, QUERIES if reach in NEAR else DEEP_QUERIES) for reach in Reach}

    async def _cases(self, reach: Reach, queries: int, *, answered: bool = True) -> list[Case]:
        samples = {modality: await self._table.sample(modality, queries) for modality in Modality}
        present = [modality for modality, rows in samples.items() if len(rows)]
        counts = (await self._table.info()).counts
        calibration = await self._table.calibration()
        cases = []
        for asked in present:
            for wanted in present:
                rows = samples[asked]
                vectors = rows if reach is Reach.PLAIN else _aimed(rows, asked, wanted, calibration)
                depth = depth_of(reach, counts[wanted])
                # A stored vector is its own nearest row: it would be found by any index, and counts for nothing.
                itself = int(asked is wanted)
                found = await self._probe(vectors, wanted, depth + itself, None) if answered else []
                cases.append(Case(vectors, wanted, depth, [ids[itself:] for ids in found]))
        return cases


def _aimed(rows: FloatMatrix, asked: Modality, wanted: Modality, calibration: Calibration) -> FloatMatrix:
    """Stored vectors as a calibrated search would ask with them."""
    aimed = aim(directions(centred_rows(rows, [asked] * len(rows), calibration)), wanted, calibration)
    # What is its own mean points nowhere.
    return np.where(aimed.any(axis=1, keepdims=True), aimed, rows)
