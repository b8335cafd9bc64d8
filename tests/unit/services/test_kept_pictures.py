"""Pictures go with their documents, and never before: on an in-memory table and a store that knows how old each picture is."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from serve_app.adapters.lance_table import LanceTable
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.services.indexing import IndexingService
from serve_app.services.kept_pictures import MOST_FREED, PARTS, KeptPictures
from serve_app.types import Compare, EncoderCard, ImagePreprocessing, Modality, Operator, Orphans, Record
from tests.fakes.table import MemoryTable

PREPROCESSING = ImagePreprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "shortest", 0)
ENCODER = EncoderCard("demo", "v1", "f" * 64, 4, 77, PREPROCESSING, "cpu", "float32", 100.0)
OLD, YOUNG = timedelta(hours=2), timedelta(minutes=5)


@dataclass
class AgedStore:
    """Pictures by URI, with their age; all under kept://."""

    ages: dict[str, timedelta] = field(default_factory=dict)

    def owns(self, uri: str) -> bool:
        return uri.startswith("kept://")

    async def remove(self, uri: str, older_than: timedelta) -> int:
        if self.ages.get(uri, timedelta(0)) < older_than:
            return 0
        del self.ages[uri]
        return 10

    async def stored(self, older_than: timedelta, part: str) -> AsyncIterator[dict[str, int]]:
        for uri in [each for each, age in self.ages.items() if age >= older_than and part == "ab"]:
            yield {uri: 10}


def picture(document_id: str, uri: str) -> Record:
    vector = np.array([1, 0, 0, 0], np.float32)
    return Record(document_id, Modality.IMAGE, uri, None, uri.rjust(64, "0"), {}, vector, ENCODER.fingerprint)


@dataclass
class System:
    table: MemoryTable
    store: AgedStore
    indexing: IndexingService


@pytest.fixture
async def system() -> System:
    """Three documents of two old pictures and one that lies elsewhere."""
    table, store = MemoryTable(), AgedStore({"kept://a": OLD, "kept://b": OLD})
    indexing = IndexingService(
        table,
        max_commit_documents=64,
        max_queued_documents=1000,
        compact_every_commits=100,
        keep_versions=timedelta(hours=1),
        calibration_sample=100,
        calibration_growth=0.2,
        pictures=KeptPictures(table, store),
    )
    await indexing.prepare_table(ENCODER)
    documents = {"1": "kept://a", "2": "kept://a", "3": "kept://b", "4": "https://elsewhere/c.png"}
    await indexing.upsert([picture(each, uri) for each, uri in documents.items()])
    await indexing.settled()
    return System(table, store, indexing)


async def test_a_picture_goes_with_the_last_document_that_points_to_it(system: System) -> None:
    await system.indexing.delete(["1"])
    await system.indexing.settled()
    assert "kept://a" in system.store.ages
    await system.indexing.delete(["2", "4"])
    await system.indexing.settled()
    assert set(system.store.ages) == {"kept://b"}


async def test_a_picture_goes_when_its_document_gets_another(system: System) -> None:
    system.store.ages["kept://new"] = YOUNG
    await system.indexing.upsert([picture("3", "kept://new")])
    await system.indexing.settled()
    assert set(system.store.ages) == {"kept://a", "kept://new"}


async def test_a_picture_that_was_put_again_lately_stays_for_the_document_that_is_under_way(system: System) -> None:
    system.store.ages["kept://b"] = YOUNG
    await system.indexing.delete(["3"])
    await system.indexing.settled()
    assert "kept://b" in system.store.ages


async def test_a_picture_that_a_snapshot_points_to_stays(system: System) -> None:
    system.table.snapshots["before"] = system.table.version
    await system.indexing.delete(["3"])
    await system.indexing.settled()
    assert "kept://b" in system.store.ages


async def test_orphans_are_counted_first_and_removed_only_when_told(system: System) -> None:
    system.store.ages |= {"kept://lost": OLD, "kept://under-way": YOUNG}
    assert await system.indexing.orphans(remove=False) == Orphans(1, 10, removed=0, removed_bytes=0)
    assert "kept://lost" in system.store.ages
    assert await system.indexing.orphans(remove=True) == Orphans(1, 10, removed=1, removed_bytes=10)
    assert set(system.store.ages) == {"kept://a", "kept://b", "kept://under-way"}


async def test_pictures_go_with_what_a_filter_deletes(system: System) -> None:
    await system.indexing.delete_matching(Compare("id", Operator.IN, ("1", "3")))
    await system.indexing.settled()
    assert set(system.store.ages) == {"kept://a"}  # "2" points to it


async def test_where_too_many_pictures_are_freed_to_remember_the_whole_store_is_gone_through(system: System) -> None:
    system.store.ages["kept://lost"] = OLD
    pictures = KeptPictures(system.table, system.store)
    pictures.freed(f"kept://gone/{each}" for each in range(MOST_FREED))
    await pictures.settled()
    assert set(system.store.ages) == {"kept://a", "kept://b"}


async def test_a_large_store_is_gone_through_part_by_part(system: System) -> None:
    system.store.ages["kept://lost"] = OLD
    now_s = iter(range(0, 10**6, 10))
    pictures = KeptPictures(system.table, system.store, clock=lambda: next(now_s))
    found = [await pictures.orphans(remove=False)]
    while found[-1].next_after is not None:
        found.append(await pictures.orphans(remove=False, after=found[-1].next_after))
    assert [each.next_after for each in found] == [*PARTS[:-1], None]
    assert sum(each.pictures for each in found) == 1


async def test_orphans_of_a_folder_are_found_and_removed(tmp_path: Path) -> None:
    table, store = LanceTable(str(tmp_path / "table")), ObstoreObjectStore(str(tmp_path / "pictures"))
    await table.create(ENCODER)
    used, lost, _young = [await store.put(each * 64, "image/png", b"picture") for each in "1f2"]
    for uri in (used, lost):
        os.utime(uri.removeprefix("file://"), (0, 0))
    await table.upsert([picture("1", used)], {}, datetime.now(UTC))
    pictures = KeptPictures(table, store)
    assert await pictures.orphans(remove=False) == Orphans(1, 7, 0, 0)
    assert await pictures.orphans(remove=True) == Orphans(1, 7, 1, 7)
    assert await table.uris_matching(None, 10) == [used]
    assert sorted(path.name[0] for path in (tmp_path / "pictures").rglob("*.png")) == ["1", "2"]
