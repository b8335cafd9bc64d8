"""Videos become pictures: each wanted frame is kept as a JPEG, and its vector is that of what was kept. Knows no table."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import IO, TypeVar

from serve_app.core.failures import as_value, value_of
from serve_app.core.videos import video_content
from serve_app.errors import InternalError
from serve_app.ports import FileSource, PictureDecoding, PictureEmbedding, VideoDecoding
from serve_app.types import (
    EmbeddedFrame,
    EmbeddedVideo,
    FilePart,
    InlinePicture,
    ItemFailure,
    PictureTask,
    VideoFrame,
    VideoUri,
)

T = TypeVar("T")

FRAMES_AT_ONCE = 16
HASHED_BYTES = 4 * 1024 * 1024
MAX_PART_BYTES = 4 * 1024 * 1024


class FrameService:
    """The Preprocessor's work on videos. Of each at most FRAMES_AT_ONCE frames are in memory.

    `threads`: videos that are decoded side by side; others wait.
    """

    def __init__(
        self,
        pictures: PictureEmbedding,
        videos: VideoDecoding,
        jpeg: PictureDecoding,
        source: FileSource,
        *,
        max_bytes: int,
        frame_px: int,
        threads: int,
    ) -> None:
        self._pictures = pictures
        self._videos = videos
        self._jpeg = jpeg
        self._source = source
        self._max_bytes = max_bytes
        self._frame_px = frame_px
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="video")

    async def identify_videos(self, videos: Sequence[VideoUri]) -> list[str | ItemFailure]:
        """SHA-256 of each file."""
        return list(await asyncio.gather(*(as_value(self._identify(each)) for each in videos)))

    async def embed_videos(self, videos: Sequence[VideoUri]) -> list[EmbeddedVideo | ItemFailure]:
        """The frames of each video with their vectors. A frame is kept before it is returned; a video is whole or a failure."""
        return list(await asyncio.gather(*(as_value(self._embed(each)) for each in videos)))

    async def read_file_part(self, uri: str, start: int, length: int) -> FilePart:
        """Up to `length` bytes of a video's file, and no more than MAX_PART_BYTES."""
        return await self._source.read_part(uri, start, min(length, MAX_PART_BYTES))

    async def _identify(self, video: VideoUri) -> str:
        async with self._source.open_file(video.uri, self._max_bytes) as file:
            return await self._in_thread(file_sha256, file)

    async def _embed(self, video: VideoUri) -> EmbeddedVideo:
        embedded: list[EmbeddedFrame] = []
        async with self._source.open_file(video.uri, self._max_bytes) as file:
            sha256 = await self._in_thread(file_sha256, file)
            frames = self._videos.frames(file, video.policy)
            while taken := await self._in_thread(self._next_jpegs, frames):
                embedded += await self._kept(taken)
        content = video_content(sha256, video.policy, self._frame_px, len(embedded))
        return EmbeddedVideo(content, tuple(embedded))

    def _next_jpegs(self, frames: Iterator[VideoFrame]) -> list[tuple[float, bytes]]:
        return [(frame.offset_s, self._jpeg.to_jpeg(frame.pixels)) for frame in islice(frames, FRAMES_AT_ONCE)]

    async def _kept(self, frames: Sequence[tuple[float, bytes]]) -> list[EmbeddedFrame]:
        tasks = [PictureTask(InlinePicture(jpeg), keep=True) for _, jpeg in frames]
        pictures = [value_of(each) for each in await self._pictures.embed_pictures(tasks)]
        found = []
        for (offset_s, _), picture in zip(frames, pictures, strict=True):
            if picture.uri is None:
                raise InternalError("a frame was not kept")
            found.append(EmbeddedFrame(offset_s, picture.uri, picture.embedding))
        return found

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def file_sha256(file: IO[bytes]) -> str:
    """Of the whole file; reads it in pieces."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(HASHED_BYTES):
        digest.update(piece)
    return digest.hexdigest()
