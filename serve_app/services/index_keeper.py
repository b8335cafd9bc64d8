"""Make the vector index, and decide how the table is searched by it. Decides by core.index_policy, on what index_measuring
measures; knows nothing of writes, or of LanceDB.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from serve_app.core.index_policy import (
    IndexPolicy,
    IndexStep,
    given_up,
    kind_for,
    next_step,
    partitions_for,
    wants_index,
)
from serve_app.ports import MaintainedTable
from serve_app.services.index_measuring import Found, IndexMeasuring
from serve_app.types import IndexKind, IndexState, Reach

log = logging.getLogger(__name__)


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
                return await self._build(await (await self._measuring()).exact_ms())
            case IndexStep.MEASURE:
                return await self._measure()
            case IndexStep.DROP:
                return await self._search_exactly("the table became small", await (await self._measuring()).exact_ms())
            case _:
                return None

    async def _time_exact_search(self) -> IndexState:
        exact_ms = await (await self._measuring()).exact_ms()
        present = (await self._table.info()).index
        if present is not None and given_up(present, await self._rows()):
            return await self._search_exactly(present.reason, exact_ms, tried_rows=present.built_rows)
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
        measuring = await self._measuring()
        cases = await measuring.all_cases()
        found = await measuring.tune(cases, partitions)
        if found.recall < self._policy.target_recall:
            reason = f"an index of {partitions} lists reached a recall of {found.recall:.3f} only"
            return await self._search_exactly(reason, exact_ms, tried_rows=rows)
        search_ms = await measuring.median_ms(cases[Reach.AIMED], found.readings[Reach.AIMED])
        if search_ms >= exact_ms:
            reason = f"an index needs {search_ms:.1f} ms for the wanted recall, exact search {exact_ms:.1f} ms"
            return await self._search_exactly(reason, exact_ms, tried_rows=rows)
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
        measuring = await self._measuring()
        cases = await measuring.all_cases()
        found = Found(present.readings, await measuring.near_recall(cases, present.readings))
        if found.recall < self._policy.target_recall:
            found = await measuring.tune(cases, present.partitions)
        if found.recall < self._policy.target_recall:
            return await self._build(await measuring.exact_ms())
        return await self._store(
            replace(
                present,
                rows=await self._rows(),
                measured_at=datetime.now(UTC),
                recall=found.recall,
                search_ms=await measuring.median_ms(cases[Reach.AIMED], found.readings[Reach.AIMED]),
                exact_ms=await measuring.exact_ms(),
                readings=found.readings,
            )
        )

    async def _search_exactly(self, reason: str, exact_ms: float, *, tried_rows: int = 0) -> IndexState:
        """Tell the readers first: none may look for an index that is gone. `tried_rows`: of the table when one was made."""
        state = IndexState(
            kind=IndexKind.EXACT,
            reason=reason,
            rows=await self._rows(),
            measured_at=datetime.now(UTC),
            recall=1.0,
            search_ms=exact_ms,
            exact_ms=exact_ms,
            built_rows=tried_rows,
        )
        await self._store(state)
        await self._table.drop_index()
        return state

    async def _store(self, state: IndexState) -> IndexState:
        await self._table.store_index(state)
        log.info(
            "searches now go by %s: %s (recall %.3f, %.1f ms)", state.kind, state.reason, state.recall, state.search_ms
        )
        return state

    async def _measuring(self) -> IndexMeasuring:
        return IndexMeasuring(await self._table.frozen(), self._policy.target_recall, clock=self._clock)

    async def _rows(self) -> int:
        return sum((await self._table.info()).counts.values())
