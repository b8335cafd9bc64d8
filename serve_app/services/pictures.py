"""Everything that touches the bytes of pictures: fetch, check, decode, keep, hand to the image encoder. Knows no model."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from serve_app.core.failures import as_value, failure_of
from serve_app.core.ids import sha256_of
from serve_app.errors import CrossmodalError, PictureTooLarge
from serve_app.ports import ImageSource, ObjectStore, PictureDecoding, PixelEncoding
from serve_app.types import (
    EmbeddedPicture,
    Embedding,
    ImagePreprocessing,
    InlinePicture,
    ItemFailure,
    Picture,
    PictureContent,
    PictureTask,
    Pixels,
)

T = TypeVar("T")


class _File(NamedTuple):
    """A picture file that proved to be one."""

    data: bytes
    content_sha256: str
    pixels: Pixels


class PictureService:
    """The Preprocessor's work. Decoding runs in threads: PIL releases the interpreter's lock while it decodes.

    `threads`: of those for what people ask and wait for, and of those for what is stored.
    """

    def __init__(
        self,
        decoder: PictureDecoding,
        source: ImageSource,
        store: ObjectStore,
        encoding: PixelEncoding,
        *,
        max_bytes: int,
        threads: int,
    ) -> None:
        self._decoder = decoder
        self._source = source
        self._store = store
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._asked, self._stored = (ThreadPoolExecutor(threads, f"{name}-decoder") for name in ("asked", "stored"))
        self._preprocessing: ImagePreprocessing | None = None

    async def embed_pictures(self, tasks: Sequence[PictureTask]) -> list[EmbeddedPicture | ItemFailure]:
        """Each picture's hash, URI and embedding. A picture is kept before its embedding is returned.

        What came together is encoded together: one by one, as they are decoded, they would make many small batches.
        """
        files = await asyncio.gather(*(as_value(self._read(task)) for task in tasks))
        sound = [(task, file) for task, file in zip(tasks, files, strict=True) if isinstance(file, _File)]
        # Kept only once it proved to be a picture; encoded meanwhile.
        vectors, uris = await asyncio.gather(
            self._encode(sound),
            asyncio.gather(*(as_value(self._keep(task, file)) for task, file in sound)),
        )
        embedded = iter(
            _embedded(file, uri, vector) for (_, file), uri, vector in zip(sound, uris, vectors, strict=True)
        )
        return [next(embedded) if isinstance(file, _File) else file for file in files]

    async def identify_pictures(self, uris: Sequence[str]) -> list[str | ItemFailure]:
        """SHA-256 of the file behind each URI."""
        return list(await asyncio.gather(*(as_value(self._identify(uri)) for uri in uris)))

    async def read_picture(self, uri: str) -> PictureContent:
        """The file as it lies there, or a signed address of it."""
        url = await self._store.signed_url(uri) if self._store.owns(uri) else None
        if url is not None:
            return PictureContent(media_type="application/octet-stream", url=url)
        data = await self._source.fetch(uri)
        return PictureContent(media_type=self._decoder.media_type(data), data=data)

    async def sign(self, uris: Sequence[str]) -> list[str | None]:
        """For each URI an address that a browser can fetch for a short while; None for a local folder and what we do not own."""
        return list(await asyncio.gather(*(self._sign(uri) for uri in uris)))

    async def thumbnail(self, uri: str, size_px: int) -> PictureContent:
        """A JPEG whose longer side is at most `size_px` pixels."""
        data = await self._source.fetch(uri)
        small = await _in_thread(self._asked, self._decoder.to_thumbnail, data, size_px)
        return PictureContent(media_type="image/jpeg", data=small)

    async def _sign(self, uri: str) -> str | None:
        if uri.startswith(("https://", "http://")):
            return uri
        return await self._store.signed_url(uri) if self._store.owns(uri) else None

    async def _read(self, task: PictureTask) -> _File:
        data = await self._bytes_of(task.picture)
        threads = self._stored if task.keep else self._asked
        pixels = await _in_thread(threads, self._decoder.to_pixels, data, await self._wanted_preprocessing())
        return _File(data, sha256_of(data), pixels)

    async def _encode(self, sound: Sequence[tuple[PictureTask, _File]]) -> list[Embedding | ItemFailure]:
        pictures = [file.pixels for _, file in sound]
        # Who asks with a picture waits for the answer; what is stored may wait for them.
        urgent = not any(task.keep for task, _ in sound)
        try:
            return await self._encoding.encode_pixels(pictures, urgent=urgent) if pictures else []
        except CrossmodalError as error:
            return [failure_of(error)] * len(pictures)

    async def _keep(self, task: PictureTask, file: _File) -> str | None:
        if not isinstance(task.picture, InlinePicture):
            return task.picture.uri
        if not task.keep:
            return None
        return await self._store.put(file.content_sha256, self._decoder.media_type(file.data), file.data)

    async def _identify(self, uri: str) -> str:
        return sha256_of(await self._source.fetch(uri))

    async def _bytes_of(self, picture: Picture) -> bytes:
        if not isinstance(picture, InlinePicture):
            return await self._source.fetch(picture.uri)
        if len(picture.data) > self._max_bytes:
            raise PictureTooLarge(f"the picture has {len(picture.data):,} bytes, at most {self._max_bytes:,} are taken")
        return picture.data

    async def _wanted_preprocessing(self) -> ImagePreprocessing:
        if self._preprocessing is None:
            self._preprocessing = (await self._encoding.describe()).preprocessing
        return self._preprocessing


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)


def _embedded(
    file: _File, uri: str | ItemFailure | None, vector: Embedding | ItemFailure
) -> EmbeddedPicture | ItemFailure:
    if isinstance(vector, ItemFailure):
        return vector
    return uri if isinstance(uri, ItemFailure) else EmbeddedPicture(file.content_sha256, uri, vector)
