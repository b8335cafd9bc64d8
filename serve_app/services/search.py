"""A question becomes a vector, the vector a page of results. Knows neither models nor the table."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from serve_app.core.failures import value_of
from serve_app.core.filters import check_filter
from serve_app.core.texts import check_text
from serve_app.core.vectors import unit
from serve_app.errors import DocumentNotFound, InvalidRequest, InvalidVector
from serve_app.ports import PictureWork, Retrieval, TextEncoding
from serve_app.types import (
    DocumentQuery,
    EncoderCard,
    FieldSpec,
    FloatVector,
    Include,
    Modality,
    Picture,
    PictureQuery,
    PictureTask,
    RawVectorQuery,
    SearchAnswer,
    SearchPage,
    SearchRequest,
    TextQuery,
    VectorQuery,
)


@dataclass(frozen=True, slots=True)
class _Question:
    """A query as a vector, whatever it was made of."""

    vector: FloatVector
    fingerprint: str
    modality: Modality
    truncated: bool = False
    exclude_id: str | None = None


class SearchService:
    """Search by words, by a picture, by a document or by a vector."""

    def __init__(
        self,
        texts: TextEncoding,
        pictures: PictureWork,
        retrieval: Retrieval,
        *,
        max_characters: int,
        max_limit: int,
        fields: Mapping[str, FieldSpec] = MappingProxyType({}),
    ) -> None:
        self._texts = texts
        self._pictures = pictures
        self._retrieval = retrieval
        self._max_characters = max_characters
        self._max_limit = max_limit
        self._fields = fields
        self._card: EncoderCard | None = None

    async def search(self, request: SearchRequest) -> SearchAnswer:
        """The best documents, best first. Raises InvalidRequest and its children, DocumentNotFound, Unavailable."""
        if not 1 <= request.limit <= self._max_limit:
            raise InvalidRequest(f"limit must be between 1 and {self._max_limit}")
        if not request.modalities:
            raise InvalidRequest("modalities must name at least one of " + ", ".join(Modality))
        where = None if request.where is None else check_filter(request.where, self._fields)
        if request.min_table_version and request.as_of is not None:
            raise InvalidRequest("as_of asks for an old state and min_table_version for a new one: give one of them")
        began = time.perf_counter()
        question = await self._question(request)
        encoded = time.perf_counter()
        page = value_of(
            (
                await self._retrieval.search(
                    [
                        VectorQuery(
                            vector=question.vector,
                            fingerprint=question.fingerprint,
                            modality=question.modality,
                            modalities=request.modalities,
                            limit=request.limit,
                            ranking=request.ranking,
                            exclude_id=question.exclude_id,
                            where=where,
                            min_table_version=request.min_table_version,
                            as_of=request.as_of,
                        )
                    ]
                )
            )[0]
        )
        retrieved = time.perf_counter()
        return SearchAnswer(
            page=page,
            truncated=question.truncated,
            encode_ms=(encoded - began) * 1e3,
            retrieve_ms=(retrieved - encoded) * 1e3,
            urls=await self._urls_of(page) if Include.URL in request.include else {},
        )

    async def _urls_of(self, page: SearchPage) -> dict[str, str]:
        uris = sorted({hit.document.uri for hit in page.hits if hit.document.uri is not None})
        signed = await self._pictures.sign(uris) if uris else []
        return {uri: url for uri, url in zip(uris, signed, strict=True) if url is not None}

    async def _question(self, request: SearchRequest) -> _Question:
        match request.query:
            case TextQuery(text):
                return await self._of_text(text)
            case PictureQuery(picture):
                return await self._of_picture(picture)
            case DocumentQuery(document_id):
                return await self._of_document(document_id, request.min_table_version)
            case RawVectorQuery() as query:
                return await self._of_vector(query)

    async def _of_text(self, text: str) -> _Question:
        check_text(text, self._max_characters)
        embedding = value_of((await self._texts.encode_texts([text]))[0])
        return _Question(embedding.vector, embedding.fingerprint, Modality.TEXT, truncated=embedding.truncated)

    async def _of_picture(self, picture: Picture) -> _Question:
        embedding = value_of((await self._pictures.embed_pictures([PictureTask(picture)]))[0]).embedding
        return _Question(embedding.vector, embedding.fingerprint, Modality.IMAGE)

    async def _of_document(self, document_id: str, min_table_version: int) -> _Question:
        row = (await self._retrieval.get([document_id], min_table_version))[0]
        if row is None:
            raise DocumentNotFound(f"there is no document {document_id!r}")
        return _Question(row.vector, row.fingerprint, row.document.modality, exclude_id=document_id)

    async def _of_vector(self, query: RawVectorQuery) -> _Question:
        if self._card is None:
            self._card = await self._texts.describe()
        if len(query.vector) != self._card.dimension:
            raise InvalidVector(
                f"the vector has {len(query.vector)} numbers, the encoder's vectors have {self._card.dimension}"
            )
        return _Question(unit(np.array(query.vector, np.float32)), self._card.fingerprint, query.modality)
