"""The keeper of the vector index, on a table whose index finds what it is told to, in the time that it is told to."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from serve_app.core.index_policy import IndexPolicy, IndexStep
from serve_app.core.ranking import estimate_calibration
from serve_app.core.vectors import unit
from serve_app.services.index_keeper import IndexKeeper
from serve_app.services.index_measuring import IndexMeasuring
from serve_app.services.table_upkeep import TableUpkeep
from serve_app.types import (
    EncoderCard,
    FloatMatrix,
    ImagePreprocessing,
    IndexKind,
    IndexReading,
    Modality,
    Reach,
    Record,
)
from tests.fakes.table import MemoryTable

DIMENSION = 8
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PREPROCESSING = ImagePreprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "shortest", 0)
ENCODER = EncoderCard("demo", "v1", "f" * 64, DIMENSION, 77, PREPROCESSING, "cpu", "float32", 100.0)
POLICY = IndexPolicy(target_recall=0.95, min_rows=100, exact_search_ms=20)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class IndexedTable(MemoryTable):
    """Its index finds pictures only where `lists_to_pictures` lists are read (more for plain texts), all from 100 candidates."""

    def __init__(
        self,
        clock: Clock,
        *,
        lists_to_pictures: int = 5,
        lists_to_pictures_from_texts: int = 0,
        exact_ms: float = 90,
        indexed_ms: float = 8,
    ) -> None:
        super().__init__()
        self.clock = clock
        self.lists_to_pictures = lists_to_pictures
        self.lists_to_pictures_from_texts = lists_to_pictures_from_texts
        self.exact_ms = exact_ms
        self.indexed_ms = indexed_ms
        self.built: list[int] = []
        self.dropped = 0
        self.maintained = 0

    async def build_index(self, kind: IndexKind, partitions: int) -> None:
        self.built.append(partitions)
        self.clock.now_s += 4
        await super().build_index(kind, partitions)

    async def drop_index(self) -> None:
        self.dropped += 1
        await super().drop_index()

    async def maintain(self, keep_versions: timedelta) -> None:
        self.maintained += 1
        await super().maintain(keep_versions)

    async def probe(
        self, vectors: FloatMatrix, modality: Modality, limit: int, reading: IndexReading | None
    ) -> list[list[str]]:
        self.clock.now_s += (self.exact_ms if reading is None else self.indexed_ms) / 1000
        found = await super().probe(vectors, modality, limit, reading)
        stored = {row.vector.tobytes() for row in self._rows.values() if row.document.modality is Modality.TEXT}
        plain = vectors[0].tobytes() in stored
        lists = max(self.lists_to_pictures, self.lists_to_pictures_from_texts if plain else 0)
        if reading is None or (reading.compared >= 100 and (modality is Modality.TEXT or reading.nprobes >= lists)):
            return found
        return [ids[: limit // 2] for ids in found]


def records(count: int, start: int = 0) -> list[Record]:
    random = np.random.default_rng(start)
    return [
        Record(
            id=f"{place:05}",
            modality=Modality.IMAGE if place % 2 else Modality.TEXT,
            uri=None,
            text=None,
            content_sha256="0" * 64,
            metadata={},
            vector=unit(random.normal(size=DIMENSION).astype(np.float32)),
            fingerprint=ENCODER.fingerprint,
        )
        for place in range(start, start + count)
    ]


async def filled(rows: int = 200, **given: Any) -> IndexedTable:
    table = IndexedTable(Clock(), **given)
    await table.create(ENCODER)
    await table.upsert(records(rows), {}, NOW)
    return table


def keeper_of(table: IndexedTable, policy: IndexPolicy = POLICY) -> IndexKeeper:
    return IndexKeeper(table, policy, clock=table.clock)


async def kept(table: IndexedTable, policy: IndexPolicy = POLICY, changed_rows: int = 0) -> IndexStep:
    """Take steps until there is nothing to do; returns the first."""
    keeper = keeper_of(table, policy)
    first = step = await keeper.next_step(changed_rows)
    while step is not IndexStep.NOTHING:
        await keeper.take(step)
        step = await keeper.next_step(0)
    return first


async def test_a_slow_table_gets_an_index_with_the_fewest_lists_that_reach_the_target() -> None:
    table = await filled()
    await kept(table)
    index = (await table.info()).index
    assert index is not None
    assert (index.kind, index.recall, index.partitions, index.build_s) == (IndexKind.IVF_SQ, 1.0, 8, pytest.approx(4))
    assert index.readings == dict.fromkeys(Reach, IndexReading(5, 100))
    assert (index.search_ms, index.exact_ms) == (pytest.approx(8), pytest.approx(90))
    assert (index.rows, index.built_rows, index.unindexed_rows) == (200, 200, 0)


async def test_a_search_that_aims_gets_by_with_fewer_lists_than_a_plain_one() -> None:
    table = await filled(lists_to_pictures=2, lists_to_pictures_from_texts=5)
    await table.store_calibration(
        estimate_calibration({each: await table.sample(each, 99) for each in Modality}, {}, 1)
    )
    await kept(table)
    index = (await table.info()).index
    assert index is not None
    assert index.readings is not None
    lists = {reach: reading.nprobes for reach, reading in index.readings.items()}
    assert lists == {Reach.AIMED: 2, Reach.FILTERED: 2, Reach.SPARSE: 2, Reach.PLAIN: 5}


async def test_a_table_that_is_searched_quickly_enough_gets_none_and_says_why() -> None:
    table = await filled(exact_ms=12)
    await kept(table)
    index = (await table.info()).index
    assert index is not None
    assert (index.kind, index.readings, index.recall) == (IndexKind.EXACT, None, 1.0)
    assert index.reason == "exact search takes 12.0 ms; an index is made above 20 ms"
    assert not table.built


async def test_a_small_table_is_not_even_timed() -> None:
    table = await filled(rows=50)
    assert await kept(table) is IndexStep.NOTHING
    assert (await table.info()).index is None


async def test_an_index_that_cannot_reach_the_target_is_dropped_and_the_reason_kept() -> None:
    table = await filled(lists_to_pictures=1000)
    await kept(table)
    index = (await table.info()).index
    assert index is not None
    assert (index.kind, index.readings) == (IndexKind.EXACT, None)
    assert index.reason.startswith("an index of 8 lists reached a recall of 0.4")
    assert table.dropped == 1


async def test_an_index_that_would_be_no_faster_is_dropped() -> None:
    table = await filled(indexed_ms=95)
    await kept(table)
    index = (await table.info()).index
    assert index is not None
    assert index.kind is IndexKind.EXACT
    assert "95.0 ms for the wanted recall" in index.reason


async def test_an_index_that_was_no_better_is_not_made_again_until_the_table_has_grown() -> None:
    table = await filled(indexed_ms=90)
    await kept(table)
    assert (len(table.built), table.dropped) == (1, 1)
    assert await kept(table, changed_rows=150) is IndexStep.TIME_EXACT_SEARCH
    index = (await table.info()).index
    assert index is not None
    assert (len(table.built), index.reason) == (1, "an index needs 90.0 ms for the wanted recall, exact search 90.0 ms")
    await table.upsert(records(200, start=1000), {}, NOW)
    assert await kept(table) is IndexStep.TIME_EXACT_SEARCH
    assert len(table.built) == 2


async def test_rows_that_go_while_recall_is_measured_are_not_taken_for_misses() -> None:
    table = await filled()
    frozen = await table.frozen()
    measuring = IndexMeasuring(frozen, POLICY.target_recall, clock=table.clock)
    cases = await measuring.all_cases()
    await table.delete([record.id for record in records(200)[::3]])
    assert (await measuring.tune(cases, partitions=8)).recall == 1.0


async def test_who_wants_everything_found_is_searched_exactly() -> None:
    table = await filled()
    await kept(table, replace(POLICY, target_recall=1.0))
    index = (await table.info()).index
    assert index is not None
    assert index.kind is IndexKind.EXACT
    assert not table.built


async def test_recall_that_fell_is_tuned_back_without_building_anew() -> None:
    table = await filled()
    await kept(table)
    table.lists_to_pictures = 7
    assert await kept(table, changed_rows=50) is IndexStep.MEASURE
    index = (await table.info()).index
    assert index is not None
    assert (index.readings, index.recall) == (dict.fromkeys(Reach, IndexReading(8, 100)), 1.0)
    assert table.built == [8]


async def test_recall_that_tuning_cannot_bring_back_has_the_index_built_anew() -> None:
    table = await filled()
    await kept(table)
    table.lists_to_pictures = 1000
    await kept(table, changed_rows=50)
    assert table.built == [8, 8]
    index = (await table.info()).index
    assert index is not None
    assert index.kind is IndexKind.EXACT


async def test_a_table_that_shrank_to_next_to_nothing_loses_its_index() -> None:
    table = await filled()
    await kept(table)
    await table.delete([record.id for record in records(170)])
    assert await kept(table) is IndexStep.DROP
    index = (await table.info()).index
    assert index is not None
    assert index.reason == "the table became small"


async def test_upkeep_takes_new_rows_into_the_index_and_builds_it_anew_when_the_table_doubled() -> None:
    table = await filled()
    await kept(table)
    upkeep = TableUpkeep(
        table,
        asyncio.Lock(),
        compact_every_commits=2,
        keep_versions=timedelta(hours=1),
        calibration_sample=10,
        calibration_growth=10.0,
        keeper=keeper_of(table),
    )
    await table.upsert(records(30, start=1000), {}, NOW)
    upkeep.wrote({Modality.TEXT: 15, Modality.IMAGE: 15}, touched=False)
    await upkeep.settled()
    index = (await table.info()).index
    assert index is not None
    assert (index.unindexed_rows, table.maintained) == (0, 1)
    await table.upsert(records(300, start=2000), {}, NOW)
    upkeep.look()
    await upkeep.settled()
    index = (await table.info()).index
    assert index is not None
    assert (index.built_rows, len(table.built)) == (530, 2)


async def test_a_start_maintains_the_table_once_however_often_it_is_looked_at() -> None:
    table = await filled(rows=50)
    upkeep = TableUpkeep(
        table,
        asyncio.Lock(),
        compact_every_commits=100,
        keep_versions=timedelta(hours=1),
        calibration_sample=10,
        calibration_growth=10.0,
        keeper=keeper_of(table),
    )
    for _ in range(3):
        upkeep.look()
        upkeep.look()
        await upkeep.settled()
    assert table.maintained == 1
