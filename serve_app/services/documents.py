"""Put documents in, get them out, remove them. Knows neither models nor the table, only what they promise."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from serve_app.core.failures import failure_of, value_of
from serve_app.core.filters import check_filter
from serve_app.core.ids import sha256_of
from serve_app.core.planning import DocumentPlan, plan_document, record_of, record_of_known
from serve_app.errors import (
    CrossmodalError,
    DocumentNotFound,
    FingerprintMismatch,
    PictureNotFound,
)
from serve_app.ports import Indexing, PictureWork, Retrieval, TextEncoding
from serve_app.services.encoders import Following, OneSet, across_switches
from serve_app.services.videos import VideoService
from serve_app.types import (
    DeletedRows,
    DeleteOutcome,
    Document,
    DocumentInput,
    DocumentPage,
    EmbeddedPicture,
    Embedding,
    FieldSpec,
    FilePart,
    Filter,
    InlinePicture,
    ItemFailure,
    Optimized,
    Orphans,
    Picture,
    PictureContent,
    PictureTask,
    Record,
    StoredDocument,
    UpsertOutcome,
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A document with its plan. `known`: the row with its id, if its content is the same."""

    document: DocumentInput
    planned: DocumentPlan
    known: StoredDocument | None = None


class DocumentService:
    """Upsert, read and delete. Unchanged content is not encoded again; one bad document fails alone."""

    def __init__(
        self,
        texts: TextEncoding,
        pictures: PictureWork,
        retrieval: Retrieval,
        indexing: Indexing,
        *,
        max_characters: int,
        image_weight: float,
        fields: Mapping[str, FieldSpec] = MappingProxyType({}),
        frame_px: int = 640,
        encoders: Following | None = None,
    ) -> None:
        self._encoders = encoders or OneSet()
        self._videos = VideoService(
            pictures, retrieval, indexing, max_characters=max_characters, frame_px=frame_px, fields=fields
        )
        self._texts = texts
        self._pictures = pictures
        self._retrieval = retrieval
        self._indexing = indexing
        self._max_characters = max_characters
        self._image_weight = image_weight
        self._fields = fields
        self._prepared = False

    async def add(self, documents: Sequence[DocumentInput]) -> list[UpsertOutcome | ItemFailure]:
        """Store or replace; answered after the commit, in the order given."""
        for prepared in await across_switches(self._encoders, [len(documents)], self._prepare):
            value_of(prepared)
        return await across_switches(self._encoders, documents, self._add)

    async def _add(self, documents: Sequence[DocumentInput]) -> list[UpsertOutcome | ItemFailure]:
        plain = iter(await self._add_plain([each for each in documents if each.video is None]))
        videos = iter(await self._videos.add([each for each in documents if each.video is not None]))
        return [next(plain if each.video is None else videos) for each in documents]

    async def _add_plain(self, documents: Sequence[DocumentInput]) -> list[UpsertOutcome | ItemFailure]:
        if not documents:
            return []
        plans = await self._plan(documents)
        records = await self._encode(plans)
        good = [record for record in records if not isinstance(record, ItemFailure)]
        outcomes = iter(await self._indexing.upsert([record for record, _ in good]))
        results: list[UpsertOutcome | ItemFailure] = []
        for record in records:
            if isinstance(record, ItemFailure):
                results.append(record)
            else:
                outcome = next(outcomes)
                cut = record[1]
                results.append(
                    replace(outcome, truncated=True) if cut and isinstance(outcome, UpsertOutcome) else outcome
                )
        return results

    async def get(self, document_id: str, min_table_version: int = 0) -> Document:
        """As it stands in that version of the table or a later one; of a video its first frame.

        Raises DocumentNotFound, StaleTable.
        """
        row = (await self._retrieval.get([document_id], min_table_version))[0]
        document = row.document if row is not None else await self._videos.first_frame(document_id)
        if document is None:
            raise DocumentNotFound(f"there is no document {document_id!r}")
        return document

    async def address(self, document: Document) -> str | None:
        """Of its picture, that a browser can fetch for a short while; None where there is none."""
        return None if document.uri is None else (await self._pictures.sign([document.uri]))[0]

    async def delete(self, document_id: str) -> DeleteOutcome:
        """A document, or a video with all its frames. Raises DocumentNotFound."""
        outcome = (await self._indexing.delete([document_id]))[0]
        if not outcome.deleted:
            outcome = await self._videos.delete(document_id)
        if not outcome.deleted:
            raise DocumentNotFound(f"there is no document {document_id!r}")
        return outcome

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> DocumentPage:
        """A page of up to `limit` of the documents that a filter matches, by id. Raises InvalidFilter."""
        checked = None if where is None else check_filter(where, self._fields)
        # One more than asked for tells whether there is a next page.
        found = await self._retrieval.find(checked, limit + 1, after)
        return DocumentPage(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)

    async def delete_ids(self, ids: Sequence[str]) -> DeletedRows:
        """Remove the documents and videos with these ids; those that are not there are not counted."""
        outcomes = await self._indexing.delete(list(dict.fromkeys(ids)))
        missing = [each.id for each in outcomes if not each.deleted]
        outcomes += await asyncio.gather(*(self._videos.delete(video_id) for video_id in missing))
        return DeletedRows(sum(each.deleted for each in outcomes), max(each.table_version for each in outcomes))

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        """Remove what a filter matches, everything if None. Raises InvalidFilter."""
        return await self._indexing.delete_matching(None if where is None else check_filter(where, self._fields))

    async def optimize(self) -> Optimized:
        """Bring calibration, files and index up to date with all that is stored; see ports.Indexing."""
        return await self._indexing.optimize()

    async def orphans(self, *, remove: bool, after: str | None = None) -> Orphans:
        """Kept pictures that no document points to, in one part of the store; see ports.Indexing."""
        return await self._indexing.orphans(remove, after)

    async def content(self, document: Document) -> PictureContent:
        """The picture's file. Raises PictureNotFound."""
        return await self._pictures.read_picture(_uri_of(document))

    async def content_part(self, document: Document, start: int, length: int) -> FilePart:
        """Some bytes of a video's file. Raises InvalidRange, PictureNotFound."""
        return await self._pictures.read_file_part(_uri_of(document), start, length)

    async def thumbnail(self, document: Document, size_px: int) -> PictureContent:
        """A small JPEG of the picture, of a frame its own. Raises PictureNotFound."""
        return await self._pictures.thumbnail(document.thumbnail_uri or _uri_of(document), size_px)

    async def _prepare(self, requests: Sequence[int]) -> Sequence[int | ItemFailure]:
        """Of the table, once; the failure where it belongs to another encoder."""
        if not self._prepared:
            try:
                await self._indexing.prepare_table(await self._texts.describe())
            except FingerprintMismatch as error:
                return [failure_of(error)] * len(requests)
            self._prepared = True
        return requests

    async def _plan(self, documents: Sequence[DocumentInput]) -> list[_Plan | ItemFailure]:
        """Check each document, find its id, and look up whether its content is there already."""
        hashes = await self._picture_hashes([document.picture for document in documents])
        plans = [self._plan_one(*each) for each in zip(documents, hashes, strict=True)]
        ids = [plan.planned.id for plan in plans if isinstance(plan, _Plan)]
        rows = {row.document.id: row for row in await self._retrieval.get(ids) if row is not None} if ids else {}

        def with_known(plan: _Plan | ItemFailure) -> _Plan | ItemFailure:
            row = None if isinstance(plan, ItemFailure) else rows.get(plan.planned.id)
            if row is None or isinstance(plan, ItemFailure):
                return plan
            return replace(plan, known=row) if plan.planned.describes(row) else plan

        return [with_known(plan) for plan in plans]

    def _plan_one(self, document: DocumentInput, picture_sha256: str | ItemFailure | None) -> _Plan | ItemFailure:
        if isinstance(picture_sha256, ItemFailure):
            return picture_sha256
        picture = document.picture
        try:
            planned = plan_document(
                given_id=document.id,
                text=document.text,
                picture_sha256=picture_sha256,
                uri=None if picture is None or isinstance(picture, InlinePicture) else picture.uri,
                metadata=document.metadata,
                fields=document.fields,
                declared=self._fields,
                max_characters=self._max_characters,
            )
        except CrossmodalError as error:
            return failure_of(error)
        return _Plan(document, planned)

    async def _picture_hashes(self, pictures: Sequence[Picture | None]) -> list[str | ItemFailure | None]:
        uris = [picture.uri for picture in pictures if picture is not None and not isinstance(picture, InlinePicture)]
        identified = iter(await self._pictures.identify_pictures(uris) if uris else [])
        return [
            None
            if picture is None
            else sha256_of(picture.data)
            if isinstance(picture, InlinePicture)
            else next(identified)
            for picture in pictures
        ]

    async def _encode(self, plans: Sequence[_Plan | ItemFailure]) -> list[tuple[Record, bool] | ItemFailure]:
        """Rows to write, and whether their text was cut; all texts and all pictures of the request travel together."""
        new = [plan for plan in plans if isinstance(plan, _Plan) and plan.known is None]
        texts = [plan.document.text for plan in new if plan.document.text is not None]
        tasks = [PictureTask(plan.document.picture, keep=True) for plan in new if plan.document.picture is not None]
        text_results, picture_results = await asyncio.gather(
            self._texts.encode_texts(texts), self._pictures.embed_pictures(tasks)
        )
        next_text, next_picture = iter(text_results), iter(picture_results)
        records: list[tuple[Record, bool] | ItemFailure] = []
        for plan in plans:
            if isinstance(plan, ItemFailure):
                records.append(plan)
            elif plan.known is not None:
                records.append((record_of_known(plan.planned, plan.known), False))
            else:
                text = next(next_text) if plan.document.text is not None else None
                picture = next(next_picture) if plan.document.picture is not None else None
                records.append(self._record(plan, text, picture))
        return records

    def _record(
        self, plan: _Plan, text: Embedding | ItemFailure | None, picture: EmbeddedPicture | ItemFailure | None
    ) -> tuple[Record, bool] | ItemFailure:
        try:
            words = None if text is None else value_of(text)
            seen = None if picture is None else value_of(picture)
            record = record_of(
                plan.planned,
                words,
                seen.embedding if seen else None,
                uri=seen.uri if seen else None,
                picture_sha256=seen.content_sha256 if seen else None,
                image_weight=self._image_weight,
            )
        except CrossmodalError as error:
            return failure_of(error)
        return record, bool(words and words.truncated)


def _uri_of(document: Document) -> str:
    if document.uri is None:
        raise PictureNotFound(f"the document {document.id!r} is a text, it has no picture")
    return document.uri
