"""Rows of a table, read again for another model."""

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.core.failures import failure_of
from serve_app.core.ids import content_sha256, sha256_of
from serve_app.core.planning import same_row
from serve_app.errors import NotAPicture, PictureNotFound
from serve_app.services.bulk import BulkEncoding
from serve_app.services.rereading import Reread, RowPreparation
from serve_app.types import (
    Document,
    Embedding,
    ItemFailure,
    Modality,
    Record,
    StoredDocument,
)
from tests.fakes.parts import OTHER_CARD, PREPROCESSING, vector_of
from tests.fakes.table import MemoryTable

MONDAY, TUESDAY = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


FILES = {"memory://boat": png("red"), "memory://frame": png("blue"), "memory://words": b"no pixels"}
DECODER = PictureDecoder(max_bytes=10_000, max_pixels=10_000, max_aspect_ratio=50)


class Files:
    async def fetch(self, uri: str) -> bytes:
        if uri not in FILES:
            raise PictureNotFound(f"there is nothing at {uri}")
        return FILES[uri]

    async def fetch_all(self, uris: Sequence[str]) -> list[bytes | ItemFailure]:
        missing = failure_of(PictureNotFound("there is nothing there"))
        return [FILES.get(uri, missing) for uri in uris]


def document(name: str, modality: Modality, **others: object) -> Document:
    known: dict[str, object] = {"uri": None, "text": None, "content_sha256": "c" * 64, "metadata": {"n": 1}}
    return Document(id=name, modality=modality, created_at=MONDAY, updated_at=TUESDAY, **{**known, **others})  # type: ignore[arg-type]


def preparation(table: MemoryTable) -> RowPreparation:
    return RowPreparation(Files(), DECODER, table, PREPROCESSING, observe=lambda *_: None)


async def encode_texts(texts: object) -> list[Embedding | ItemFailure]:
    return [Embedding(vector_of(text, Modality.TEXT), OTHER_CARD.fingerprint) for text in texts]  # type: ignore[attr-defined]


async def encode_pixels(pictures: object) -> list[Embedding | ItemFailure]:
    return [Embedding(vector_of("boat", Modality.IMAGE), OTHER_CARD.fingerprint) for _ in pictures]  # type: ignore[attr-defined]


async def records(documents: list[Document], table: MemoryTable | None = None) -> list[Record | ItemFailure]:
    prepared = await preparation(table or MemoryTable()).prepare(documents)
    encoding = BulkEncoding(encode_texts, encode_pixels, image_weight=0.5)
    encoded = iter(await encoding.encode([each for each in prepared if isinstance(each, Reread)]))
    return [next(encoded) if isinstance(each, Reread) else each for each in prepared]


async def test_all_of_a_row_stays_but_its_vector() -> None:
    boat = sha256_of(FILES["memory://boat"])
    rows = [
        document("t", Modality.TEXT, text="red boat", content_sha256=content_sha256("red boat", None)),
        document("i", Modality.IMAGE, uri="memory://boat", content_sha256=content_sha256(None, boat)),
        document("b", Modality.IMAGE_TEXT, uri="memory://boat", text="x", content_sha256=content_sha256("x", boat)),
        document(
            "f", Modality.VIDEO_FRAME, uri="memory://film", thumbnail_uri="memory://frame", offset_s=2.0, text="A film"
        ),
    ]
    made = await records(rows)
    for row, record in zip(rows, made, strict=True):
        assert isinstance(record, Record)
        assert record.fingerprint == OTHER_CARD.fingerprint
        assert (record.created_at, record.updated_at) == (MONDAY, TUESDAY)
        assert same_row(record, StoredDocument(row, record.vector, record.fingerprint))


async def test_a_frame_is_its_kept_picture_alone() -> None:
    frame = document("f", Modality.VIDEO_FRAME, uri="memory://film", thumbnail_uri="memory://frame", text="A film")
    (prepared,) = await preparation(MemoryTable()).prepare([frame])
    assert isinstance(prepared, Reread)
    assert prepared.words is None
    assert prepared.pixels is not None


async def test_a_picture_that_is_gone_or_none_fails_alone() -> None:
    lost = document("gone", Modality.IMAGE, uri="memory://nowhere")
    broken = document("words", Modality.IMAGE, uri="memory://words")
    good = document("t", Modality.TEXT, text="boat")
    failures = await records([lost, good, broken])
    assert isinstance(failures[0], ItemFailure)
    assert isinstance(failures[1], Record)
    assert isinstance(failures[2], ItemFailure)
    assert (failures[0].code, failures[2].code) == (PictureNotFound.code, NotAPicture.code)


async def test_what_changed_beside_the_content_is_not_encoded_again() -> None:
    table = MemoryTable()
    await table.create(OTHER_CARD)
    row = document("t", Modality.TEXT, text="red boat", content_sha256=content_sha256("red boat", None))
    (first,) = await records([row], table)
    assert isinstance(first, Record)
    await table.upsert([first], {}, TUESDAY)
    changed = replace(row, metadata={"n": 2})
    (again,) = await preparation(table).prepare([changed])
    assert isinstance(again, Record)
    assert again.metadata == {"n": 2}
    assert np.array_equal(again.vector, first.vector)
