"""Rows of a table made ready to be encoded by another model: from their texts, and from the pictures that they point to.

All else of a row stays word for word, its times among it. Knows no Ray, and not where the rows came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from serve_app.core.failures import failure_of
from serve_app.core.ids import sha256_of
from serve_app.core.planning import DocumentPlan, record_of, record_of_known
from serve_app.errors import CrossmodalError, PictureNotFound
from serve_app.ports import DocumentTable, ImageSource, PictureDecoding
from serve_app.services.bulk import Observe, Prepared, timed
from serve_app.types import (
    Document,
    Embedding,
    ImagePreprocessing,
    ItemFailure,
    Modality,
    Record,
    StoredDocument,
)


@dataclass(frozen=True, slots=True)
class Reread(Prepared):
    """A row of another table, read again and still to be encoded."""

    document: Document

    @property
    def words(self) -> str | None:
        # The text of a frame says what its video is about, and is in no vector.
        return None if self.document.modality is Modality.VIDEO_FRAME else self.plan.text

    def record(self, words: Embedding | None, seen: Embedding | None, image_weight: float) -> Record:
        row = record_of(
            self.plan, words, seen, uri=self.uri, picture_sha256=self.picture_sha256, image_weight=image_weight
        )
        if self.document.modality is Modality.VIDEO_FRAME:
            # That of the video: its frames belong together by it.
            row = replace(row, content_sha256=self.document.content_sha256)
        return _as_it_was(row, self.document)


class RowPreparation:
    """Fetch and decode what rows point to.

    `table`: the one that is made; what it has of the same content is not encoded again.
    """

    def __init__(
        self,
        source: ImageSource,
        decoder: PictureDecoding,
        table: DocumentTable,
        preprocessing: ImagePreprocessing,
        *,
        observe: Observe,
    ) -> None:
        self._source = source
        self._decoder = decoder
        self._table = table
        self._preprocessing = preprocessing
        self._observe = observe

    async def prepare(self, documents: Sequence[Document]) -> list[Reread | Record | ItemFailure]:
        """What each row became. A Record has a vector already: only other things of it have changed."""
        with timed(self._observe, "compare") as done:
            known = await self._known(documents)
            done(len(known), 0)
        wanted = [document for document in documents if document.id not in known]
        with timed(self._observe, "fetch") as done:
            pictures = await self._pictures(wanted)
            done(len(wanted), sum(len(each) for each in pictures if isinstance(each, bytes)))
        read = dict(zip((document.id for document in wanted), pictures, strict=True))
        return [
            _as_it_was(record_of_known(_plan(document), known[document.id]), document)
            if document.id in known
            else self._reread(document, read[document.id])
            for document in documents
        ]

    def _reread(self, document: Document, data: bytes | ItemFailure | None) -> Reread | ItemFailure:
        if isinstance(data, ItemFailure):
            return data
        if data is None:
            return Reread(_plan(document), document.uri, None, None, document)
        try:
            with timed(self._observe, "decode") as done:
                pixels = self._decoder.to_pixels(data, self._preprocessing)
                done(1, len(data))
        except CrossmodalError as error:
            return failure_of(error)
        # Of what lies there now: a file may have changed since it was stored.
        return Reread(_plan(document), document.uri, sha256_of(data), pixels, document)

    async def _pictures(self, documents: Sequence[Document]) -> list[bytes | ItemFailure | None]:
        """Of each document that is more than a text; a failure where it cannot be read."""
        uris = [_picture_uri(document) for document in documents]
        fetched = iter(await self._source.fetch_all([uri for uri in uris if uri is not None]))
        return [
            next(fetched) if uri is not None else None if document.modality is Modality.TEXT else _no_picture(document)
            for document, uri in zip(documents, uris, strict=True)
        ]

    async def _known(self, documents: Sequence[Document]) -> Mapping[str, StoredDocument]:
        rows = [row for row in await self._table.get([each.id for each in documents]) if row is not None]
        by_id = {row.document.id: row for row in rows}
        return {
            each.id: by_id[each.id]
            for each in documents
            if each.id in by_id and _plan(each).describes(by_id[each.id]) and _same_place(each, by_id[each.id])
        }


def _picture_uri(document: Document) -> str | None:
    if document.modality is Modality.TEXT:
        return None
    return document.thumbnail_uri if document.modality is Modality.VIDEO_FRAME else document.uri


def _no_picture(document: Document) -> ItemFailure:
    return failure_of(PictureNotFound(f"the document {document.id!r} points to no picture"))


def _plan(document: Document) -> DocumentPlan:
    return DocumentPlan(
        id=document.id,
        modality=document.modality,
        text=document.text,
        uri=document.uri,
        content_sha256=document.content_sha256,
        metadata=document.metadata,
        fields=document.fields,
    )


def _same_place(document: Document, row: StoredDocument) -> bool:
    """The content of a frame is that of its video; which frame it is, its place says."""
    return (document.offset_s, document.thumbnail_uri) == (row.document.offset_s, row.document.thumbnail_uri)


def _as_it_was(record: Record, document: Document) -> Record:
    return replace(
        record,
        offset_s=document.offset_s,
        thumbnail_uri=document.thumbnail_uri,
        created_at=document.created_at,
        updated_at=document.updated_at,
    )
