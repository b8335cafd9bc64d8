"""Bulk work on documents: many at a time, in steps that run in different processes. Knows no Ray and no source.

What a document is, when it is unchanged, and what row it becomes, follows from core.planning, as for documents by HTTP.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from serve_app.core.failures import as_value, failure_of, value_of
from serve_app.core.ids import sha256_of
from serve_app.core.planning import DocumentPlan, plan_document, record_of, record_of_known, same_row
from serve_app.core.source_items import SourceItem
from serve_app.errors import CrossmodalError, PictureTooLarge
from serve_app.ports import DocumentTable, ImageSource, ObjectStore, PictureDecoding
from serve_app.types import Embedding, FieldSpec, ImagePreprocessing, ItemFailure, Pixels, Record, StoredDocument

T = TypeVar("T")

MAX_PUTS = 16


class Observe(Protocol):
    """Hears what a step has done: so many items and bytes, in so many seconds of one worker."""

    def __call__(self, stage: str, items: int, size: int, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document that is read and checked, and that the table has not. `data`: its picture, as it came."""

    plan: DocumentPlan
    data: bytes | None
    picture_sha256: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that is read, checked and decoded, and still to be encoded. `uri`: where its picture lies by now."""

    plan: DocumentPlan
    uri: str | None
    picture_sha256: str | None
    pixels: Pixels | None

    @property
    def words(self) -> str | None:
        """What of it is encoded as text."""
        return self.plan.text

    def record(self, words: Embedding | None, seen: Embedding | None, image_weight: float) -> Record:
        """The row, once it is encoded."""
        return record_of(
            self.plan, words, seen, uri=self.uri, picture_sha256=self.picture_sha256, image_weight=image_weight
        )


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A document that the table has already, word for word."""

    id: str


class BulkPreparation:
    """Fetch, and leave out what is unchanged. One bad item fails alone.

    `table`: what there is already; None where nothing is. `copies`: pictures are kept in the object store even where they have a
    URI. `declared`: the fields of the table.
    """

    def __init__(
        self,
        source: ImageSource,
        table: DocumentTable | None,
        *,
        declared: Mapping[str, FieldSpec],
        max_characters: int,
        max_bytes: int,
        copies: bool,
        observe: Observe,
    ) -> None:
        self._source = source
        self._table = table
        self._declared = declared
        self._max_characters = max_characters
        self._max_bytes = max_bytes
        self._copies = copies
        self._observe = observe

    async def prepare(self, items: Sequence[SourceItem]) -> list[Fetched | Record | Unchanged | ItemFailure]:
        """What each item became. A Record is a row with a known vector, of which something else has changed."""
        with timed(self._observe, "fetch") as done:
            pictures = await self._pictures(items)
            done(len(items), sum(len(each) for each in pictures if isinstance(each, bytes)))
        hashes = [sha256_of(data) if isinstance(data, bytes) else data for data in pictures]
        plans = [self._plan(item, picture) for item, picture in zip(items, hashes, strict=True)]
        with timed(self._observe, "compare") as done:
            known = await self._known([plan.id for plan in plans if isinstance(plan, DocumentPlan)])
            done(len(known), 0)
        return [
            plan
            if isinstance(plan, ItemFailure)
            else _known_as(plan, known.get(plan.id)) or Fetched(plan, _value_or_none(data), _value_or_none(picture))
            for plan, data, picture in zip(plans, pictures, hashes, strict=True)
        ]

    def _plan(self, item: SourceItem, picture_sha256: str | ItemFailure | None) -> DocumentPlan | ItemFailure:
        if isinstance(picture_sha256, ItemFailure):
            return picture_sha256
        try:
            return plan_document(
                given_id=item.id,
                text=item.text,
                picture_sha256=picture_sha256,
                uri=None if self._copies else item.uri,
                metadata=item.metadata,
                fields=item.fields,
                declared=self._declared,
                max_characters=self._max_characters,
            )
        except CrossmodalError as error:
            return failure_of(error)

    async def _pictures(self, items: Sequence[SourceItem]) -> list[bytes | ItemFailure | None]:
        """Of each item, where it has one."""
        fetched = iter(
            await self._source.fetch_all([item.uri for item in items if item.data is None and item.uri is not None])
        )
        return [
            self._bounded(item.data) if item.data is not None else None if item.uri is None else next(fetched)
            for item in items
        ]

    def _bounded(self, data: bytes) -> bytes | ItemFailure:
        if len(data) <= self._max_bytes:
            return data
        return failure_of(
            PictureTooLarge(f"the picture has {len(data):,} bytes, at most {self._max_bytes:,} are taken")
        )

    async def _known(self, ids: Sequence[str]) -> dict[str, StoredDocument]:
        if self._table is None or not ids:
            return {}
        return {row.document.id: row for row in await self._table.get(ids) if row is not None}


class BulkDecoding:
    """Pictures to pixels, and into the object store where they have no URI. One bad picture fails alone."""

    def __init__(
        self, decoder: PictureDecoding, store: ObjectStore, preprocessing: ImagePreprocessing, *, observe: Observe
    ) -> None:
        self._decoder = decoder
        self._store = store
        self._preprocessing = preprocessing
        self._observe = observe
        self._puts = asyncio.Semaphore(MAX_PUTS)

    async def decode(self, items: Sequence[Fetched]) -> list[Prepared | ItemFailure]:
        """Each document, ready to be encoded, or its failure."""
        # Kept only once it proved to be a picture, and before any row points to it.
        return await asyncio.gather(*(as_value(self._kept(item, self._decoded(item))) for item in items))

    def _decoded(self, item: Fetched) -> Pixels | ItemFailure | None:
        if item.data is None:
            return None
        try:
            with timed(self._observe, "decode") as done:
                pixels = self._decoder.to_pixels(item.data, self._preprocessing)
                done(1, len(item.data))
        except CrossmodalError as error:
            return failure_of(error)
        return pixels

    async def _kept(self, item: Fetched, pixels: Pixels | ItemFailure | None) -> Prepared:
        if item.data is None or pixels is None or item.picture_sha256 is None:
            return Prepared(item.plan, None, None, None)
        seen = value_of(pixels)
        uri = item.plan.uri
        if uri is None:
            async with self._puts:
                uri = await self._store.put(item.picture_sha256, self._decoder.media_type(item.data), item.data)
        return Prepared(item.plan, uri, item.picture_sha256, seen)


class BulkEncoding:
    """Prepared documents to rows: all texts and all pictures of a batch travel together. One bad item fails alone."""

    def __init__(
        self,
        encode_texts: Callable[[Sequence[str]], Awaitable[list[Embedding | ItemFailure]]],
        encode_pixels: Callable[[Sequence[Pixels]], Awaitable[list[Embedding | ItemFailure]]],
        *,
        image_weight: float,
    ) -> None:
        self._encode_texts = encode_texts
        self._encode_pixels = encode_pixels
        self._image_weight = image_weight

    async def encode(self, items: Sequence[Prepared]) -> list[Record | ItemFailure]:
        """The row of each document, or its failure."""
        texts = [item.words for item in items if item.words is not None]
        pictures = [item.pixels for item in items if item.pixels is not None]
        # One after the other: both would want the same cores, or the same GPU.
        words = iter(await self._encode_texts(texts) if texts else [])
        seen = iter(await self._encode_pixels(pictures) if pictures else [])
        return [
            self._record(
                item,
                next(words) if item.words is not None else None,
                next(seen) if item.pixels is not None else None,
            )
            for item in items
        ]

    def _record(
        self, item: Prepared, words: Embedding | ItemFailure | None, seen: Embedding | ItemFailure | None
    ) -> Record | ItemFailure:
        try:
            return item.record(
                None if words is None else value_of(words),
                None if seen is None else value_of(seen),
                self._image_weight,
            )
        except CrossmodalError as error:
            return failure_of(error)


@contextmanager
def timed(observe: Observe, stage: str) -> Iterator[Callable[[int, int], None]]:
    """Tells `observe` what was done in the block, and how long it took."""
    began, counted = time.perf_counter(), (0, 0)

    def done(items: int, size: int) -> None:
        nonlocal counted
        counted = (items, size)

    yield done
    observe(stage, *counted, time.perf_counter() - began)


def _known_as(plan: DocumentPlan, row: StoredDocument | None) -> Record | Unchanged | None:
    """What is left to do for a document whose content the table has; None where it has not."""
    if row is None or not plan.describes(row):
        return None
    record = record_of_known(plan, row)
    return Unchanged(plan.id) if same_row(record, row) else record


def _value_or_none(result: T | ItemFailure | None) -> T | None:
    return None if result is None else value_of(result)
