"""Fakes of the parts beyond the ports, whose vectors a test can explain.

A text or a picture means the concepts that it names: "red boat" points along `red` and `boat`. All texts share one more
direction, all pictures another: the modality gap of real models. A picture's file is b"picture: red boat".
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from serve_app.core.failures import failure_of
from serve_app.core.ids import sha256_of
from serve_app.core.vectors import unit
from serve_app.core.videos import video_content
from serve_app.errors import InvalidRange, NotAPicture, NotAVideo, PictureNotFound
from serve_app.types import (
    EmbeddedFrame,
    EmbeddedPicture,
    EmbeddedVideo,
    Embedding,
    EncoderCard,
    FilePart,
    FloatVector,
    ImagePreprocessing,
    InlinePicture,
    ItemFailure,
    Modality,
    PictureContent,
    PictureTask,
    VideoUri,
)

CONCEPTS = ("red", "blue", "green", "boat", "cat", "house", "tree", "snow")
GAP = 2.0
DIMENSION = len(CONCEPTS) + 2
PREPROCESSING = ImagePreprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "squash", 0)
CARD = EncoderCard("fake", "none", "f" * 64, DIMENSION, 16, PREPROCESSING, "cpu", "float32", 100.0)
OTHER_CARD = EncoderCard("other", "none", "e" * 64, DIMENSION, 16, PREPROCESSING, "cpu", "float32", 100.0)


def vector_of(words: str, modality: Modality) -> FloatVector:
    values = np.zeros(DIMENSION, np.float32)
    for at, concept in enumerate(CONCEPTS):
        values[at] = words.replace(".", "").split().count(concept)
    values[-1 if modality is Modality.TEXT else -2] = GAP
    return unit(values)


def picture_of(words: str) -> InlinePicture:
    return InlinePicture(b"picture: " + words.encode())


class FakeTextEncoding:
    def __init__(self, card: EncoderCard = CARD) -> None:
        self.card = card
        self.encoded: list[str] = []

    async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        self.encoded += texts
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Embedding:
        words = len(text.split())  # each a token, as are begin and end
        vector = vector_of(text, Modality.TEXT)
        return Embedding(vector, self.card.fingerprint, truncated=words > 16, tokens=min(words + 2, 16))

    async def describe(self) -> EncoderCard:
        return self.card


class FakePictureWork:
    """Keeps pictures in a dictionary; takes any bytes that begin with `picture:` or with PNG's signature."""

    def __init__(self, card: EncoderCard = CARD) -> None:
        self.card = card
        self.files: dict[str, bytes] = {}
        self.encoded: list[bytes] = []

    async def embed_pictures(self, tasks: Sequence[PictureTask]) -> list[EmbeddedPicture | ItemFailure]:
        return [self._embed(task) for task in tasks]

    def _embed(self, task: PictureTask) -> EmbeddedPicture | ItemFailure:
        if isinstance(task.picture, InlinePicture):
            data, uri = task.picture.data, None
        else:
            uri = task.picture.uri
            if uri not in self.files:
                return failure_of(PictureNotFound(f"there is nothing at {uri}"))
            data = self.files[uri]
        if not data.startswith((b"picture: ", b"\x89PNG")):
            return failure_of(NotAPicture("these bytes are not a picture"))
        self.encoded.append(data)
        if task.keep and uri is None:
            uri = f"memory://{sha256_of(data)}"
            self.files[uri] = data
        words = data.removeprefix(b"picture: ").decode(errors="replace")
        return EmbeddedPicture(sha256_of(data), uri, Embedding(vector_of(words, Modality.IMAGE), self.card.fingerprint))

    async def identify_pictures(self, uris: Sequence[str]) -> list[str | ItemFailure]:
        return [
            sha256_of(self.files[uri])
            if uri in self.files
            else failure_of(PictureNotFound(f"there is nothing at {uri}"))
            for uri in uris
        ]

    async def identify_videos(self, videos: Sequence[VideoUri]) -> list[str | ItemFailure]:
        return await self.identify_pictures([video.uri for video in videos])

    async def embed_videos(self, videos: Sequence[VideoUri]) -> list[EmbeddedVideo | ItemFailure]:
        """b"video: red boat|blue cat" shows each of them for `every_s`; by scenes, equal neighbours are one."""
        return [self._embed_video(video) for video in videos]

    def _embed_video(self, video: VideoUri) -> EmbeddedVideo | ItemFailure:
        data = self.files[video.uri]
        if not data.startswith(b"video: "):
            return failure_of(NotAVideo("these bytes are not a video"))
        self.encoded.append(data)
        shown = data.removeprefix(b"video: ").decode().split("|")
        every_s = video.policy.every_s or 2.0
        frames = []
        for place, words in enumerate(shown):
            if video.policy.every_s is None and place and shown[place - 1] == words:
                continue
            jpeg = b"picture: " + words.encode()
            uri = f"memory://{sha256_of(jpeg)}"
            self.files[uri] = jpeg
            embedding = Embedding(vector_of(words, Modality.VIDEO_FRAME), self.card.fingerprint)
            frames.append(EmbeddedFrame(place * every_s, uri, embedding))
        return EmbeddedVideo(video_content(sha256_of(data), video.policy, 640, len(frames)), tuple(frames))

    async def read_file_part(self, uri: str, start: int, length: int) -> FilePart:
        data = self.files[uri]
        if start >= len(data):
            raise InvalidRange(f"the file has {len(data)} bytes")
        return FilePart(data[start : start + length], start, len(data))

    async def sign(self, uris: Sequence[str]) -> list[str | None]:
        return [f"https://signed.test/{uri.rpartition('/')[2]}?by=us" if uri in self.files else None for uri in uris]

    async def read_picture(self, uri: str) -> PictureContent:
        return PictureContent("image/png", data=self.files[uri])

    async def thumbnail(self, uri: str, size_px: int) -> PictureContent:
        return PictureContent("image/jpeg", data=self.files[uri][:size_px])


async def until(condition: "object", timeout_s: float = 5.0) -> None:
    """Wait until a callable is true; raises TimeoutError."""
    assert callable(condition)
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (any condition, not an event)
            await asyncio.sleep(0.001)
