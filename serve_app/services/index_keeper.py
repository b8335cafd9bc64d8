"""Make, measure and tune the vector index. Decides by core.index_policy; knows nothing of writes, or of LanceDB.

Recall is measured on stored vectors as queries, of each modality against each, with the modality filter that search uses:
where a space has a modality gap, the lists nearest to a text hold texts alone, and a search for pictures that reads the usual
few lists finds none of the right ones. A calibrated search aims at the modality instead, and needs few lists; so each reach is
measured by itself.
"""

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from serve_app.core.index_policy import (
    COMPARED,
    RECALL_DEPTH,
    IndexPolicy,
    IndexStep,
    depth_of,
    kind_for,
    next_step,
    partitions_for,
    probe_ladder,
    recall_of,
    wants_index,
)
from serve_app.core.ranking import aim, centred_rows, directions
from serve_app.ports import MaintainedTable
from serve_app.types import Calibration, FloatMatrix, IndexKind, IndexReading, IndexState, Modality, Reach

log = logging.getLogger(__name__)

QUERIES = 48  # of each modality, that recall is measured with
NEAR = (Reach.AIMED, Reach.PLAIN)  # where the ten nearest are looked for
DEEP_QUERIES = 12  # where each has hundreds or thousands of answers
# Candidates per answer there: enough that a miss is the fault of the lists, which is what is measured there.
DEEP_REFINE = 5
TIMED_QUERIES = 5  # of each pair of modalities, that a search is timed with


@dataclass(frozen=True, slots=True)
class _Case:
    """Queries of one modality, what they look for, and the right answers; how many there are, at most."""

    queries: FloatMatrix
    modality: Modality
    depth: int
    nearest: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Found:
    """The cheapest readings that reach the wanted recall, or the best there are."""

    readings: Mapping[Reach, IndexReading]
    recall: float


class IndexKeeper:
    """One step at a time, in the background of the one writer."""

    def __init__(
        self, table: MaintainedTable, policy: IndexPolicy, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._table = table
        self._policy = policy
        self._clock = clock

    async def next_step(self, changed_rows: int) -> IndexStep:
        """What the index needs now; `changed_rows` were written or deleted since it was last measured."""
        info = await self._table.info()
        return next_step(
            self._policy,
            info.index,
            rows=sum(info.counts.values()),
            unindexed_rows=info.index.unindexed_rows if info.index else 0,
            changed_rows=changed_rows,
        )

    async def take(self, step: IndexStep) -> IndexState | None:
        """Do it; returns how the table is searched from now on. OPTIMIZE is the business of maintenance, not done here."""
        match step:
            case IndexStep.TIME_EXACT_SEARCH:
                return await self._time_exact_search()
            case IndexStep.BUILD:
                return await self._build(await self._exact_ms())
            case IndexStep.MEASURE:
                return await self._measure()
            case IndexStep.DROP:
                return await self._search_exactly("the table became small", await self._exact_ms())
            case _:
                return None

    async def _time_exact_search(self) -> IndexState:
        exact_ms = await self._exact_ms()
        if wants_index(self._policy, exact_ms):
            return await self._build(exact_ms)
        wanted = f"an index is made above {self._policy.exact_search_ms:g} ms"
        if self._policy.target_recall >= 1:
            wanted = "the wanted recall of 1 is that of exact search alone"
        return await self._search_exactly(f"exact search takes {exact_ms:.1f} ms; {wanted}", exact_ms)

    async def _build(self, exact_ms: float) -> IndexState:
        rows = await self._rows()
        partitions = partitions_for(rows)
        kind = kind_for((await self._table.info()).dimension or 0)
        started = self._clock()
        await self._table.build_index(kind, partitions)
        build_s = self._clock() - started
        log.info("built the vector index: %d rows in %d lists, %.1f s", rows, partitions, build_s)
        cases = await self._all_cases()
        found = await self._tune(cases, partitions)
        if found.recall < self._policy.target_recall:
            reason = f"an index of {partitions} lists reached a recall of {found.recall:.3f} only"
            return await self._search_exactly(reason, exact_ms)
        search_ms = await self._median_ms(cases[Reach.AIMED], found.readings[Reach.AIMED])
        if search_ms >= exact_ms:
            reason = f"an index needs {search_ms:.1f} ms for the wanted recall, exact search {exact_ms:.1f} ms"
            return await self._search_exactly(reason, exact_ms)
        return await self._store(
            IndexState(
                kind=kind,
                reason=f"exact search takes {exact_ms:.1f} ms",
                rows=rows,
                measured_at=datetime.now(UTC),
                recall=found.recall,
                search_ms=search_ms,
                exact_ms=exact_ms,
                partitions=partitions,
                readings=found.readings,
                built_rows=rows,
                build_s=build_s,
            )
        )

    async def _measure(self) -> IndexState:
        """Measure anew; tune where recall fell below the target, and build anew where tuning does not bring it back."""
        present = (await self._table.info()).index
        if present is None or present.readings is None:
            return await self._time_exact_search()
        cases = await self._all_cases()
        found = _Found(present.readings, await self._near_recall(cases, present.readings))
        if found.recall < self._policy.target_recall:
            found = await self._tune(cases, present.partitions)
        if found.recall < self._policy.target_recall:
            return await self._build(await self._exact_ms())
        return await self._store(
            replace(
                present,
                rows=await self._rows(),
                measured_at=datetime.now(UTC),
                recall=found.recall,
                search_ms=await self._median_ms(cases[Reach.AIMED], found.readings[Reach.AIMED]),
                exact_ms=await self._exact_ms(),
                readings=found.readings,
            )
        )

    async def _search_exactly(self, reason: str, exact_ms: float) -> IndexState:
        """Tell the readers first: none may look for an index that is gone."""
        state = IndexState(
            kind=IndexKind.EXACT,
            reason=reason,
            rows=await self._rows(),
            measured_at=datetime.now(UTC),
            recall=1.0,
            search_ms=exact_ms,
            exact_ms=exact_ms,
        )
        await self._store(state)
        await self._table.drop_index()
        return state

    async def _tune(self, cases: Mapping[Reach, Sequence[_Case]], partitions: int) -> _Found:
        """At each reach the fewest candidates that lose nothing to speak of, then the fewest lists that reach the target."""
        readings = {reach: await self._fewest_candidates(cases[reach], partitions) for reach in NEAR}
        # Filters leave the candidates as they are, and send them farther.
        readings |= dict.fromkeys(set(Reach) - readings.keys(), readings[Reach.AIMED])
        recall = await self._near_recall(cases, readings)
        if recall < self._policy.target_recall:
            return _Found(readings, recall)
        readings = {reach: await self._fewest_lists(cases[reach], reading) for reach, reading in readings.items()}
        return _Found(readings, await self._near_recall(cases, readings))

    async def _near_recall(
        self, cases: Mapping[Reach, Sequence[_Case]], readings: Mapping[Reach, IndexReading]
    ) -> float:
        """Among the ten nearest, of the worst case. What lies deeper only says how many lists a filter wants."""
        return min([await self._recall(cases[reach], readings[reach]) for reach in NEAR])

    async def _fewest_candidates(self, cases: Sequence[_Case], partitions: int) -> IndexReading:
        """Of all lists. Halfway to perfect: what comparing too few candidates loses, no number of lists brings back."""
        for compared in COMPARED:
            reading = IndexReading(partitions, compared)
            if await self._recall(cases, reading) >= (1 + self._policy.target_recall) / 2:
                break
        return reading

    async def _fewest_lists(self, cases: Sequence[_Case], of_all: IndexReading) -> IndexReading:
        """That reach the target; all where fewer do not."""
        ladder = probe_ladder(of_all.nprobes)
        low, high = 0, len(ladder) - 1
        while low < high:
            middle = (low + high) // 2
            fewer = replace(of_all, nprobes=ladder[middle])
            if await self._recall(cases, fewer) >= self._policy.target_recall:
                high = middle
            else:
                low = middle + 1
        return replace(of_all, nprobes=ladder[high])

    async def _recall(self, cases: Sequence[_Case], reading: IndexReading) -> float:
        """Of the worst case."""
        recalls = []
        for case in cases:
            enough = replace(reading, compared=max(reading.compared, DEEP_REFINE * case.depth))
            found = await self._table.probe(case.queries, case.modality, case.depth + 1, enough)
            recalls.append(recall_of(found, case.nearest))
        return min(recalls, default=1.0)

    async def _median_ms(self, cases: Sequence[_Case], reading: IndexReading | None) -> float:
        """Of one search, after one that warms the caches."""
        taken = []
        for case in cases:
            for query in [case.queries[:1], *np.split(case.queries[:TIMED_QUERIES], len(case.queries[:TIMED_QUERIES]))]:
                started = self._clock()
                await self._table.probe(query, case.modality, RECALL_DEPTH, reading)
                taken.append(self._clock() - started)
        return 1000 * statistics.median(taken) if taken else 0.0

    async def _exact_ms(self) -> float:
        return await self._median_ms(await self._cases(Reach.PLAIN, TIMED_QUERIES, answered=False), None)

    async def _all_cases(self) -> dict[Reach, list[_Case]]:
        return {reach: await self._cases(reach, QUERIES if reach in NEAR else DEEP_QUERIES) for reach in Reach}

    async def _cases(self, reach: Reach, queries: int, *, answered: bool = True) -> list[_Case]:
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
                found = await self._table.probe(vectors, wanted, depth + itself, None) if answered else []
                cases.append(_Case(vectors, wanted, depth, [ids[itself:] for ids in found]))
        return cases

    async def _store(self, state: IndexState) -> IndexState:
        await self._table.store_index(state)
        log.info(
            "searches now go by %s: %s (recall %.3f, %.1f ms)", state.kind, state.reason, state.recall, state.search_ms
        )
        return state

    async def _rows(self) -> int:
        return sum((await self._table.info()).counts.values())


def _aimed(rows: FloatMatrix, asked: Modality, wanted: Modality, calibration: Calibration) -> FloatMatrix:
    """Stored vectors as a calibrated search would ask with them."""
    aimed = aim(directions(centred_rows(rows, [asked] * len(rows), calibration)), wanted, calibration)
    # What is its own mean points nowhere.
    return np.where(aimed.any(axis=1, keepdims=True), aimed, rows)
