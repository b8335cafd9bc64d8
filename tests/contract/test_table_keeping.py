"""What is kept of the table: snapshots on every storage, the fake too; then tables beside it, which LanceDB alone can switch."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import lancedb
import numpy as np
import pytest

from serve_app.adapters.lance_table import LanceTable
from serve_app.errors import (
    CrossmodalError,
    FingerprintMismatch,
    InvalidRequest,
    NotReady,
    SnapshotExists,
    SnapshotNotFound,
    StaleTable,
    TableConflict,
    TableNotFound,
)
from serve_app.ports import DocumentTable, TableKeeping
from serve_app.services.indexing import IndexingService
from serve_app.services.retrieval import RetrievalService
from serve_app.types import Calibration, Compare, ItemFailure, Modality, Operator, SearchPage, VectorQuery
from tests.contract.rows import ENCODER, MONDAY, TUESDAY, axis, ids_of, near, record, stored
from tests.emulators import Bucket
from tests.fakes.keeping import MemoryKeeping
from tests.fakes.table import MemoryTable

OTHER = replace(ENCODER, fingerprint="e" * 64, model="other")
HOUR = timedelta(hours=1)
AT_ONCE = timedelta(milliseconds=1)
Opened = Callable[..., LanceTable]


class Kept(NamedTuple):
    table: DocumentTable
    keeping: TableKeeping


@pytest.fixture(params=["local", "s3", "azure"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the same database each time, as another process would."""
    if request.param == "local":
        return lambda **settings: LanceTable(str(tmp_path), **settings)
    bucket: Bucket = request.getfixturevalue(request.param)
    uri = f"{bucket.uri}/{uuid4()}"
    return lambda **settings: LanceTable(uri, storage_options=bucket.options, **settings)


@pytest.fixture(params=["memory", "local", "s3", "azure"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    """A table with the texts `a` and `b`."""
    table: Any
    if request.param == "memory":
        table = MemoryTable()
        keeping: TableKeeping = MemoryKeeping(table)
    elif request.param == "local":
        table = LanceTable(str(tmp_path))
        keeping = table.keeping
    else:
        bucket: Bucket = request.getfixturevalue(request.param)
        table = LanceTable(f"{bucket.uri}/{uuid4()}", storage_options=bucket.options)
        keeping = table.keeping
    await table.create(ENCODER)
    await table.upsert([record("a"), record("b", axis(1), uri="s3://p/b.png")], {}, MONDAY)
    return Kept(table, keeping)


# --- snapshots ------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_the_table_as_it_was(kept: Kept) -> None:
    made = await kept.keeping.create_snapshot("before")
    await kept.table.upsert([record("a", axis(5), text="another"), record("c")], {"a": MONDAY}, TUESDAY)
    await kept.table.delete(["b"])
    then = await kept.table.at("before")
    assert [row and row.document.id for row in await then.get(["a", "b", "c"])] == ["a", "b", None]
    assert (await stored(then, "a")).document.text == "text of a"
    assert ids_of((await then.nearest(axis(1)[np.newaxis], Modality.TEXT, 5))[0]) == ["b", "a"]
    info = await then.info()
    assert (info.version, info.counts[Modality.TEXT]) == (made.table_version, 2)
    assert [row and row.document.id for row in await kept.table.get(["a", "b", "c"])] == ["a", None, "c"]


async def test_snapshots_are_told_with_what_they_hold(kept: Kept) -> None:
    assert await kept.keeping.snapshots() == []
    began = datetime.now(UTC)
    first = await kept.keeping.create_snapshot("first.1")
    await kept.table.delete(["a"])
    second = await kept.keeping.create_snapshot("Second_2")
    assert await kept.keeping.snapshots() == [first, second]
    assert (first.name, first.documents, first.fingerprint) == ("first.1", 2, ENCODER.fingerprint)
    assert (second.documents, second.table_version) == (1, (await kept.table.info()).version)
    assert began - timedelta(seconds=2) <= first.created_at <= second.created_at <= datetime.now(UTC)


async def test_a_name_is_taken_once_and_again_after_it_was_deleted(kept: Kept) -> None:
    await kept.keeping.create_snapshot("one")
    with pytest.raises(SnapshotExists, match="'one'"):
        await kept.keeping.create_snapshot("one")
    await kept.keeping.delete_snapshot("one")
    with pytest.raises(SnapshotNotFound):
        await kept.keeping.delete_snapshot("one")
    await kept.table.delete(["a"])
    assert (await kept.keeping.create_snapshot("one")).documents == 1
    assert await (await kept.table.at("one")).get(["a"]) == [None]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", ".hidden", "ü", "x" * 65, "2026-11-24", "20261124T10"])
async def test_a_name_that_could_be_something_else_is_refused(kept: Kept, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await kept.keeping.create_snapshot(name)


async def test_what_is_no_snapshot_cannot_be_restored_or_searched(kept: Kept) -> None:
    for asked in (kept.keeping.restore_snapshot("nobody"), kept.table.at("nobody")):
        with pytest.raises(SnapshotNotFound, match="'nobody'"):
            await asked


async def test_restoring_makes_a_new_version_and_keeps_the_history(kept: Kept) -> None:
    await kept.table.store_calibration(Calibration(3, {}, {Modality.TEXT: axis(2)}, {}))
    await kept.keeping.create_snapshot("good")
    await kept.table.upsert([record("a", text="spoilt"), record("c")], {"a": MONDAY}, TUESDAY)
    await kept.table.store_calibration(Calibration(4, {}, {}, {}))
    spoilt = (await kept.table.info()).version
    await kept.keeping.create_snapshot("spoilt")
    version = await kept.keeping.restore_snapshot("good")
    assert version > spoilt
    assert (await kept.table.info()).version == version
    assert (await stored(kept.table, "a")).document.text == "text of a"
    assert await kept.table.get(["c"]) == [None]
    assert (await kept.table.calibration()).version == 3
    assert (await stored(await kept.table.at("spoilt"), "a")).document.text == "spoilt"
    later = await kept.table.upsert([record("d")], {}, TUESDAY)
    assert later > version
    assert (await stored(kept.table, "d")).document.id == "d"


async def test_pictures_that_a_snapshot_points_to_are_named(kept: Kept) -> None:
    asked = ["s3://p/b.png", "s3://p/it's.png"]
    assert await kept.keeping.kept_uris(asked) == set()
    await kept.keeping.create_snapshot("with-b")
    await kept.table.delete(["b"])
    assert await kept.keeping.kept_uris(asked) == {"s3://p/b.png"}
    await kept.keeping.delete_snapshot("with-b")
    assert await kept.keeping.kept_uris(asked) == set()


async def test_nothing_can_be_kept_of_a_table_that_does_not_exist() -> None:
    with pytest.raises(NotReady):
        await MemoryKeeping(MemoryTable()).create_snapshot("early")


async def test_upkeep_prunes_around_snapshots_and_nothing_of_them(opened: Opened) -> None:
    table = opened()
    await table.create(ENCODER)
    for step in range(4):
        await table.upsert([record(f"{step}", near(0, 0.1 * step))], {}, MONDAY)
    await table.maintain(HOUR)  # makes the indexes, which the snapshot has then, too
    made = await table.keeping.create_snapshot("kept")
    for step in range(4, 8):
        await table.upsert([record(f"{step}", near(0, 0.1 * step))], {}, MONDAY)
    await table.delete(["0", "1", "2", "3"])
    for _ in range(2):
        await table.maintain(AT_ONCE)
    fresh = opened()
    assert ids_of((await (await fresh.at("kept")).nearest(axis(0)[np.newaxis], Modality.TEXT, 9))[0]) == list("0123")
    assert ids_of((await fresh.nearest(axis(0)[np.newaxis], Modality.TEXT, 9))[0]) == list("4567")
    lance = await _lance(table)
    versions = {each["version"] for each in await lance.list_versions()}
    assert made.table_version in versions
    assert len(versions) < 5
    version = await table.keeping.restore_snapshot("kept")
    assert ids_of((await fresh.nearest(axis(0)[np.newaxis], Modality.TEXT, 9))[0]) == list("0123")
    unindexed = {index.columns[0]: index.num_unindexed_rows for index in await lance.list_indices()}
    assert {column: unindexed[column] for column in ("id", "modality")} == {"id": 0, "modality": 0}
    assert await fresh.upsert([record("new")], {}, TUESDAY) > version
    await table.keeping.delete_snapshot("kept")
    await table.maintain(AT_ONCE)
    assert made.table_version not in {each["version"] for each in await lance.list_versions()}
    assert (await stored(table, "0")).document.id == "0"


async def test_a_time_whose_version_was_pruned_is_not_answered_by_an_older_snapshot(opened: Opened) -> None:
    table = opened()
    await table.create(ENCODER)
    await table.upsert([record("a")], {}, MONDAY)
    await table.keeping.create_snapshot("early")
    await table.upsert([record("a", text="later")], {"a": MONDAY}, TUESDAY)
    then = datetime.now(UTC)
    await asyncio.sleep(0.01)
    await table.upsert([record("a", text="latest")], {"a": MONDAY}, TUESDAY)
    assert (await stored(await table.at(then.isoformat()), "a")).document.text == "later"
    await table.maintain(AT_ONCE)
    with pytest.raises(SnapshotNotFound, match="not kept any more"):
        await opened().at(then.isoformat())


async def test_times_are_utc_whatever_the_machine_thinks(opened: Opened) -> None:
    table = opened()
    await table.create(ENCODER)
    await table.upsert([record("a")], {}, MONDAY)
    now = datetime.now(UTC)
    for written in (f"{now:%Y-%m-%dT%H:%M:%S.%f}", now.isoformat(), f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"):
        assert (await stored(await table.at(written), "a")).document.id == "a"
    with pytest.raises(SnapshotNotFound, match="nothing from as long ago"):
        await table.at((now - timedelta(minutes=5)).isoformat())


# --- tables beside --------------------------------------------------------------------------------------------------


async def test_a_table_is_built_beside_and_readers_follow_the_switch(opened: Opened) -> None:
    table, reader = opened(), opened()
    await table.create(ENCODER)
    old = await table.upsert([record("a")], {}, MONDAY)
    rebuilt = table.beside("documents.rebuilt")
    await rebuilt.create(ENCODER)
    await rebuilt.upsert([record("b"), record("c")], {}, TUESDAY)
    assert ids_of((await reader.nearest(axis(0)[np.newaxis], Modality.TEXT, 9))[0]) == ["a"]
    version = await table.keeping.use_table("documents.rebuilt")
    assert ids_of((await reader.nearest(axis(0)[np.newaxis], Modality.TEXT, 9))[0]) == ["b", "c"]
    assert await table.upsert([record("d")], {}, TUESDAY) > version > old
    assert (await reader.info()).counts[Modality.TEXT] == 3
    assert ids_of((await (await reader.at(None)).nearest(axis(0)[np.newaxis], Modality.TEXT, 9))[0]) == ["b", "c", "d"]


async def test_a_switch_that_is_bound_to_a_version_fails_after_a_write(opened: Opened) -> None:
    table, writer = opened(), opened()
    await table.create(ENCODER)
    await table.beside("documents.rebuilt").create(OTHER)
    seen = await table.keeping.version()
    await writer.upsert([record("a")], {}, MONDAY)
    with pytest.raises(TableConflict, match="by now"):
        await table.keeping.use_table("documents.rebuilt", seen)
    assert await table.keeping.use_table("documents.rebuilt", await table.keeping.version()) > seen
    assert (await opened().info()).fingerprint == OTHER.fingerprint


async def test_a_stale_reader_looks_for_the_table_of_an_encoder_that_it_does_not_know(opened: Opened) -> None:
    table, reader = opened(), opened(read_consistency=HOUR)
    await table.create(ENCODER)
    await table.beside("documents.other").create(OTHER)
    assert (await (await reader.at(None, ENCODER.fingerprint)).info()).fingerprint == ENCODER.fingerprint
    await table.keeping.use_table("documents.other")
    assert (await (await reader.at(None, OTHER.fingerprint)).info()).fingerprint == OTHER.fingerprint
    assert (await (await reader.at(None, ENCODER.fingerprint)).info()).fingerprint == ENCODER.fingerprint


async def test_versions_grow_through_every_switch_there_and_back(opened: Opened) -> None:
    table = opened()
    await table.create(ENCODER)
    await table.beside("documents.rebuilt").create(ENCODER)
    versions = [(await table.info()).version]
    for name in ("documents.rebuilt", "documents", "documents.rebuilt"):
        versions.append(await table.keeping.use_table(name))
        assert await table.keeping.use_table(name) == versions[-1]
        versions.append(await table.upsert([record("a")], {}, MONDAY))
    assert versions == sorted(set(versions))
    assert (await opened().info()).version == versions[-1]


async def test_a_stale_reader_that_needs_a_version_of_the_new_table_looks_there(opened: Opened) -> None:
    table, reader = opened(), opened(read_consistency=HOUR)
    await table.create(ENCODER)
    await table.beside("documents.rebuilt").create(ENCODER)
    assert (await reader.info()).version < 1_000_000
    await table.keeping.use_table("documents.rebuilt")
    version = await table.upsert([record("a")], {}, MONDAY)
    assert await reader.refresh(version) == version
    assert (await stored(reader, "a")).document.id == "a"


async def test_each_encoder_is_answered_by_the_table_that_was_last_in_service_for_it(opened: Opened) -> None:
    table, reader = opened(), opened()
    await table.create(ENCODER)
    await table.upsert([record("a")], {}, MONDAY)
    another = table.beside("documents.other")
    await another.create(OTHER)
    await another.upsert([record("b", fingerprint=OTHER.fingerprint)], {}, MONDAY)
    assert (await (await reader.at(None, OTHER.fingerprint)).info()).fingerprint == ENCODER.fingerprint
    await table.keeping.use_table("documents.other")
    assert (await reader.info()).fingerprint == OTHER.fingerprint
    for fingerprint, name in ((ENCODER.fingerprint, "a"), (OTHER.fingerprint, "b"), ("9" * 64, "b")):
        view = await reader.at(None, fingerprint)
        assert ids_of((await view.nearest(axis(0)[np.newaxis], Modality.TEXT, 9))[0]) == [name]
    with pytest.raises(StaleTable):
        await (await reader.at(None, ENCODER.fingerprint)).refresh((await reader.info()).version)


async def test_snapshots_and_times_of_the_table_before_are_still_read_and_not_restored(opened: Opened) -> None:
    table = opened()
    await table.create(ENCODER)
    await table.upsert([record("a")], {}, MONDAY)
    await table.keeping.create_snapshot("before")
    then = datetime.now(UTC)
    rebuilt = table.beside("documents.rebuilt")
    await rebuilt.create(ENCODER)
    await rebuilt.upsert([record("b")], {}, MONDAY)
    await table.keeping.use_table("documents.rebuilt")
    for as_of in ("before", then.isoformat()):
        assert [row and row.document.id for row in await (await table.at(as_of)).get(["a", "b"])] == ["a", None]
    with pytest.raises(SnapshotExists):
        await table.keeping.create_snapshot("before")
    with pytest.raises(TableConflict, match="table documents; take that into service first"):
        await table.keeping.restore_snapshot("before")
    assert await table.keeping.kept_uris(["s3://p/a.png"]) == set()


async def test_the_tables_are_told_and_only_what_nobody_needs_is_dropped(opened: Opened) -> None:
    table, hasty = opened(), opened(unread_for=AT_ONCE)
    await table.create(ENCODER)
    await table.upsert([record("a")], {}, MONDAY)
    await table.beside("documents.other").create(OTHER)
    await table.keeping.create_snapshot("kept")
    told = await table.keeping.tables()
    assert [(each.name, each.in_service, each.documents, each.model) for each in told] == [
        ("documents", True, 1, "demo (v1)"),
        ("documents.other", False, 0, "other (v1)"),
    ]
    assert told[0].since is not None
    assert told[1].since is None
    with pytest.raises(TableConflict, match="is in service"):
        await hasty.keeping.drop_table("documents")
    await table.keeping.use_table("documents.other")
    with pytest.raises(TableConflict, match="may still be read"):
        await table.keeping.drop_table("documents")
    with pytest.raises(TableConflict, match="snapshots kept"):
        await hasty.keeping.drop_table("documents")
    await table.keeping.delete_snapshot("kept")
    await hasty.keeping.drop_table("documents")
    assert [each.name for each in await table.keeping.tables()] == ["documents.other"]
    assert (await opened().info()).fingerprint == OTHER.fingerprint


@pytest.mark.parametrize("name", ["documents.nobody", "documents.service", "elsewhere", ""])
async def test_what_is_no_table_beside_is_not_found(opened: Opened, name: str) -> None:
    table = opened()
    await table.create(ENCODER)
    for asked in (table.keeping.use_table(name), table.keeping.drop_table(name)):
        with pytest.raises(TableNotFound):
            await asked


async def test_of_two_switches_at_once_one_wins_and_nothing_is_torn(opened: Opened) -> None:
    table, second = opened(), opened()
    await table.create(ENCODER)
    for name in ("documents.x", "documents.y"):
        await table.beside(name).create(ENCODER)
    results = await asyncio.gather(
        table.keeping.use_table("documents.x"), second.keeping.use_table("documents.y"), return_exceptions=True
    )
    assert all(isinstance(each, (int, CrossmodalError)) for each in results)
    served = {entry.name for entry in await opened().keeping.tables() if entry.in_service}
    assert len(served) == 1
    assert served <= {"documents.x", "documents.y"}


async def test_searches_go_on_through_switches_without_a_failure_or_a_mixed_answer(opened: Opened) -> None:
    """The two tables hold disjoint ids; every view must be of one of them, whole."""
    table, reader = opened(), opened()
    await table.create(ENCODER)
    await table.upsert([record(f"old-{step}", near(0, 0.1 * step)) for step in range(5)], {}, MONDAY)
    rebuilt = table.beside("documents.rebuilt")
    await rebuilt.create(ENCODER)
    await rebuilt.upsert([record(f"new-{step}", near(0, 0.1 * step)) for step in range(5)], {}, MONDAY)
    enough = asyncio.Event()
    seen: set[str] = set()
    searches = 0

    async def search() -> None:
        nonlocal searches
        while not enough.is_set():
            view = await reader.at(None, ENCODER.fingerprint)
            counts = (await view.info()).counts
            (page,) = await view.nearest(axis(0)[np.newaxis], Modality.TEXT, 9)
            (kind,) = {name.split("-")[0] for name in ids_of(page)}
            assert len(page) == counts[Modality.TEXT] == 5
            seen.add(kind)
            searches += 1

    readers = [asyncio.create_task(search()) for _ in range(4)]
    for name in ("documents.rebuilt", "documents") * 2:
        await asyncio.sleep(0.1)
        await table.keeping.use_table(name)
    await asyncio.sleep(0.1)
    enough.set()
    await asyncio.gather(*readers)
    assert seen == {"old", "new"}
    assert searches > 20


def asked(fingerprint: str, **changes: Any) -> VectorQuery:
    return replace(VectorQuery(axis(0), fingerprint, ((Modality.TEXT, 1.0),), tuple(Modality), limit=9), **changes)


def hits_of(answer: SearchPage | ItemFailure) -> list[str] | str:
    return answer.code if isinstance(answer, ItemFailure) else [hit.document.id for hit in answer.hits]


async def test_a_stale_retriever_finds_a_write_to_a_table_whose_switch_it_has_not_seen(opened: Opened) -> None:
    table, retriever = opened(), RetrievalService(opened(read_consistency=HOUR), candidates=10)
    await table.create(ENCODER)
    await table.beside("documents.rebuilt").create(ENCODER)
    assert hits_of((await retriever.search([asked(ENCODER.fingerprint)]))[0]) == []
    await table.keeping.use_table("documents.rebuilt")
    version = await table.upsert([record("a")], {}, MONDAY)
    queries = [asked(ENCODER.fingerprint, min_table_version=each) for each in (version, version + 1)]
    assert [hits_of(answer) for answer in await retriever.search(queries)] == [["a"], "stale_table"]


async def test_graphs_of_two_encoders_are_both_answered_right_through_the_change_of_model(opened: Opened) -> None:
    """Old queries go on to be answered by the old table, new ones by the new; the old encoder's writes are refused in words."""
    table = opened()
    retriever = RetrievalService(opened(), candidates=10)
    indexer = IndexingService(
        opened(),
        max_commit_documents=10,
        max_queued_documents=10,
        compact_every_commits=100,
        keep_versions=HOUR,
        calibration_sample=10,
        calibration_growth=0.2,
    )
    await indexer.prepare_table(ENCODER)
    await indexer.upsert([record("a")])
    another = table.beside("documents.other")
    await another.create(OTHER)
    await another.upsert([record("b", fingerprint=OTHER.fingerprint)], {}, MONDAY)
    queries = [asked(ENCODER.fingerprint), asked(OTHER.fingerprint)]
    assert [hits_of(answer) for answer in await retriever.search(queries)] == [["a"], "fingerprint_mismatch"]
    with pytest.raises(FingerprintMismatch, match=r"built with the encoder demo .* this graph runs other"):
        await indexer.prepare_table(OTHER)
    await table.keeping.use_table("documents.other")
    assert [hits_of(answer) for answer in await retriever.search(queries)] == [["a"], ["b"]]
    await indexer.prepare_table(OTHER)
    with pytest.raises(FingerprintMismatch, match=r"built with the encoder other .* this graph runs demo"):
        await indexer.prepare_table(ENCODER)
    old, new = await indexer.upsert([record("c"), record("d", fingerprint=OTHER.fingerprint)])
    assert isinstance(old, ItemFailure)
    assert "belongs to the encoder eeee" in old.message
    assert not isinstance(new, ItemFailure)
    await indexer.settled()


async def test_a_database_from_before_there_was_a_log_is_read_as_it_is(tmp_path: Path) -> None:
    writer = LanceTable(str(tmp_path))
    await writer.create(ENCODER)
    version = await writer.upsert([record("a")], {}, MONDAY)
    await (await lancedb.connect_async(str(tmp_path))).drop_table("documents.service")
    table = LanceTable(str(tmp_path))
    assert (await stored(table, "a")).document.id == "a"
    assert (await table.info()).version == version
    await table.create(ENCODER)
    assert [entry.name for entry in await table.keeping.tables() if entry.in_service] == ["documents"]
    assert (await table.info()).version == version


async def _lance(table: LanceTable) -> lancedb.AsyncTable:
    opened = await table._database.open("documents")
    assert opened is not None
    return opened.lance


async def test_a_named_table_is_itself_whatever_is_in_service(opened: Opened) -> None:
    table = opened()
    await table.create(ENCODER)
    await table.upsert([record("a"), record("b")], {}, MONDAY)
    rebuilt = table.named("documents.rebuilt")
    await rebuilt.create(OTHER)
    assert (await (await rebuilt.at(None, ENCODER.fingerprint)).info()).fingerprint == OTHER.fingerprint
    await table.keeping.use_table("documents.rebuilt")
    assert (await table.named("documents").head()).fingerprint == ENCODER.fingerprint
    with pytest.raises(InvalidRequest, match=r"begins with documents\."):
        table.named("others")


async def test_rows_that_bring_their_times_keep_them_and_are_told_by_them(opened: Opened) -> None:
    table = opened()
    await table.create(ENCODER)
    await table.upsert([record("a"), replace(record("b"), created_at=MONDAY, updated_at=MONDAY)], {}, TUESDAY)
    (row,) = [row for row in await table.get(["b"]) if row]
    assert (row.document.created_at, row.document.updated_at) == (MONDAY, MONDAY)
    marks = {
        name: int(time) async for names, times in table.row_marks() for name, time in zip(names, times, strict=True)
    }
    assert marks == {"a": int(TUESDAY.timestamp() * 1e6), "b": int(MONDAY.timestamp() * 1e6)}
    some = [names async for names, _ in table.row_marks(Compare("id", Operator.GT, "a"))]
    assert some == [["b"]]
