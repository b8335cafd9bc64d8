"""Keep the table calibrated, compact and indexed, behind the writers' backs. Knows nothing of documents.

Index builds and calibration never hold writers up: commits of the table are optimistic. Compaction loses to a writer that
meanwhile changes a row it moves, and leaves its work behind as garbage; so it runs beside writers that only insert, and holds
back those that update or delete.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from serve_app.core.index_policy import IndexStep, upkeep_wait_s
from serve_app.core.ranking import estimate_calibration, needs_calibration
from serve_app.core.usual_texts import ENOUGH_TEXTS
from serve_app.errors import CrossmodalError, StorageUnavailable
from serve_app.ports import MaintainedTable
from serve_app.services.index_keeper import IndexKeeper
from serve_app.types import FloatMatrix, Modality

log = logging.getLogger(__name__)

# A writer that updated or deleted within so many durations of a compaction is likely to do so during the next one.
LIKELY = 2.0
# While compaction has to wait for its turn, everything else is looked after so often.
LOOK_S = 2.0
# LanceDB's runtime is known to lose wake-ups: what it does may never end. Writers are held back, and upkeep waits, for no longer
# than this, or so many times what the last compaction took.
HELD_S, STUCK_S, BUILD_STUCK_S = 20.0, 3600.0, 6 * 3600.0
HELD_TIMES, STUCK_TIMES = 4.0, 20.0


class TableUpkeep:
    """`wrote` after each commit; everything else happens by itself. `writing`: the lock that the writer holds to commit."""

    def __init__(
        self,
        table: MaintainedTable,
        writing: asyncio.Lock,
        *,
        compact_every_commits: int,
        keep_versions: timedelta,
        calibration_sample: int,
        calibration_growth: float,
        keeper: IndexKeeper,
    ) -> None:
        self._table = table
        self._writing = writing
        self._compact_every_commits = compact_every_commits
        self._keep_versions = keep_versions
        self._calibration_sample = calibration_sample
        self._calibration_growth = calibration_growth
        self._keeper = keeper
        self.usual_texts: FloatMatrix | None = None  # stand in for texts while the table has hardly any
        self._counts: Mapping[Modality, int] = {}  # when it was last looked
        self._written: Counter[Modality] = Counter()  # since then
        # Since the last compaction. A start is as good as that many: what was declared anew waits for it.
        self._commits = compact_every_commits
        self._changed_rows = 0  # since the index was last measured
        self._compacted_at = -float("inf")
        self._compaction_s = 0.0
        self._kept_at = -float("inf")  # when the index was last built, or measured
        self._keeping_s = 0.0
        self._touched_at = -float("inf")  # when a row that was there was last updated or deleted
        self._lost = False  # whether the last compaction lost to a writer
        self._running: asyncio.Task[None] | None = None
        self._asked: asyncio.Future[None] | None = None  # whoever wants all of it done now waits for this

    def wrote(self, rows: Mapping[Modality, int], *, touched: bool) -> None:
        """A commit stored or deleted so many rows of each modality; `touched`: some of them were there before.

        Starts upkeep where there is something to do.
        """
        self._commits += 1
        if touched:
            self._touched_at = time.monotonic()
        self._written.update(rows)
        self._changed_rows += sum(rows.values())
        if self._due():
            self.look()

    def look(self) -> None:
        """Start upkeep, unless it is under way."""
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def settled(self) -> None:
        """Wait until upkeep has nothing to do."""
        if self._running is not None:
            await self._running

    async def optimize(self) -> None:
        """Calibrate over all rows, compact, and give the index what it needs, however little there is to do. Those who ask
        before it begins share it; who stops waiting ends nothing. Raises what upkeep fails with."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
        asked = self._asked
        self.look()
        await asyncio.shield(asked)

    def _due(self) -> bool:
        """Counting rows after every commit would cost as much as the commit: the changes tell whether it is worth it."""
        return (
            self._asked is not None
            or self._commits >= self._compact_every_commits
            or any(
                changed > self._calibration_growth * self._counts.get(modality, 0)
                for modality, changed in self._written.items()
            )
        )

    async def _run(self) -> None:
        goes_on = True
        while goes_on:
            try:
                goes_on = await self._turn()
            except CrossmodalError:
                # The documents are committed; upkeep is tried again after the next commit, or for who asked meanwhile.
                log.exception("upkeep of the table failed")
                goes_on = self._asked is not None

    async def _turn(self) -> bool:
        """Do what is most due; whether there may be more."""
        if self._asked is not None:
            asked, self._asked = self._asked, None
            await self._everything(asked)
            return True
        await self._calibrate()
        step = await self._keeper.next_step(self._changed_rows)
        scattered = step is IndexStep.OPTIMIZE or self._commits >= self._compact_every_commits
        wait_s = upkeep_wait_s(time.monotonic() - self._compacted_at, self._compaction_s) if scattered else 0.0
        if scattered and not wait_s:
            await self._compact()
        elif step not in {IndexStep.NOTHING, IndexStep.OPTIMIZE} and not upkeep_wait_s(
            time.monotonic() - self._kept_at, self._keeping_s
        ):
            await self._keep_index(step)
        elif scattered:
            await asyncio.sleep(min(wait_s, LOOK_S))
        else:
            return self._due()
        return True

    async def _everything(self, asked: asyncio.Future[None]) -> None:
        try:
            await self._calibrate(anew=True)
            await self._compact()
            for _ in IndexStep:  # building measures, so one after another each is needed once at most
                step = await self._keeper.next_step(self._changed_rows)
                if step in {IndexStep.NOTHING, IndexStep.OPTIMIZE}:
                    break
                await self._keep_index(step)
        except CrossmodalError as error:
            asked.set_exception(error)
            raise
        except BaseException:
            asked.cancel()
            raise
        asked.set_result(None)

    async def _keep_index(self, step: IndexStep) -> None:
        self._changed_rows, started = 0, time.monotonic()
        await _bounded(asyncio.create_task(self._keeper.take(step)), BUILD_STUCK_S)
        self._kept_at = time.monotonic()
        self._keeping_s = self._kept_at - started

    async def _calibrate(self, *, anew: bool = False) -> None:
        """If a modality grew or shrank enough; `anew`: however little it did."""
        self._written.clear()
        self._counts = (await self._table.info()).counts
        present = await self._table.calibration()
        unknown_texts = (
            self.usual_texts is not None and any(self._counts.values()) and Modality.TEXT not in present.means
        )
        is_due = needs_calibration(present, self._counts, self._calibration_growth)
        if is_due or unknown_texts or (anew and any(self._counts.values())):
            samples = {each: await self._table.sample(each, self._calibration_sample) for each in Modality}
            if self.usual_texts is not None and len(samples[Modality.TEXT]) < ENOUGH_TEXTS:
                texts = samples[Modality.TEXT].reshape(-1, self.usual_texts.shape[1])
                samples[Modality.TEXT] = np.concatenate([texts, self.usual_texts])
            await self._table.store_calibration(estimate_calibration(samples, self._counts, present.version + 1))

    async def _compact(self) -> None:
        commits, started = self._commits, time.monotonic()
        try:
            await _bounded(await self._maintaining(), max(STUCK_S, STUCK_TIMES * self._compaction_s))
        except CrossmodalError:
            self._lost = True
            raise
        self._lost = False
        self._commits -= commits
        self._compacted_at = time.monotonic()
        self._compaction_s = self._compacted_at - started

    async def _maintaining(self) -> asyncio.Task[None]:
        """Compaction under way; or at its end, if it would probably have lost to writers, which were held back meanwhile."""
        likely = time.monotonic() - self._touched_at < LIKELY * self._compaction_s
        if not (self._lost or likely):
            return asyncio.create_task(self._table.maintain(self._keep_versions))
        async with self._writing:
            work = asyncio.create_task(self._table.maintain(self._keep_versions))
            await asyncio.wait({work}, timeout=max(HELD_S, HELD_TIMES * self._compaction_s))
        return work


async def _bounded(work: asyncio.Task[Any], limit_s: float) -> None:
    """Wait for it. Raises StorageUnavailable if it takes longer."""
    try:
        await asyncio.wait_for(work, limit_s)
    except TimeoutError as error:
        raise StorageUnavailable(f"upkeep did not get through within {limit_s:,.0f} s, and is given up") from error
