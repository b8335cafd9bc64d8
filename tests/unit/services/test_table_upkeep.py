"""Upkeep whose storage never answers: writers go on, and so does upkeep."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from serve_app.core.index_policy import IndexPolicy
from serve_app.services import table_upkeep
from serve_app.services.index_keeper import IndexKeeper
from serve_app.services.table_upkeep import TableUpkeep
from serve_app.types import Modality, Record
from tests.fakes.parts import CARD
from tests.fakes.table import MemoryTable

NOW = datetime(2026, 11, 26, tzinfo=UTC)


class Stuck(MemoryTable):
    """One whose first compactions never end."""

    def __init__(self, stuck: int) -> None:
        super().__init__()
        self.stuck = stuck
        self.begun = 0
        self.beginning = asyncio.Event()

    async def maintain(self, keep_versions: timedelta) -> None:
        self.begun += 1
        self.beginning.set()
        if self.begun <= self.stuck:
            await asyncio.Event().wait()
        await super().maintain(keep_versions)


async def begun(stuck: int) -> tuple[Stuck, asyncio.Lock, TableUpkeep]:
    """A table whose last writer replaced a row just now, so that the next compaction holds writers back."""
    table, writing = Stuck(stuck), asyncio.Lock()
    await table.create(CARD)
    vector = np.eye(CARD.dimension, dtype=np.float32)[0]
    record = Record("a", Modality.TEXT, None, "a boat", "0" * 64, {}, vector, CARD.fingerprint)
    await table.upsert([record], {}, NOW)
    upkeep = TableUpkeep(
        table,
        writing,
        compact_every_commits=1,
        keep_versions=timedelta(hours=1),
        calibration_sample=10,
        calibration_growth=10.0,
        keeper=IndexKeeper(table, IndexPolicy()),
    )
    upkeep._lost = True  # as after a compaction that lost to a writer
    return table, writing, upkeep


async def test_writers_are_held_back_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_upkeep, "HELD_S", 0.05)
    table, writing, upkeep = await begun(stuck=1)
    upkeep.look()
    await asyncio.wait_for(table.beginning.wait(), 5)
    assert writing.locked()
    async with asyncio.timeout(5), writing:
        pass


async def test_what_never_ends_is_given_up_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(table_upkeep, "HELD_S", 0.01)
    monkeypatch.setattr(table_upkeep, "STUCK_S", 0.05)
    table, writing, upkeep = await begun(stuck=1)
    upkeep.look()
    await upkeep.settled()
    assert "did not get through" in caplog.text
    assert not writing.locked()
    upkeep.wrote({Modality.TEXT: 1}, touched=False)
    await upkeep.settled()
    assert table.begun == 2
