"""Videos of a job become rows of frames: true files, the true reader and decoder, a table in memory."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serve_app.adapters.image_source import UriImageSource
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.adapters.video import VideoLimits, VideoReader
from serve_app.core.source_items import SourceItem
from serve_app.core.videos import frames_of, frames_of_others, is_video_uri, video_content
from serve_app.services.bulk import BulkEncoding, Unchanged
from serve_app.services.bulk_videos import BulkVideos, FrameOutcome, PreparedFrame, Superseded, VideoRules
from serve_app.types import Embedding, FramePolicy, ItemFailure, Modality, Pixels, Record
from tests.fakes.parts import CARD, PREPROCESSING, vector_of
from tests.fakes.table import MemoryTable
from tests.unit.adapters.video_zoo import BLUE, GREEN, RED, scenes, sound, video

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
POLICY = FramePolicy(1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").write_bytes(video(scenes((RED, GREEN, BLUE))))
    return tmp_path


@pytest.fixture
async def table() -> MemoryTable:
    table = MemoryTable()
    await table.create(CARD)
    return table


def videos_of(folder: Path, table: MemoryTable, policy: FramePolicy = POLICY) -> BulkVideos:
    store = ObstoreObjectStore(str(folder / "kept"))
    roots = (str(folder / "videos"), store.root)
    source = UriImageSource(roots, read_object=store.read, max_bytes=1_000_000, timeout_s=5, objects=store)
    rules = VideoRules(declared={}, max_characters=1000, max_bytes=10_000_000, frame_px=320, policy=policy)
    decoder = PictureDecoder(20_000_000, 50_000_000, 50)
    reader = VideoReader(VideoLimits(frame_px=320))
    return BulkVideos(source, source, reader, decoder, store, table, PREPROCESSING, rules, observe=lambda *_: None)


def item_of(folder: Path, name: str = "clip.mp4", text: str | None = None) -> SourceItem:
    uri = (folder / "videos" / name).as_uri()
    return SourceItem(key=uri, id=name, uri=uri, text=text, metadata={"reel": 1})


async def outcomes(videos: BulkVideos, item: SourceItem) -> dict[str, FrameOutcome]:
    return {key: outcome async for portion in videos.prepare(item) for key, outcome in portion}


async def encoded(found: dict[str, FrameOutcome]) -> list[Record]:
    async def no_texts(texts: object) -> list[Embedding | ItemFailure]:
        raise AssertionError(f"a frame has no words: {texts}")

    async def encode_pixels(pictures: list[Pixels]) -> list[Embedding | ItemFailure]:
        return [Embedding(vector_of("boat", Modality.IMAGE), CARD.fingerprint) for _ in pictures]

    encoding = BulkEncoding(no_texts, encode_pixels, image_weight=0.5)  # type: ignore[arg-type]
    rows = await encoding.encode([each for each in found.values() if isinstance(each, PreparedFrame)])
    assert all(isinstance(row, Record) for row in rows)
    return [row for row in rows if isinstance(row, Record)]


async def test_each_frame_becomes_a_row_of_its_video(folder: Path, table: MemoryTable) -> None:
    item = item_of(folder, text="a reel")
    rows = await encoded(await outcomes(videos_of(folder, table), item))
    assert [(row.id, row.offset_s) for row in rows] == [(f"clip.mp4#t={s}.000", float(s)) for s in range(6)]
    sha256 = hashlib.sha256((folder / "videos" / "clip.mp4").read_bytes()).hexdigest()
    assert {row.content_sha256 for row in rows} == {video_content(sha256, POLICY, 320, 6)}
    assert {(row.modality, row.uri, row.text, row.metadata["reel"]) for row in rows} == {
        (Modality.VIDEO_FRAME, item.uri, "a reel", 1)
    }
    store = ObstoreObjectStore(str(folder / "kept"))
    assert (await store.read(rows[2].thumbnail_uri or "", 100_000)).startswith(b"\xff\xd8")


async def test_what_is_there_is_not_decoded_again_and_only_what_is_missing_is_encoded(
    folder: Path, table: MemoryTable
) -> None:
    item = item_of(folder)
    rows = await encoded(await outcomes(videos_of(folder, table), item))
    await table.upsert(rows[:4], {}, MONDAY)
    resumed = await outcomes(videos_of(folder, table), item)
    assert [type(each) for each in resumed.values()] == [Unchanged] * 4 + [PreparedFrame] * 2
    await table.upsert(rows[4:], {}, MONDAY)
    assert [type(each) for each in (await outcomes(videos_of(folder, table), item)).values()] == [Unchanged] * 6
    renamed = await outcomes(videos_of(folder, table), item_of(folder, text="another text"))
    assert [(type(each), each.text) for each in renamed.values() if isinstance(each, Record)] == [
        (Record, "another text")
    ] * 6


async def test_frames_of_another_content_are_to_be_deleted_once_the_new_ones_are_there(
    folder: Path, table: MemoryTable
) -> None:
    item = item_of(folder)
    await table.upsert(await encoded(await outcomes(videos_of(folder, table), item)), {}, MONDAY)
    rarer = FramePolicy(2.0)
    found = await outcomes(videos_of(folder, table, rarer), item)
    order = found.pop(item.key)
    assert isinstance(order, Superseded)
    await table.upsert(await encoded(found), {}, MONDAY)
    await table.delete_matching(frames_of_others(order.video_id, order.content_sha256))
    left = await table.find(frames_of("clip.mp4"), 100)
    assert [row.document.offset_s for row in left] == [0, 2, 4]
    assert item.key not in await outcomes(videos_of(folder, table, rarer), item)


async def test_a_video_fails_whole_and_by_its_own_key(folder: Path, table: MemoryTable) -> None:
    (folder / "videos" / "song.mp4").write_bytes(sound())
    (folder / "videos" / "cut.mp4").write_bytes((folder / "videos" / "clip.mp4").read_bytes()[:2000])
    (folder / "secret.mp4").write_bytes(b"")
    codes = {}
    for name in ("song.mp4", "cut.mp4", "../secret.mp4", "gone.mp4"):
        item = item_of(folder, name)
        ((key, failed),) = (await outcomes(videos_of(folder, table), item)).items()
        assert (key, type(failed)) == (item.key, ItemFailure)
        codes[name] = failed.code  # type: ignore[union-attr]
    assert codes == {
        "song.mp4": "not_a_video",
        "cut.mp4": "invalid_video",
        "../secret.mp4": "uri_not_allowed",
        "gone.mp4": "picture_not_found",
    }


@pytest.mark.parametrize(
    ("uri", "is_video"),
    [("file:///a/b.MP4", True), ("s3://b/a.mkv", True), ("https://h/a.webm?x=1", True), ("file:///mp4/a.png", False)],
)
def test_a_video_is_told_by_its_name(uri: str, is_video: bool) -> None:
    assert is_video_uri(uri) is is_video
