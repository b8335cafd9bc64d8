"""Videos become kept pictures with vectors: true files, the true reader and decoder, and a fake of what encodes."""

import hashlib
from pathlib import Path

import pytest

from serve_app.adapters.image_source import UriImageSource
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.adapters.video import VideoLimits, VideoReader
from serve_app.core.videos import video_content
from serve_app.errors import InvalidRange, UriNotAllowed
from serve_app.services.frames import FRAMES_AT_ONCE, FrameService
from serve_app.services.pictures import PictureService
from serve_app.types import EmbeddedVideo, Embedding, FramePolicy, ItemFailure, Pixels, VideoUri
from tests.emulators import Bucket, s3_bucket
from tests.fakes.parts import CARD
from tests.unit.adapters.video_zoo import BLUE, GREEN, RED, scenes, sound, video


class SeeingColours:
    """An encoder whose vector is the mean colour."""

    async def describe(self) -> object:
        return CARD

    async def encode_pixels(self, pictures: list[Pixels], *, urgent: bool) -> list[Embedding | ItemFailure]:
        assert not urgent, "nobody waits for frames"
        return [Embedding(each.reshape(-1, 3).mean(axis=0), CARD.fingerprint) for each in pictures]


def service_of(folder: Path, store_uri: str | None = None, options: dict[str, str] | None = None) -> FrameService:
    store = ObstoreObjectStore(store_uri or str(folder / "kept"), options)
    decoder = PictureDecoder(20_000_000, 50_000_000, 50)
    source = UriImageSource(
        (str(folder / "videos"), store.root),
        read_object=store.read,
        max_bytes=1000,
        timeout_s=5,
        objects=store,
    )
    pictures = PictureService(decoder, source, store, SeeingColours(), max_bytes=20_000_000, threads=2)  # type: ignore[arg-type]
    reader = VideoReader(VideoLimits(frame_px=320))
    return FrameService(pictures, reader, decoder, source, max_bytes=10_000_000, frame_px=320, threads=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").write_bytes(video(scenes((RED, GREEN, BLUE))))
    return tmp_path


def uri_of(folder: Path, name: str = "clip.mp4") -> str:
    return (folder / "videos" / name).as_uri()


async def test_each_frame_is_kept_as_a_picture_and_encoded_as_it_was_kept(folder: Path) -> None:
    policy = FramePolicy(1.0)
    (embedded,) = await service_of(folder).embed_videos([VideoUri(uri_of(folder), policy)])
    assert isinstance(embedded, EmbeddedVideo)
    assert [frame.offset_s for frame in embedded.frames] == [0, 1, 2, 3, 4, 5]
    sha256 = hashlib.sha256((folder / "videos" / "clip.mp4").read_bytes()).hexdigest()
    assert embedded.content_sha256 == video_content(sha256, policy, 320, 6)
    green = embedded.frames[2]
    store = ObstoreObjectStore(str(folder / "kept"))
    assert (await store.read(green.thumbnail_uri, 100_000)).startswith(b"\xff\xd8")
    assert green.embedding.vector == pytest.approx(GREEN, abs=12)
    # Frames that look alike are one picture.
    assert green.thumbnail_uri == embedded.frames[3].thumbnail_uri


async def test_a_video_fails_alone_and_whole(folder: Path) -> None:
    (folder / "videos" / "song.mp4").write_bytes(sound())
    (folder / "secret.mp4").write_bytes(b"")
    videos = [uri_of(folder, "song.mp4"), uri_of(folder), uri_of(folder, "none.mp4"), (folder / "secret.mp4").as_uri()]
    found = await service_of(folder).embed_videos([VideoUri(uri) for uri in videos])
    codes = [each.code if isinstance(each, ItemFailure) else "fine" for each in found]
    assert codes == ["not_a_video", "fine", "picture_not_found", "uri_not_allowed"]


async def test_a_video_of_more_frames_than_are_held_at_once_comes_whole(folder: Path) -> None:
    (embedded,) = await service_of(folder).embed_videos([VideoUri(uri_of(folder), FramePolicy(0.1))])
    assert isinstance(embedded, EmbeddedVideo)
    assert len(embedded.frames) == 60 > FRAMES_AT_ONCE


async def test_a_file_is_read_in_parts_under_the_allowed_roots_only(folder: Path) -> None:
    service = service_of(folder)
    whole = (folder / "videos" / "clip.mp4").read_bytes()
    part = await service.read_file_part(uri_of(folder), 10, 20)
    assert (part.data, part.start, part.total) == (whole[10:30], 10, len(whole))
    assert (await service.read_file_part(uri_of(folder), len(whole) - 3, 99)).data == whole[-3:]
    with pytest.raises(InvalidRange):
        await service.read_file_part(uri_of(folder), len(whole), 1)
    with pytest.raises(UriNotAllowed):
        await service.read_file_part((folder / "secret.mp4").as_uri(), 0, 1)


@pytest.fixture(scope="module")
def bucket() -> Bucket:
    with s3_bucket("videos") as bucket:
        yield bucket


async def test_a_video_in_a_bucket_is_copied_and_read_in_parts(folder: Path, bucket: Bucket) -> None:
    store = ObstoreObjectStore(bucket.uri, bucket.options)
    data = (folder / "videos" / "clip.mp4").read_bytes()
    uri = await store.put(hashlib.sha256(data).hexdigest(), "video/mp4", data)
    service = service_of(folder, bucket.uri, bucket.options)
    (embedded,) = await service.embed_videos([VideoUri(uri, FramePolicy(2.0))])
    assert isinstance(embedded, EmbeddedVideo)
    assert [frame.offset_s for frame in embedded.frames] == [0, 2, 4]
    assert (await service.read_file_part(uri, 5, 10)).data == data[5:15]
    with pytest.raises(InvalidRange):
        await service.read_file_part(uri, len(data) + 1, 1)
