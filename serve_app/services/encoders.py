"""Which encoders are at work: those of the table in service, which may change while requests are under way. Knows no model.

A table belongs to one encoder. While the model of a service is changed, two sets of encoders run beside each other, and the
table in service says which of them the next request uses. A request that was under way when the switch came is refused by its
vectors' fingerprint, and that part of its work is done again by the encoders that are at work by then: nobody's request fails.
"""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from serve_app.errors import CrossmodalError, FingerprintMismatch, StaleTable
from serve_app.ports import PictureWork, TextEncoding
from serve_app.types import (
    EmbeddedPicture,
    EmbeddedVideo,
    Embedding,
    EncoderCard,
    FilePart,
    ItemFailure,
    PictureContent,
    PictureTask,
    TableInfo,
    VideoUri,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Before work is done again. Retrievers may see a switch later than the writer, by as much as `table.read_consistency_ms`.
PAUSES_S = (0.01, 0.1, 0.3, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class EncoderSet:
    """The ways into one space of vectors. `asked`: of texts that are asked for, which repeat and are remembered."""

    texts: TextEncoding
    asked: TextEncoding
    pictures: PictureWork


class Following(Protocol):
    """What a service knows of the encoders behind its ports."""

    @property
    def present(self) -> EncoderSet | None:
        """Those at work, to be compared with those of another moment."""
        ...

    async def look(self) -> bool:
        """Have those of the table in service at work from now on. False where there are none for it."""
        ...


class OneSet:
    """Following, where the encoders never change."""

    present: EncoderSet | None = None

    async def look(self) -> bool:
        return False


class EncodersInService:
    """Implements Following. `home`: the service's own encoders. `find` looks for those of another fingerprint.

    `table` tells the table in service; it is asked every `look_every_s` seconds while there is work, and when work is refused.
    """

    def __init__(
        self,
        home: EncoderSet,
        table: Callable[[], Awaitable[TableInfo]],
        find: Callable[[str], Awaitable[EncoderSet | None]],
        *,
        look_every_s: float,
    ) -> None:
        self._home = home
        self._table = table
        self._find = find
        self._look_every_s = look_every_s
        self._present = home
        self._serves = True
        self._known: dict[str, EncoderSet] = {}
        self._one_at_a_time = asyncio.Lock()
        self._looked_at = -float("inf")
        self._background: asyncio.Task[bool] | None = None
        # A look belongs to no one request: in the context of one, Ray would cancel it when that one gives up.
        self._context = contextvars.copy_context()

    @property
    def home(self) -> EncoderSet:
        return self._home

    @property
    def present(self) -> EncoderSet:
        return self._present

    def at_work(self) -> EncoderSet:
        """Those for the next piece of work; looks in the background whether others are wanted by now."""
        idle = self._background is None or self._background.done()
        if idle and time.monotonic() - self._looked_at > self._look_every_s:
            loop = asyncio.get_running_loop()
            self._background = loop.create_task(self.look(), context=self._context)
        return self._present

    async def look(self) -> bool:
        """See Following. What does not answer changes nothing: whoever needs it will say so."""
        began_at = time.monotonic()
        async with self._one_at_a_time:
            if self._looked_at < began_at:
                try:
                    found = await self._set_of((await self._table()).fingerprint)
                except CrossmodalError:
                    return False
                self._present, self._serves = found or self._home, found is not None
                self._looked_at = time.monotonic()
            return self._serves

    async def _set_of(self, fingerprint: str | None) -> EncoderSet | None:
        if fingerprint is None or (await self._home.asked.describe()).fingerprint == fingerprint:
            return self._home
        found = self._known.get(fingerprint) or await self._find(fingerprint)
        if found is not None:
            self._known[fingerprint] = found
        return found


async def across_switches(
    encoders: Following,
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Awaitable[Sequence[Result | ItemFailure]]],
    follows: Callable[[Item], bool] = lambda _: True,
) -> list[Result | ItemFailure]:
    """`work` on the items, and again on those that failed because another table was taken into service meanwhile.

    `follows`: whether an item is about the table in service at all.
    """
    since = encoders.present
    results = list(await work(items))
    for pause_s in PAUSES_S:
        mismatched = _failed(results, FingerprintMismatch.code)
        stale = _failed(results, StaleTable.code)
        if not mismatched and not stale:
            break
        serves = await encoders.look()
        # A version that no reader has seen yet may be one of a table that only other encoders can search.
        again = [*(mismatched if serves else ()), *(stale if encoders.present is not since else ())]
        again = [at for at in again if follows(items[at])]
        if not again:
            break
        await asyncio.sleep(pause_s)
        since = encoders.present
        for at, result in zip(again, await work([items[at] for at in again]), strict=True):
            results[at] = result
    return results


def _failed(results: Sequence[object], code: str) -> list[int]:
    return [at for at, each in enumerate(results) if isinstance(each, ItemFailure) and each.code == code]


class FollowingTexts:
    """ports.TextEncoding by the encoders at work. `asked`: see EncoderSet."""

    def __init__(self, encoders: EncodersInService, *, asked: bool) -> None:
        self._encoders = encoders
        self._asked = asked

    async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        return await self._texts().encode_texts(texts)

    async def describe(self) -> EncoderCard:
        return await self._texts().describe()

    def _texts(self) -> TextEncoding:
        found = self._encoders.at_work()
        return found.asked if self._asked else found.texts


class FollowingPictures:
    """ports.PictureWork: what becomes vectors by the encoders at work, all else by the service's own Preprocessor."""

    def __init__(self, encoders: EncodersInService) -> None:
        self._encoders = encoders

    async def embed_pictures(self, tasks: Sequence[PictureTask]) -> list[EmbeddedPicture | ItemFailure]:
        return await self._encoders.at_work().pictures.embed_pictures(tasks)

    async def embed_videos(self, videos: Sequence[VideoUri]) -> list[EmbeddedVideo | ItemFailure]:
        return await self._encoders.at_work().pictures.embed_videos(videos)

    async def identify_pictures(self, uris: Sequence[str]) -> list[str | ItemFailure]:
        return await self._encoders.home.pictures.identify_pictures(uris)

    async def identify_videos(self, videos: Sequence[VideoUri]) -> list[str | ItemFailure]:
        return await self._encoders.home.pictures.identify_videos(videos)

    async def read_picture(self, uri: str) -> PictureContent:
        return await self._encoders.home.pictures.read_picture(uri)

    async def sign(self, uris: Sequence[str]) -> list[str | None]:
        return await self._encoders.home.pictures.sign(uris)

    async def thumbnail(self, uri: str, size_px: int) -> PictureContent:
        return await self._encoders.home.pictures.thumbnail(uri, size_px)

    async def read_file_part(self, uri: str, start: int, length: int) -> FilePart:
        return await self._encoders.home.pictures.read_file_part(uri, start, length)
