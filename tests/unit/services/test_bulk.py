"""Items of a source on their way to rows: fetched and compared in one step, decoded and kept in the next."""

import io
from collections.abc import Sequence

import pytest
from PIL import Image

from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.core.failures import failure_of
from serve_app.core.ids import sha256_of
from serve_app.core.source_items import SourceItem
from serve_app.errors import CrossmodalError, EmptyText, NotAPicture, PictureNotFound, PictureTooLarge
from serve_app.services.bulk import BulkDecoding, BulkEncoding, BulkPreparation, Fetched, Prepared, Unchanged
from serve_app.services.committing import commit
from serve_app.types import Embedding, ItemFailure, Modality, Record
from tests.fakes.object_store import MemoryObjectStore
from tests.fakes.parts import CARD, PREPROCESSING, vector_of
from tests.fakes.table import MemoryTable

MAX_BYTES = 10_000


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


BOAT, CAT, WORDS = png("red"), png("blue"), b"no pixels"
FILES = {"memory://boat": BOAT, "memory://words": WORDS}
DECODER = PictureDecoder(max_bytes=MAX_BYTES, max_pixels=10_000, max_aspect_ratio=50)


class Files:
    async def fetch(self, uri: str) -> bytes:
        if uri not in FILES:
            raise PictureNotFound(f"there is nothing at {uri}")
        return FILES[uri]

    async def fetch_all(self, uris: Sequence[str]) -> list[bytes | ItemFailure]:
        missing = failure_of(PictureNotFound("there is nothing there"))
        return [FILES.get(uri, missing) for uri in uris]


class Job:
    """The three steps, and the table and the store that they are about."""

    def __init__(self, *, copies: bool = False, compares: bool = True) -> None:
        self.table, self.store = MemoryTable(), MemoryObjectStore()
        self.seen: list[str] = []
        self.preparation = BulkPreparation(
            Files(),
            self.table if compares else None,
            declared={},
            max_characters=1000,
            max_bytes=MAX_BYTES,
            copies=copies,
            observe=lambda stage, *_: self.seen.append(stage),
        )
        self.decoding = BulkDecoding(
            DECODER, self.store, PREPROCESSING, observe=lambda stage, *_: self.seen.append(stage)
        )
        self.encoding = BulkEncoding(self._texts, self._pixels, image_weight=0.5)

    async def run(self, *items: SourceItem) -> list[Record | Unchanged | ItemFailure]:
        outcomes = await self.preparation.prepare(items)
        ready = iter(await self.decoding.decode([each for each in outcomes if isinstance(each, Fetched)]))
        prepared = [next(ready) if isinstance(each, Fetched) else each for each in outcomes]
        encoded = iter(await self.encoding.encode([each for each in prepared if isinstance(each, Prepared)]))
        return [next(encoded) if isinstance(each, Prepared) else each for each in prepared]

    async def _texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        return [Embedding(vector_of(text, Modality.TEXT), CARD.fingerprint) for text in texts]

    async def _pixels(self, pictures: Sequence[object]) -> list[Embedding | ItemFailure]:
        return [Embedding(vector_of("boat", Modality.IMAGE), CARD.fingerprint) for _ in pictures]


def item(name: str, *, uri: str | None = None, text: str | None = None, data: bytes | None = None) -> SourceItem:
    return SourceItem(key=name, id=name, uri=uri, text=text, data=data, metadata={}, fields={})


async def test_what_is_broken_fails_alone_and_all_else_becomes_a_row() -> None:
    job = Job()
    bad: dict[str, tuple[SourceItem, type[CrossmodalError]]] = {
        "words": (item("words", uri="memory://words"), NotAPicture),
        "gone": (item("gone", uri="memory://gone"), PictureNotFound),
        "silent": (item("silent", text=" "), EmptyText),
        "large": (item("large", data=b"x" * (MAX_BYTES + 1)), PictureTooLarge),
    }
    good = [item("boat", uri="memory://boat"), item("text", text="a boat"), item("cat", data=CAT, text="a cat")]
    found = await job.run(*(each for each, _ in bad.values()), *good)
    codes = [each.code for each in found if isinstance(each, ItemFailure)]
    assert codes == [error.code for _, error in bad.values()]
    rows = [each for each in found if isinstance(each, Record)]
    assert [row.id for row in rows] == [each.id for each in good]
    assert [row.modality for row in rows] == [Modality.IMAGE, Modality.TEXT, Modality.IMAGE_TEXT]


@pytest.mark.parametrize("copies", [False, True])
async def test_pictures_are_kept_where_they_have_no_address_or_are_to_be_copied(copies: bool) -> None:
    job = Job(copies=copies)
    found = await job.run(
        item("boat", uri="memory://boat"), item("cat", data=CAT), item("words", data=WORDS), item("text", text="a boat")
    )
    kept = [CAT, BOAT] if copies else [CAT]
    assert {sha256_of(data) for data in job.store.objects.values()} == {sha256_of(data) for data in kept}
    boat, cat, _, text = found
    assert isinstance(boat, Record)
    assert isinstance(cat, Record)
    assert isinstance(text, Record)
    assert (boat.uri == "memory://boat") is not copies
    assert cat.uri in job.store.objects
    assert text.uri is None


async def test_what_the_table_has_is_neither_decoded_nor_encoded() -> None:
    job = Job()
    await job.table.create(CARD)
    items = [item("boat", uri="memory://boat"), item("text", text="a boat")]
    rows = [each for each in await job.run(*items) if isinstance(each, Record)]
    await commit(job.table, rows, 0)
    job.seen.clear()
    assert await job.run(*items) == [Unchanged("boat"), Unchanged("text")]
    assert "decode" not in job.seen


async def test_into_an_empty_table_nothing_is_compared() -> None:
    job = Job(compares=False)
    await job.table.create(CARD)
    rows = [each for each in await job.run(item("text", text="a boat")) if isinstance(each, Record)]
    await commit(job.table, rows, 0)
    assert [each.id for each in await job.run(item("text", text="a boat")) if isinstance(each, Record)] == ["text"]
