"""What any DocumentTable promises, held against the fake and the real one; then what only the real one can break."""

import asyncio
import multiprocessing
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from serve_app.adapters.lance_table import LanceTable
from serve_app.errors import (
    CrossmodalError,
    FingerprintMismatch,
    InvalidDocumentId,
    InvalidRequest,
    InvalidVector,
    NotReady,
    SnapshotNotFound,
    StaleTable,
    StorageUnavailable,
)
from serve_app.ports import DocumentTable, MaintainedTable
from serve_app.types import (
    Calibration,
    Compare,
    FloatVector,
    IndexKind,
    IndexReading,
    IndexState,
    Modality,
    Not,
    Operator,
    PairScores,
    Reach,
    Record,
    TableHead,
)
from tests.contract.rows import DIMENSION, ENCODER, MONDAY, TUESDAY, axis, ids_of, near, record, stored
from tests.emulators import Bucket
from tests.fakes.table import MemoryTable

HOSTILE_IDS = ["a'b\"; --", "' OR '1'='1", "100%_\\", "日本語 ☃ é", "line\nbreak", "${id}", "x" * 512]


@pytest.fixture(params=["memory", "lance", "s3", "azure"])
def absent(request: pytest.FixtureRequest, tmp_path: Path) -> MaintainedTable:
    """A table that nobody has created yet."""
    if request.param == "memory":
        return MemoryTable()
    if request.param == "lance":
        return LanceTable(str(tmp_path / "db"))
    bucket: Bucket = request.getfixturevalue(request.param)
    return LanceTable(f"{bucket.uri}/{uuid4()}", storage_options=bucket.options)


@pytest.fixture
async def table(absent: MaintainedTable) -> MaintainedTable:
    await absent.create(ENCODER)
    return absent


@pytest.fixture
async def folder(tmp_path: Path) -> str:
    """A LanceDB database with an empty table."""
    await LanceTable(str(tmp_path)).create(ENCODER)
    return str(tmp_path)


# --- a table that is not there --------------------------------------------------------------------------------------


async def test_a_table_that_does_not_exist_is_empty_and_of_version_0(absent: DocumentTable) -> None:
    info = await absent.info()
    assert (info.version, info.fingerprint, info.model, info.dimension) == (0, None, None, None)
    assert info.counts == dict.fromkeys(Modality, 0)
    assert await absent.get(["a", "b"]) == [None, None]
    assert await absent.nearest(np.stack([axis(0), axis(1)]), Modality.TEXT, 3) == [[], []]
    assert len(await absent.sample(Modality.TEXT, 3)) == 0
    assert (await absent.calibration()).version == 0
    assert await absent.delete(["a"]) == 0


async def test_nothing_can_be_written_to_a_table_that_does_not_exist(absent: DocumentTable) -> None:
    with pytest.raises(NotReady):
        await absent.upsert([record("a")], {}, MONDAY)
    with pytest.raises(NotReady):
        await absent.store_calibration(Calibration(1, {}, {}, {}))


async def test_creating_it_says_to_which_encoder_it_belongs(absent: DocumentTable) -> None:
    info = await absent.create(ENCODER)
    assert (info.fingerprint, info.model, info.dimension) == ("f" * 64, "demo (v1)", DIMENSION)
    assert info.version >= 1
    assert info == await absent.info()


async def test_creating_it_again_for_another_encoder_changes_nothing(table: DocumentTable) -> None:
    before = await table.info()
    assert await table.create(replace(ENCODER, fingerprint="e" * 64, dimension=4)) == before


# --- filters, listing and full text ---------------------------------------------------------------------------------


async def test_the_nearest_are_taken_from_what_the_filter_matches(table: DocumentTable) -> None:
    await table.upsert([record(f"{n:02}", near(0, n / 50)) for n in range(20)], {}, MONDAY)
    odd = Compare("id", Operator.IN, tuple(f"{n:02}" for n in range(1, 20, 2)))
    (page,) = await table.nearest(axis(0)[np.newaxis], Modality.TEXT, 3, odd)
    assert ids_of(page) == ["01", "03", "05"]


async def test_rows_are_listed_page_by_page_in_the_order_of_their_ids(table: DocumentTable) -> None:
    await table.upsert([record(each) for each in ("c", "a", "é", "b", "B")], {}, MONDAY)
    assert ids_of(await table.find(None, 2)) == ["B", "a"]
    assert ids_of(await table.find(None, 9, after="a")) == ["b", "c", "é"]
    assert ids_of(await table.find(Not(Compare("id", Operator.EQ, "b")), 2, after="a")) == ["c", "é"]
    assert await table.find(None, 0) == await table.find(None, 5, after="é") == []


async def test_words_find_the_texts_that_hold_them_the_rarest_first(table: DocumentTable) -> None:
    texts = {"a": "a red boat", "b": "a blue boat", "c": "a boat and a boat", "d": "a car"}
    await table.upsert([record(each, text=text) for each, text in texts.items()], {}, MONDAY)
    found = await table.matching("Red boat", [Modality.TEXT], 3)
    assert [match.row.document.id for match in found][:1] == ["a"]
    assert {match.row.document.id for match in found} == {"a", "b", "c"}
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    assert len(await table.matching("boat", [Modality.TEXT], 1)) == 1
    assert await table.matching("boat", [Modality.IMAGE], 3) == []
    assert await table.matching("boat", [], 3) == await table.matching("boat", [Modality.TEXT], 0) == []


async def test_of_texts_that_match_equally_well_the_first_ids_are_found(table: DocumentTable) -> None:
    for start in (20, 0, 10):
        await table.upsert([record(f"{at:02}", text="a red boat") for at in range(start, start + 10)], {}, MONDAY)
    await table.upsert([record("best", text="boat"), record("none", text="a car")], {}, MONDAY)
    found = await table.matching("boat", [Modality.TEXT], 4)
    assert [match.row.document.id for match in found] == ["best", "00", "01", "02"]


async def test_words_in_quotes_must_stand_together(table: DocumentTable) -> None:
    texts = {"a": "a red boat at night", "b": "a boat, red", "c": "the night boat is red"}
    await table.upsert([record(each, text=text) for each, text in texts.items()], {}, MONDAY)
    found = await table.matching('"red boat" night', [Modality.TEXT], 3)
    assert [match.row.document.id for match in found] == ["a"]
    where = Compare("id", Operator.GT, "a")
    assert await table.matching('"red boat"', [Modality.TEXT], 3, where) == []


@pytest.mark.parametrize(
    "text", ["", '""', "!? --", "'; DROP TABLE documents; --", "text:* AND (", '"', "\x00", "x" * 5000]
)
async def test_words_are_words_and_never_a_query_language(table: DocumentTable, text: str) -> None:
    await table.upsert([record("a", text="zebra"), record("b", text=None, modality=Modality.IMAGE)], {}, MONDAY)
    assert await table.matching(text, list(Modality), 3) == []


# --- writing and reading back ---------------------------------------------------------------------------------------


async def test_a_document_comes_back_as_it_was_written(table: DocumentTable) -> None:
    metadata = {"größe": 1.5, "標籤": ["☃", None, True], "deep": {"er": {"n": 2**53}}}
    written = record(
        "ü/1", near(2, 0.3), modality=Modality.IMAGE_TEXT, uri="s3://b/ü.png", text="zwei\nBoote 🚤", metadata=metadata
    )
    await table.upsert([written], {}, MONDAY.astimezone(timezone(timedelta(hours=9))))
    found = await stored(table, "ü/1")
    document = found.document
    assert (document.modality, document.uri, document.text) == (Modality.IMAGE_TEXT, "s3://b/ü.png", "zwei\nBoote 🚤")
    assert document.metadata == metadata
    assert document.content_sha256 == "0" * 64
    assert document.created_at == document.updated_at == MONDAY
    assert document.created_at.utcoffset() == timedelta(0)
    assert found.vector.dtype == np.float32
    np.testing.assert_array_equal(found.vector, written.vector)
    assert found.fingerprint == ENCODER.fingerprint


async def test_an_upsert_inserts_what_is_new_and_replaces_what_is_there(table: DocumentTable) -> None:
    await table.upsert([record("old"), record("kept")], {}, MONDAY)
    again = [record("old", axis(3), text="another", uri="file:///x"), record("new")]
    await table.upsert(again, {"old": MONDAY}, TUESDAY)
    old = (await stored(table, "old")).document
    assert (old.text, old.uri, old.created_at, old.updated_at) == ("another", "file:///x", MONDAY, TUESDAY)
    assert (await stored(table, "new")).document.created_at == TUESDAY
    assert (await stored(table, "kept")).document.text == "text of kept"
    assert (await table.info()).counts[Modality.TEXT] == 3


async def test_get_keeps_the_order_and_answers_an_id_as_often_as_it_is_asked(table: DocumentTable) -> None:
    await table.upsert([record(name) for name in "abc"], {}, MONDAY)
    found = await table.get(["c", "nobody", "a", "c"])
    assert [row and row.document.id for row in found] == ["c", None, "a", "c"]
    assert await table.get([]) == []


async def test_get_takes_more_ids_than_fit_in_one_filter(table: DocumentTable) -> None:
    await table.upsert([record(f"{number}") for number in range(1500)], {}, MONDAY)
    wanted = [f"{number}" for number in range(1600, -1, -1)]
    found = await table.get(wanted)
    assert [row.document.id for row in found if row] == wanted[101:]


async def test_writing_no_rows_makes_no_version(table: DocumentTable) -> None:
    before = (await table.info()).version
    assert await table.upsert([], {}, MONDAY) == before
    assert await table.delete([]) == before
    assert (await table.info()).version == before


async def test_info_counts_by_modality_and_every_write_makes_a_later_version(table: DocumentTable) -> None:
    first = await table.upsert([record("a"), record("b", modality=Modality.IMAGE)], {}, MONDAY)
    assert (await table.info()).counts == {
        Modality.TEXT: 1,
        Modality.IMAGE: 1,
        Modality.IMAGE_TEXT: 0,
        Modality.VIDEO_FRAME: 0,
    }
    second = await table.upsert([record("a", modality=Modality.IMAGE_TEXT)], {}, MONDAY)
    assert (await table.info()).counts == {
        Modality.TEXT: 0,
        Modality.IMAGE: 1,
        Modality.IMAGE_TEXT: 1,
        Modality.VIDEO_FRAME: 0,
    }
    third = await table.delete(["b"])
    assert first < second < third == (await table.info()).version


async def test_ids_with_quotes_and_worse_delete_themselves_and_nothing_else(table: DocumentTable) -> None:
    await table.upsert([record(name) for name in [*HOSTILE_IDS, "bystander"]], {}, MONDAY)
    for left, name in reversed(list(enumerate(HOSTILE_IDS, start=1))):
        assert (await stored(table, name)).document.text == f"text of {name}"
        await table.delete([name])
        assert (await table.info()).counts[Modality.TEXT] == left
    assert (await stored(table, "bystander")).document.id == "bystander"


async def test_deleting_what_is_not_there_makes_no_version(table: DocumentTable) -> None:
    before = await table.upsert([record("a")], {}, MONDAY)
    assert await table.delete(["b", "c"]) == before
    assert await table.delete(["a", "b"]) > before
    assert await table.get(["a"]) == [None]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (record("b", np.full(DIMENSION, np.nan, np.float32)), InvalidVector),
        (record("b", np.full(DIMENSION, np.inf, np.float32)), InvalidVector),
        (record("b", np.zeros(DIMENSION, np.float32)), InvalidVector),
        (record("b", axis(0) * np.float32(1.01)), InvalidVector),
        (record("b", axis(0).astype(np.float64)), InvalidVector),
        (record("b", np.array([1, 0, 0], np.float32)), InvalidVector),
        (record("b", metadata={"x": float("nan")}), InvalidRequest),
        (record("b", metadata={"x": {1, 2}}), InvalidRequest),
        (record("b", text="\ud800"), InvalidRequest),
        (record("b\ud800"), InvalidDocumentId),
        (record("a"), InvalidRequest),
    ],
    ids=["nan", "inf", "zero", "long", "float64", "short", "nan-meta", "set-meta", "text", "id", "twice"],
)
async def test_one_wrong_record_is_refused_and_nothing_of_its_write_is_stored(
    table: DocumentTable, wrong: Record, error: type[CrossmodalError]
) -> None:
    before = await table.info()
    with pytest.raises(error):
        await table.upsert([record("a"), wrong], {}, MONDAY)
    assert await table.info() == before


@pytest.mark.parametrize("wrong", [np.zeros(DIMENSION), np.full(DIMENSION, np.nan), np.ones(DIMENSION), np.eye(3)[0]])
async def test_a_query_that_points_nowhere_is_refused(table: DocumentTable, wrong: FloatVector) -> None:
    await table.upsert([record("a")], {}, MONDAY)
    with pytest.raises(InvalidVector):
        await table.nearest(wrong[np.newaxis].astype(np.float32), Modality.TEXT, 1)


# --- neighbours and samples -----------------------------------------------------------------------------------------


async def test_nearest_gives_each_query_its_own_neighbours_best_first(table: DocumentTable) -> None:
    rows = [record(f"{place}-{step}", near(place, 0.1 * step)) for step in (2, 0, 1) for place in (0, 4)]
    await table.upsert(rows, {}, MONDAY)
    first, second = await table.nearest(np.stack([axis(4), axis(0)]), Modality.TEXT, 2)
    assert ids_of(first) == ["4-0", "4-1"]
    assert ids_of(second) == ["0-0", "0-1"]
    np.testing.assert_array_equal(first[1].vector, near(4, 0.1))


async def test_nearest_answers_one_query_like_many(table: DocumentTable) -> None:
    await table.upsert([record(f"{step}", near(0, 0.1 * step)) for step in range(5)], {}, MONDAY)
    (page,) = await table.nearest(axis(0)[np.newaxis], Modality.TEXT, 3)
    assert ids_of(page) == ["0", "1", "2"]


async def test_nearest_returns_one_modality_and_fills_its_limit_from_it(table: DocumentTable) -> None:
    texts = [record(f"text-{step}", near(0, 0.01 * step)) for step in range(20)]
    images = [record(f"image-{step}", near(0, 1 + 0.1 * step), modality=Modality.IMAGE) for step in range(3)]
    await table.upsert(texts + images, {}, MONDAY)
    (page,) = await table.nearest(axis(0)[np.newaxis], Modality.IMAGE, 3)
    assert ids_of(page) == ["image-0", "image-1", "image-2"]
    assert await table.nearest(axis(0)[np.newaxis], Modality.IMAGE_TEXT, 3) == [[]]


async def test_nearest_with_fewer_rows_than_the_limit_returns_them_all(table: DocumentTable) -> None:
    await table.upsert([record("a", axis(1)), record("b")], {}, MONDAY)
    pages = await table.nearest(np.stack([axis(0), axis(1)]), Modality.TEXT, 50)
    assert [ids_of(page) for page in pages] == [["b", "a"], ["a", "b"]]


async def test_nearest_of_no_queries_or_a_limit_of_nothing_is_empty(table: DocumentTable) -> None:
    await table.upsert([record("a")], {}, MONDAY)
    assert await table.nearest(np.empty((0, DIMENSION), np.float32), Modality.TEXT, 5) == []
    assert await table.nearest(np.stack([axis(0), axis(1)]), Modality.TEXT, 0) == [[], []]


async def test_equally_near_documents_come_in_the_order_of_their_ids(table: DocumentTable) -> None:
    await table.upsert([record(name, near(0, 0.2)) for name in ("d", "b", "é", "a", "c")], {}, MONDAY)
    await table.upsert([record("best")], {}, MONDAY)
    (page,) = await table.nearest(axis(0)[np.newaxis], Modality.TEXT, 10)
    assert ids_of(page) == ["best", "a", "b", "c", "d", "é"]


async def test_nearest_agrees_with_brute_force(table: DocumentTable) -> None:
    random = np.random.default_rng(7)
    vectors = random.normal(size=(304, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    await table.upsert([record(f"{place}", vector) for place, vector in enumerate(vectors[4:])], {}, MONDAY)
    pages = await table.nearest(vectors[:4], Modality.TEXT, 25)
    for query, page in zip(vectors[:4], pages, strict=True):
        assert ids_of(page) == [str(place) for place in np.argsort(-(vectors[4:] @ query))[:25]]


async def test_a_sample_is_spread_over_one_modality_and_the_same_each_time(table: DocumentTable) -> None:
    rows = [record(f"{step:02}", near(0, 0.05 * step)) for step in range(20)]
    for start in range(0, 20, 5):
        await table.upsert(
            [*rows[start : start + 5], record(f"i{start}", axis(5), modality=Modality.IMAGE)], {}, MONDAY
        )
    sample = await table.sample(Modality.TEXT, 5)
    assert (sample.shape, sample.dtype) == ((5, DIMENSION), np.float32)
    positions = sorted(int(np.argmax(np.stack([row.vector for row in rows]) @ vector)) for vector in sample)
    assert positions == [0, 4, 8, 12, 16]
    np.testing.assert_array_equal(sample, await table.sample(Modality.TEXT, 5))
    assert (await table.sample(Modality.IMAGE, 100)).shape == (4, DIMENSION)
    assert (await table.sample(Modality.IMAGE_TEXT, 5)).shape == (0, DIMENSION)


# --- calibration ----------------------------------------------------------------------------------------------------


async def test_a_calibration_comes_back_bit_for_bit_and_outlives_later_writes(table: DocumentTable) -> None:
    assert (await table.calibration()).version == 0
    given = Calibration(
        version=3,
        row_counts={Modality.TEXT: 10, Modality.IMAGE: 5},
        means={Modality.TEXT: near(0, 0.1) / np.float32(3), Modality.IMAGE: axis(1) * np.float32(0.1)},
        pair_scores={(Modality.TEXT, Modality.IMAGE): PairScores(0.1, 0.02)},
    )
    await table.store_calibration(given)
    await table.upsert([record("a")], {}, MONDAY)
    found = await table.calibration()
    assert (found.version, found.row_counts, found.pair_scores) == (3, given.row_counts, given.pair_scores)
    assert found.means.keys() == given.means.keys()
    for modality, mean in given.means.items():
        np.testing.assert_array_equal(found.means[modality], mean)
    info, calibration = await table.info_and_calibration()
    assert (info, calibration.version) == (await table.info(), info.calibration_version) == (info, 3)
    assert (await stored(table, "a")).fingerprint == ENCODER.fingerprint


# --- newer and older views ------------------------------------------------------------------------------------------


async def test_a_view_is_at_least_as_new_as_asked_or_says_that_it_cannot_be(table: DocumentTable) -> None:
    written = await table.upsert([record("a")], {}, MONDAY)
    assert await table.refresh(0) == await table.refresh(written) == written
    with pytest.raises(StaleTable, match=f"no version {written + 1} yet"):
        await table.refresh(written + 1)


async def test_the_table_can_be_read_as_it_was_at_a_time(table: DocumentTable) -> None:
    await table.upsert([record("a"), record("b", axis(1))], {}, MONDAY)
    between = datetime.now(UTC)
    await table.upsert([record("a", axis(5), text="another")], {"a": MONDAY}, TUESDAY)
    await table.delete(["b"])
    then = await table.at(between.isoformat())
    assert (await stored(then, "a")).document.text == "text of a"
    assert ids_of((await then.nearest(axis(1)[np.newaxis], Modality.TEXT, 5))[0]) == ["b", "a"]
    assert (await then.info()).counts[Modality.TEXT] == 2
    assert await table.get(["b"]) == [None]
    assert (await (await table.at(None)).info()) == await table.info()


@pytest.mark.parametrize("as_of", ["2026-01-01", "nobody"])
async def test_what_the_table_never_kept_is_not_found(table: DocumentTable, as_of: str) -> None:
    await table.upsert([record("a")], {}, MONDAY)
    with pytest.raises(SnapshotNotFound):
        await table.at(as_of)


# --- the vector index ------------------------------------------------------------------------------------------------

BY_INDEX = IndexState(
    kind=IndexKind.IVF_SQ,
    reason="exact search takes 90 ms",
    rows=400,
    measured_at=MONDAY,
    recall=1.0,
    search_ms=3.0,
    exact_ms=90.0,
    partitions=8,
    readings=dict.fromkeys(Reach, IndexReading(2, 40)),
    built_rows=400,
    build_s=0.5,
)


def two_modalities(count: int) -> list[Record]:
    """Texts near one axis and pictures near another: a modality gap, in which the lists nearest to a text hold texts alone."""
    random = np.random.default_rng(3)
    rows = []
    for place in range(count):
        modality = Modality.IMAGE if place % 2 else Modality.TEXT
        vector = 3 * axis(place % 2) + random.normal(size=DIMENSION).astype(np.float32)
        rows.append(record(f"{place:04}", (vector / np.linalg.norm(vector)).astype(np.float32), modality=modality))
    return rows


async def test_how_the_table_is_searched_is_stored_with_it_and_beside_the_calibration(
    table: MaintainedTable,
) -> None:
    await table.store_calibration(Calibration(3, {}, {}, {}))
    assert (await table.info()).index is None
    await table.store_index(BY_INDEX)
    info = await table.info()
    assert (info.index, info.calibration_version) == (BY_INDEX, 3)


async def test_a_search_by_the_index_gives_what_an_exact_one_gives_whatever_the_limit(table: MaintainedTable) -> None:
    rows = two_modalities(400)
    await table.upsert(rows, {}, MONDAY)
    queries = np.stack([rows[0].vector, rows[1].vector])
    exact = {limit: await table.nearest(queries, Modality.IMAGE, limit) for limit in (10, 150, 500)}
    await table.maintain(timedelta(hours=1))
    await table.build_index(IndexKind.IVF_SQ, 8)
    # As many lists as a text needs to reach the pictures.
    await table.store_index(replace(BY_INDEX, readings=dict.fromkeys(Reach, IndexReading(8, 40))))
    for limit, expected in exact.items():
        pages = await table.nearest(queries, Modality.IMAGE, limit)
        assert [ids_of(page) for page in pages] == [ids_of(page) for page in expected]
    # With too few lists some are missed, and yet the number of results is that which was asked for.
    await table.store_index(BY_INDEX)
    assert [len(page) for page in await table.nearest(queries, Modality.IMAGE, 150)] == [150, 150]
    assert [len(page) for page in await table.nearest(queries, Modality.IMAGE, 500)] == [200, 200]


async def test_rows_written_after_the_index_was_built_are_found_and_counted(table: MaintainedTable) -> None:
    await table.upsert(two_modalities(400), {}, MONDAY)
    await table.maintain(timedelta(hours=1))
    await table.build_index(IndexKind.IVF_SQ, 8)
    await table.store_index(BY_INDEX)
    assert (await table.info()).index == BY_INDEX
    await table.upsert([record("new", axis(5))], {}, MONDAY)
    assert (await table.info()).index == replace(BY_INDEX, unindexed_rows=1)
    assert ids_of((await table.nearest(axis(5)[np.newaxis], Modality.TEXT, 1))[0]) == ["new"]
    await table.maintain(timedelta(hours=1))
    assert (await table.info()).index == BY_INDEX
    assert ids_of((await table.nearest(axis(5)[np.newaxis], Modality.TEXT, 1))[0]) == ["new"]


async def test_a_probe_finds_what_it_was_told_to_look_at(table: MaintainedTable) -> None:
    rows = two_modalities(400)
    await table.upsert(rows, {}, MONDAY)
    await table.maintain(timedelta(hours=1))
    await table.build_index(IndexKind.IVF_SQ, 8)
    queries = np.stack([rows[0].vector, rows[2].vector, rows[4].vector])
    exact = await table.probe(queries, Modality.IMAGE, 11, None)
    assert exact == [ids_of(page) for page in await table.nearest(queries, Modality.IMAGE, 11)]
    assert await table.probe(queries, Modality.IMAGE, 11, IndexReading(500, 88)) == exact
    await table.drop_index()
    await table.drop_index()
    assert await table.probe(queries, Modality.IMAGE, 11, IndexReading(8, 88)) == exact


async def test_a_frozen_table_answers_as_it_was_whatever_is_written(table: MaintainedTable) -> None:
    rows = two_modalities(400)
    await table.upsert(rows, {}, MONDAY)
    await table.build_index(IndexKind.IVF_SQ, 8)
    frozen = await table.frozen()
    queries = np.stack([rows[0].vector, rows[2].vector])
    exact = await frozen.probe(queries, Modality.IMAGE, 11, None)
    await table.delete(exact[0])
    assert await frozen.probe(queries, Modality.IMAGE, 11, None) == exact
    assert await frozen.probe(queries, Modality.IMAGE, 11, IndexReading(8, 88)) == exact
    assert not set(exact[0]) & {each for ids in await table.probe(queries, Modality.IMAGE, 11, None) for each in ids}


async def test_the_head_of_a_table_says_what_a_writer_has_to_know(absent: MaintainedTable) -> None:
    assert await absent.head() == TableHead(0, None, None)
    info = await absent.create(ENCODER)
    assert await absent.head() == TableHead(info.version, ENCODER.fingerprint, DIMENSION)


# --- LanceDB alone: several handles, several processes --------------------------------------------------------------


async def test_a_reader_picks_up_a_table_created_after_it_looked(tmp_path: Path) -> None:
    reader, writer = LanceTable(str(tmp_path)), LanceTable(str(tmp_path))
    assert (await reader.info()).version == 0
    await writer.create(ENCODER)
    await writer.upsert([record("a")], {}, MONDAY)
    assert (await stored(reader, "a")).document.id == "a"


async def test_a_reader_sees_what_another_handle_committed(folder: str) -> None:
    reader, writer = LanceTable(folder), LanceTable(folder)
    assert (await reader.info()).counts[Modality.TEXT] == 0
    version = await writer.upsert([record("a")], {}, MONDAY)
    await writer.store_calibration(Calibration(9, {}, {}, {}))
    assert ids_of((await reader.nearest(axis(0)[np.newaxis], Modality.TEXT, 5))[0]) == ["a"]
    assert (await reader.calibration()).version == 9
    info = await reader.info()
    assert (info.counts[Modality.TEXT], info.calibration_version) == (1, 9)
    assert info.version > version


async def test_a_reader_may_be_stale_for_as_long_as_it_was_told(folder: str) -> None:
    reader, writer = LanceTable(folder, read_consistency=timedelta(seconds=0.3)), LanceTable(folder)
    before = (await reader.info()).version
    await writer.upsert([record("a")], {}, MONDAY)
    assert (await reader.info()).version == before
    await asyncio.sleep(0.4)
    assert (await stored(reader, "a")).document.id == "a"


async def test_a_stale_reader_can_be_told_to_look_again(folder: str) -> None:
    reader, writer = LanceTable(folder, read_consistency=timedelta(hours=1)), LanceTable(folder)
    await reader.info()
    version = await writer.upsert([record("a")], {}, MONDAY)
    assert await reader.get(["a"]) == [None]
    assert await reader.refresh(version) == version
    assert (await stored(reader, "a")).document.id == "a"


async def test_a_reader_whose_version_was_pruned_starts_again(folder: str) -> None:
    writer = LanceTable(folder)
    stale = LanceTable(folder, read_consistency=timedelta(hours=1))
    await writer.upsert([record("a")], {}, MONDAY)
    assert (await stale.info()).counts[Modality.TEXT] == 1
    for step in range(3):
        await writer.upsert([record("a"), record(f"{step}", axis(step))], {"a": MONDAY}, TUESDAY)
    await writer.maintain(timedelta(milliseconds=1))
    assert (await stored(stale, "a")).document.updated_at == TUESDAY
    assert (await stale.info()).counts[Modality.TEXT] == 4


async def test_a_table_that_was_dropped_beneath_a_handle_is_absent(folder: str) -> None:
    table = LanceTable(folder)
    await table.upsert([record("a")], {}, MONDAY)
    await (await lancedb.connect_async(folder)).drop_table("documents")
    assert (await table.info()).version == 0
    assert await table.get(["a"]) == [None]
    await table.create(replace(ENCODER, fingerprint="e" * 64, dimension=4))
    assert (await table.info()).dimension == 4


async def test_maintenance_keeps_every_answer_and_the_calibration(folder: str) -> None:
    table = LanceTable(folder)
    for step in range(6):
        await table.upsert([record(f"{step}", near(0, 0.1 * step))], {}, MONDAY)
    await table.store_calibration(Calibration(2, {}, {Modality.TEXT: axis(0)}, {}))
    before = await table.nearest(axis(0)[np.newaxis], Modality.TEXT, 10)
    for _ in range(2):
        await table.maintain(timedelta(milliseconds=1))
    assert ids_of((await table.nearest(axis(0)[np.newaxis], Modality.TEXT, 10))[0]) == ids_of(before[0])
    await table.upsert([record("3", axis(7))], {"3": MONDAY}, TUESDAY)
    np.testing.assert_array_equal((await stored(table, "3")).vector, axis(7))
    info = await table.info()
    assert (info.counts[Modality.TEXT], info.calibration_version) == (6, 2)


async def test_maintenance_drops_the_versions_that_are_too_old(folder: str) -> None:
    table = LanceTable(folder)
    for step in range(5):
        await table.upsert([record(f"{step}")], {}, MONDAY)
    lance = await (await lancedb.connect_async(folder)).open_table("documents")
    before = len(await lance.list_versions())
    assert before > 5
    await table.maintain(timedelta(hours=1))
    assert len(await lance.list_versions()) > before
    await table.maintain(timedelta(milliseconds=1))
    assert len(await lance.list_versions()) < 3


async def test_a_table_that_is_not_ours_is_refused_in_words(tmp_path: Path) -> None:
    database = await lancedb.connect_async(str(tmp_path))
    await database.create_table("documents", pa.table({"id": ["a"]}))
    table = LanceTable(str(tmp_path))
    with pytest.raises(FingerprintMismatch, match="not made by crossmodal"):
        await table.get(["a"])
    with pytest.raises(FingerprintMismatch, match="not made by crossmodal"):
        await table.create(ENCODER)


async def test_a_storage_that_fails_is_told_without_its_paths(folder: str) -> None:
    for manifest in (Path(folder) / "documents.lance" / "_versions").iterdir():
        manifest.write_bytes(b"damaged")
    with pytest.raises(StorageUnavailable) as caught:
        await LanceTable(folder).info()
    assert folder not in caught.value.message
    assert caught.value.__cause__ is not None


def _race(uri: str, start: Barrier, writer: int, rounds: int, options: Mapping[str, str]) -> None:
    async def write() -> None:
        table = LanceTable(uri, storage_options=options)
        for turn in range(rounds):
            start.wait()
            await table.upsert([record(f"{turn}-{place}", axis(writer)) for place in range(5)], {}, MONDAY)

    asyncio.run(write())


def _create(folder: str, start: Barrier, writer: int, rounds: int, options: Mapping[str, str]) -> None:
    async def create() -> None:
        for turn in range(rounds):
            table = LanceTable(folder, name=f"table-{turn}")
            await table.info()
            start.wait()
            await table.create(replace(ENCODER, model=f"by-{writer}"))
            await table.upsert([record(f"by-{writer}")], {}, MONDAY)

    asyncio.run(create())


def _in_two_processes(work: Any, uri: str, rounds: int, options: Mapping[str, str] = MappingProxyType({})) -> None:
    # Spawned, not forked: LanceDB has threads.
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2, timeout=60)
    processes = [context.Process(target=work, args=(uri, start, writer, rounds, dict(options))) for writer in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.mark.parametrize("maintained", [False, True], ids=["new", "with indexes"])
async def test_two_processes_that_insert_the_same_new_ids_leave_one_row_of_each(folder: str, maintained: bool) -> None:
    table = LanceTable(folder)
    await table.upsert([record(f"before-{step}") for step in range(50)], {}, MONDAY)
    if maintained:
        await table.maintain(timedelta(hours=1))
    _in_two_processes(_race, folder, rounds=5)
    assert (await table.info()).counts[Modality.TEXT] == 50 + 5 * 5
    rows = await table.get([f"{turn}-{place}" for turn in range(5) for place in range(5)])
    assert all(row is not None for row in rows)


@pytest.mark.parametrize("storage", ["s3", "azure"])
async def test_two_processes_that_insert_the_same_new_ids_into_a_bucket_leave_one_row_of_each(
    request: pytest.FixtureRequest, storage: str
) -> None:
    bucket: Bucket = request.getfixturevalue(storage)
    uri = f"{bucket.uri}/{uuid4()}"
    table = LanceTable(uri, storage_options=bucket.options)
    await table.create(ENCODER)
    _in_two_processes(_race, uri, rounds=5, options=bucket.options)
    assert (await table.info()).counts[Modality.TEXT] == 5 * 5


async def test_two_processes_that_create_the_same_table_share_one(tmp_path: Path) -> None:
    _in_two_processes(_create, str(tmp_path), rounds=4)
    for turn in range(4):
        info = await LanceTable(str(tmp_path), name=f"table-{turn}").info()
        assert info.model in {"by-1 (v1)", "by-2 (v1)"}
        assert info.counts[Modality.TEXT] == 2


async def test_several_that_store_how_the_table_is_searched_at_once_all_succeed(folder: str) -> None:
    writers = [LanceTable(folder) for _ in range(4)]
    for writer in writers:
        await writer.info()
    calibrating = [writer.store_calibration(Calibration(1, {}, {}, {})) for writer in writers]
    await asyncio.gather(*calibrating, writers[0].store_index(BY_INDEX))
    info = await LanceTable(folder).info()
    assert (info.calibration_version, info.index and info.index.kind) == (1, IndexKind.IVF_SQ)


async def test_a_search_that_the_storage_never_answers_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = LanceTable(str(tmp_path))
    await table.create(ENCODER)

    async def never(*_: object, **__: object) -> pa.Table:
        await asyncio.Event().wait()

    monkeypatch.setattr("serve_app.adapters.lance_table.table.READ_S", 0.05)
    monkeypatch.setattr("serve_app.adapters.lance_table.table.nearest_rows", never)
    with pytest.raises(StorageUnavailable, match="did not answer in time"):
        await table.nearest(axis(0)[None], Modality.TEXT, 1)
