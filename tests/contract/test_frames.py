"""Frames of videos in the table: held against the fake and the real one, and what becomes of tables that knew no videos."""

from pathlib import Path
from uuid import uuid4

import lancedb
import numpy as np
import pytest

from serve_app.adapters.lance_table import LanceTable
from serve_app.core.columns import LATE_COLUMNS
from serve_app.core.videos import frames_of
from serve_app.ports import MaintainedTable
from serve_app.types import Compare, Modality, Not, Operator, Record
from tests.contract.rows import ENCODER, MONDAY, TUESDAY, axis, ids_of, record, stored
from tests.emulators import Bucket
from tests.fakes.table import MemoryTable


@pytest.fixture(params=["memory", "lance", "s3", "azure"])
async def table(request: pytest.FixtureRequest, tmp_path: Path) -> MaintainedTable:
    made: MaintainedTable
    if request.param == "memory":
        made = MemoryTable()
    elif request.param == "lance":
        made = LanceTable(str(tmp_path / "db"))
    else:
        bucket: Bucket = request.getfixturevalue(request.param)
        made = LanceTable(f"{bucket.uri}/{uuid4().hex}", storage_options=bucket.options)
    await made.create(ENCODER)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "db")


def frame(document_id: str, offset_s: float, thumbnail_uri: str = "file:///kept/a.jpg", **changes: object) -> Record:
    parts = {"modality": Modality.VIDEO_FRAME, "uri": "s3://b/clip.mp4", "offset_s": offset_s}
    return record(document_id, thumbnail_uri=thumbnail_uri, **parts, **changes)


async def test_a_frame_has_its_moment_and_its_picture(table: MaintainedTable) -> None:
    await table.upsert([frame("clip#t=2.000", 2.0), record("a")], {}, MONDAY)
    document = (await stored(table, "clip#t=2.000")).document
    assert (document.modality, document.offset_s, document.thumbnail_uri) == (
        Modality.VIDEO_FRAME,
        2.0,
        "file:///kept/a.jpg",
    )
    assert (await stored(table, "a")).document.offset_s is None
    assert (await table.info()).counts[Modality.VIDEO_FRAME] == 1


async def test_frames_are_filtered_by_their_moment(table: MaintainedTable) -> None:
    await table.upsert([record("a"), *(frame(f"clip#t={at}", float(at)) for at in range(5))], {}, MONDAY)
    late = Compare("offset_s", Operator.GTE, 3.0)
    assert ids_of(await table.find(late, 9)) == ["clip#t=3", "clip#t=4"]
    assert ids_of(await table.find(Not(Compare("offset_s", Operator.EXISTS, True)), 9)) == ["a"]
    assert await table.count(Compare("id", Operator.PREFIX, "clip#t=")) == 5
    (page,) = await table.nearest(axis(0)[np.newaxis], Modality.VIDEO_FRAME, 9, late)
    assert ids_of(page) == ["clip#t=3", "clip#t=4"]


async def test_a_frame_points_to_its_video_and_to_its_kept_picture(table: MaintainedTable) -> None:
    await table.upsert([frame("clip#t=0", 0.0), record("p", uri="file:///kept/b.jpg")], {}, MONDAY)
    uris = {"s3://b/clip.mp4", "file:///kept/a.jpg", "file:///kept/b.jpg"}
    assert set(await table.uris_matching(None, 9)) == uris
    assert await table.used_uris([*uris, "file:///kept/c.jpg"]) == uris


async def test_frames_are_replaced_in_one_commit_and_nothing_else_goes(table: MaintainedTable) -> None:
    others = [record("a"), record("clip#t=note"), frame("clip#t", 1.0), frame("other#t=1", 1.0)]
    before = await table.upsert([*others, *(frame(f"clip#t={at}", float(at)) for at in range(4))], {}, MONDAY)
    new = [frame(f"clip#t={at}", float(at), content_sha256="1" * 64) for at in (2, 7)]
    after = await table.upsert(new, {"clip#t=2": MONDAY}, TUESDAY, instead_of=frames_of("clip"))
    assert after > before
    left = await table.find(None, 99)
    assert ids_of(left) == sorted([*(each.id for each in others), "clip#t=2", "clip#t=7"])
    assert (await stored(table, "clip#t=2")).document.content_sha256 == "1" * 64
    assert (await stored(table, "clip#t=2")).document.created_at == MONDAY
    assert await table.upsert([], {}, TUESDAY, instead_of=frames_of("clip")) == after


async def _without_late_columns(folder: str) -> None:
    """Make the table as versions made it that knew no videos, and wrote {} where a document has no metadata."""
    table = await (await lancedb.connect_async(folder)).open_table("documents")
    await table.drop_columns(list(LATE_COLUMNS))
    if not await table.count_rows():
        await table.alter_columns({"path": "metadata", "nullable": False})


async def test_a_table_from_before_videos_is_read_written_and_given_their_columns(folder: str) -> None:
    old = LanceTable(folder)
    await old.create(ENCODER)
    await old.upsert([record("a", metadata={"k": 1}), record("p", uri="file:///kept/b.jpg")], {}, MONDAY)
    await _without_late_columns(folder)
    reader = LanceTable(folder)
    assert (await stored(reader, "a")).document.offset_s is None
    assert await reader.count(Compare("offset_s", Operator.GTE, 0.0)) == 0
    assert ids_of(await reader.find(Not(Compare("offset_s", Operator.EXISTS, True)), 9)) == ["a", "p"]
    assert await reader.used_uris(["file:///kept/b.jpg", "file:///kept/a.jpg"]) == {"file:///kept/b.jpg"}
    await LanceTable(folder).create(ENCODER)
    await old.upsert([frame("clip#t=2.000", 2.0)], {}, MONDAY)
    assert (await stored(reader, "clip#t=2.000")).document.offset_s == 2.0


async def test_a_snapshot_from_before_videos_takes_frames_once_it_is_restored(folder: str) -> None:
    table = LanceTable(folder)
    await table.create(ENCODER)
    await _without_late_columns(folder)
    await table.keeping.create_snapshot("before")
    await table.create(ENCODER)
    await table.upsert([frame("clip#t=1", 1.0)], {}, MONDAY)
    assert await (await table.at("before")).count(Compare("offset_s", Operator.EXISTS, True)) == 0
    await table.keeping.restore_snapshot("before")
    await table.upsert([record("b")], {}, MONDAY)
    await table.upsert([frame("clip#t=2", 2.0)], {}, MONDAY)
    assert ids_of(await table.find(None, 9)) == ["b", "clip#t=2"]
    assert (await stored(table, "b")).document.metadata == {}
    assert await table.used_uris(["file:///kept/a.jpg"]) == {"file:///kept/a.jpg"}
