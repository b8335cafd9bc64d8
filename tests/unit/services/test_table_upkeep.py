"""Upkeep when it is asked for, and when storage fails or never answers: writers go on, and so does upkeep."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from serve_app.core.index_policy import IndexPolicy
from serve_app.errors import StorageUnavailable
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


async def calibrated_rows(table: MemoryTable) -> int:
    return (await table.calibration()).row_counts.get(Modality.TEXT, 0)


async def add(table: MemoryTable, upkeep: TableUpkeep, document_id: str) -> None:
    vector = np.eye(CARD.dimension, dtype=np.float32)[0]
    record = Record(document_id, Modality.TEXT, None, document_id, "0" * 64, {}, vector, CARD.fingerprint)
    await table.upsert([record], {}, NOW)
    upkeep.wrote({Modality.TEXT: 1}, touched=False)
    await upkeep.settled()


async def test_what_is_too_little_to_be_looked_after_is_when_it_is_asked_for() -> None:
    table, _, upkeep = await begun(stuck=0)
    upkeep._compact_every_commits = 1000
    upkeep.look()
    await upkeep.settled()
    assert (await calibrated_rows(table), table.begun) == (1, 0)
    await add(table, upkeep, "b")
    assert (await calibrated_rows(table), table.begun) == (1, 0)
    await asyncio.gather(upkeep.optimize(), upkeep.optimize())
    assert (await calibrated_rows(table), table.begun) == (2, 1)


async def test_who_asks_for_upkeep_hears_what_it_fails_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_upkeep, "HELD_S", 0.01)
    monkeypatch.setattr(table_upkeep, "STUCK_S", 0.05)
    table, _, upkeep = await begun(stuck=1)
    with pytest.raises(StorageUnavailable):
        await upkeep.optimize()
    await upkeep.optimize()
    assert table.begun == 2


async def test_who_asks_while_upkeep_fails_is_served_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_upkeep, "HELD_S", 0.01)
    monkeypatch.setattr(table_upkeep, "STUCK_S", 0.2)
    table, _, upkeep = await begun(stuck=1)
    upkeep.look()
    await asyncio.wait_for(table.beginning.wait(), 5)
    await asyncio.wait_for(upkeep.optimize(), 5)
    assert (table.begun, await calibrated_rows(table)) == (2, 1)
