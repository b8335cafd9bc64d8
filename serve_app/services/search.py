"""Questions become vectors, the vectors pages of results. Knows neither models nor the table."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from serve_app.core.failures import failure_of, value_of
from serve_app.core.filters import check_filter
from serve_app.core.ranking import compose
from serve_app.core.texts import check_text
from serve_app.core.together import together
from serve_app.core.vectors import unit
from serve_app.errors import (
    CrossmodalError,
    DocumentNotFound,
    FingerprintMismatch,
    InvalidRequest,
    InvalidVector,
    SnapshotNotFound,
)
from serve_app.ports import PictureWork, Retrieval, TextEncoding
from serve_app.services.encoders import Following, OneSet, across_switches
from serve_app.types import (
    ComposedQuery,
    DocumentQuery,
    EncoderCard,
    FieldSpec,
    FloatVector,
    Include,
    ItemFailure,
    Modality,
    PictureQuery,
    PictureTask,
    Query,
    RawVectorQuery,
    SearchAnswer,
    SearchPage,
    SearchRequest,
    SimpleQuery,
    TextQuery,
    VectorQuery,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Question:
    """A query as a vector, whatever it was made of."""

    vector: FloatVector
    fingerprint: str
    made_of: tuple[tuple[Modality, float], ...]
    truncated: bool = False
    exclude_ids: tuple[str, ...] = ()


class SearchService:
    """Search by words, by a picture, by a document, by a vector, or by several of them at once.

    `max_window`: how deep an order may be read, in results (`offset` and `limit` together). `max_parts`: of a composed query.
    """

    def __init__(
        self,
        texts: TextEncoding,
        pictures: PictureWork,
        retrieval: Retrieval,
        *,
        max_characters: int,
        max_limit: int,
        max_window: int = 800,
        max_parts: int = 16,
        fields: Mapping[str, FieldSpec] = MappingProxyType({}),
        encoders: Following | None = None,
    ) -> None:
        self._encoders = encoders or OneSet()
        self._texts = texts
        self._pictures = pictures
        self._retrieval = retrieval
        self._max_characters = max_characters
        self._max_limit = max_limit
        self._max_window = max_window
        self._max_parts = max_parts
        self._fields = fields

    async def search(self, request: SearchRequest) -> SearchAnswer:
        """The best documents, best first. Raises InvalidRequest and its children, NotFound and its children, Unavailable."""
        return value_of((await self.search_many([request]))[0])

    async def search_many(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer | ItemFailure]:
        """An answer, or a failure, for each request; one call of each part of the system for all of them."""
        # The past does not follow: a snapshot belongs to one encoder for good.
        return await across_switches(self._encoders, requests, self._search_once, lambda asked: asked.as_of is None)

    async def _search_once(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer | ItemFailure]:
        began = time.perf_counter()
        checked = [_attempt(lambda request=request: self._checked(request)) for request in requests]  # type: ignore[misc]
        # Documents that ask must be as new as the newest write that a request has to see.
        version = max((each.min_table_version for each in checked if isinstance(each, SearchRequest)), default=0)
        questions = await self._questions(checked, version)
        encoded = time.perf_counter()
        asked = {
            at: _vector_query(request, question)
            for at, (request, question) in enumerate(zip(checked, questions, strict=True))
            if isinstance(request, SearchRequest) and isinstance(question, _Question)
        }
        pages = dict(zip(asked, await self._retrieval.search(list(asked.values())), strict=True)) if asked else {}
        encode_ms, retrieve_ms = (encoded - began) * 1e3, (time.perf_counter() - encoded) * 1e3

        signed = [
            page for at, page in pages.items() if isinstance(page, SearchPage) and Include.URL in requests[at].include
        ]
        urls = await self._urls_of(signed)

        def answer(at: int, question: _Question | ItemFailure) -> SearchAnswer | ItemFailure:
            if isinstance(question, ItemFailure):
                return question
            page = pages[at]
            if not isinstance(page, SearchPage):
                return page
            own = urls if Include.URL in requests[at].include else {}
            return SearchAnswer(page, question.truncated, encode_ms, retrieve_ms, urls=own)

        return [answer(at, question) for at, question in enumerate(questions)]

    async def _urls_of(self, pages: Sequence[SearchPage]) -> dict[str, str]:
        uris = sorted({hit.document.uri for page in pages for hit in page.hits if hit.document.uri is not None})
        signed = await self._pictures.sign(uris) if uris else []
        return {uri: url for uri, url in zip(uris, signed, strict=True) if url is not None}

    def _checked(self, request: SearchRequest) -> SearchRequest:
        """The request with its filter checked. Raises InvalidRequest and its children."""
        if not 1 <= request.limit <= self._max_limit:
            raise InvalidRequest(f"limit must be between 1 and {self._max_limit}")
        if request.offset < 0 or request.offset + request.limit > self._max_window:
            raise InvalidRequest(
                f"offset must not be negative, and offset and limit together at most {self._max_window}: narrow the search by a "
                "filter to see more"
            )
        if not request.modalities:
            raise InvalidRequest("modalities must name at least one of " + ", ".join(Modality))
        if not 0.0 <= request.diversity <= 1.0 or not 0.0 <= (request.min_confidence or 0.0) <= 1.0:
            raise InvalidRequest("diversity and min_confidence must be between 0 and 1")
        if request.as_of is not None and request.min_table_version:
            raise InvalidRequest("as_of asks for an old state and min_table_version for a new one: give one of them")
        parts = _parts(request.query)
        if isinstance(request.query, ComposedQuery):
            self._check_parts(request.query)
        for part in parts:
            if isinstance(part, TextQuery):
                check_text(part.text, self._max_characters)
        return request if request.where is None else replace(request, where=check_filter(request.where, self._fields))

    def _check_parts(self, query: ComposedQuery) -> None:
        weights = [part.weight for part in query.parts]
        if not 1 <= len(weights) <= self._max_parts:
            raise InvalidRequest(f"all_of takes 1 to {self._max_parts} parts")
        if not all(map(math.isfinite, weights)) or not any(weights):
            raise InvalidRequest("the weights of all_of must be finite numbers, and not all of them 0")

    async def _questions(
        self, requests: Sequence[SearchRequest | ItemFailure], version: int
    ) -> list[_Question | ItemFailure]:
        """All parts of all queries in one go, then put together."""
        good = [each for each in requests if isinstance(each, SearchRequest)]
        answers = iter(
            await self._answered([(part, each.as_of) for each in good for part in _parts(each.query)], version)
        )

        def question(request: SearchRequest | ItemFailure) -> _Question | ItemFailure:
            if isinstance(request, ItemFailure):
                return request
            query = request.query
            found = [next(answers) for _ in _parts(query)]
            failure = next((each for each in found if isinstance(each, ItemFailure)), None)
            if failure is not None:
                return failure
            whole = [each for each in found if isinstance(each, _Question)]
            if not isinstance(query, ComposedQuery):
                return whole[0]
            return _attempt(lambda: _composed(query, whole))

        return [question(request) for request in requests]

    async def _answered(
        self, parts: Sequence[tuple[SimpleQuery, str | None]], version: int
    ) -> list[_Question | ItemFailure]:
        """`parts`: each with the past that it is about, None for the present."""
        texts = list(dict.fromkeys(part.text for part, _ in parts if isinstance(part, TextQuery)))
        pictures = [part.picture for part, _ in parts if isinstance(part, PictureQuery)]
        ids: dict[str | None, dict[str, None]] = {}
        for part, as_of in parts:
            if isinstance(part, DocumentQuery):
                ids.setdefault(as_of, {})[part.document_id] = None
        by_text, by_picture, *by_id = await together(
            self._of_texts(texts) if texts else None,
            self._of_pictures([PictureTask(each) for each in pictures]) if pictures else None,
            *(self._of_documents(list(each), version, as_of) for as_of, each in ids.items()),
        )
        of_past = dict(zip(ids, by_id, strict=True))
        pictures_in_order = iter(by_picture or ())
        answers: list[_Question | ItemFailure] = []
        for part, as_of in parts:
            match part:
                case TextQuery(text):
                    answers.append(by_text[text])
                case PictureQuery():
                    answers.append(next(pictures_in_order))
                case DocumentQuery(document_id):
                    answers.append(of_past[as_of][document_id])
                case RawVectorQuery():
                    card = await self._encoder()
                    answers.append(_attempt(lambda part=part, card=card: _of_vector(part, card)))  # type: ignore[misc]
        return answers

    async def _of_texts(self, texts: Sequence[str]) -> dict[str, _Question | ItemFailure]:
        embeddings = await self._texts.encode_texts(texts)
        return {
            text: each
            if isinstance(each, ItemFailure)
            else _Question(each.vector, each.fingerprint, ((Modality.TEXT, 1.0),), truncated=each.truncated)
            for text, each in zip(texts, embeddings, strict=True)
        }

    async def _of_pictures(self, tasks: Sequence[PictureTask]) -> list[_Question | ItemFailure]:
        embedded = await self._pictures.embed_pictures(tasks)
        return [
            each
            if isinstance(each, ItemFailure)
            else _Question(each.embedding.vector, each.embedding.fingerprint, ((Modality.IMAGE, 1.0),))
            for each in embedded
        ]

    async def _of_documents(
        self, ids: Sequence[str], version: int, as_of: str | None
    ) -> dict[str, _Question | ItemFailure]:
        """Documents as they were: what asks a past for its like may have changed since, or gone."""
        try:
            rows = await self._retrieval.get(ids, 0 if as_of else version, as_of)
        except SnapshotNotFound as error:
            return dict.fromkeys(ids, failure_of(error))
        return {
            document_id: failure_of(DocumentNotFound(f"there is no document {document_id!r}"))
            if row is None
            else _Question(row.vector, row.fingerprint, ((row.document.modality, 1.0),), exclude_ids=(document_id,))
            for document_id, row in zip(ids, rows, strict=True)
        }

    async def _encoder(self) -> EncoderCard:
        return await self._texts.describe()


def _attempt(work: Callable[[], T]) -> T | ItemFailure:
    try:
        return work()
    except CrossmodalError as error:
        return failure_of(error)


def _parts(query: Query) -> list[SimpleQuery]:
    return [part.query for part in query.parts] if isinstance(query, ComposedQuery) else [query]


def _words(query: Query) -> str | None:
    """What full text is searched for: the words that the query asks for, not those it leads away from."""
    if isinstance(query, ComposedQuery):
        texts = [each.query.text for each in query.parts if isinstance(each.query, TextQuery) and each.weight > 0]
    else:
        texts = [query.text] if isinstance(query, TextQuery) else []
    return " ".join(texts) or None


def _of_vector(query: RawVectorQuery, card: EncoderCard) -> _Question:
    if len(query.vector) != card.dimension:
        raise InvalidVector(f"the vector has {len(query.vector)} numbers, the encoder's vectors have {card.dimension}")
    return _Question(unit(np.array(query.vector, np.float32)), card.fingerprint, ((query.modality, 1.0),))


def _composed(query: ComposedQuery, questions: Sequence[_Question]) -> _Question:
    if len({each.fingerprint for each in questions}) > 1:
        raise FingerprintMismatch(
            "the parts of the query come from different encoders, and their vectors do not go together"
        )
    modalities = [each.made_of[0][0] for each in questions]
    weights = [part.weight for part in query.parts]
    vector, made_of = compose([each.vector for each in questions], modalities, weights)
    return _Question(
        vector,
        questions[0].fingerprint,
        made_of,
        truncated=any(each.truncated for each in questions),
        exclude_ids=tuple(dict.fromkeys(each for question in questions for each in question.exclude_ids)),
    )


def _vector_query(request: SearchRequest, question: _Question) -> VectorQuery:
    return VectorQuery(
        vector=question.vector,
        fingerprint=question.fingerprint,
        made_of=question.made_of,
        modalities=request.modalities,
        limit=request.limit,
        ranking=request.ranking,
        exclude_ids=question.exclude_ids,
        where=request.where,
        min_table_version=request.min_table_version,
        as_of=request.as_of,
        offset=request.offset,
        min_score=request.min_score,
        min_confidence=request.min_confidence,
        diversity=request.diversity,
        words=_words(request.query),
        vectors=Include.VECTOR in request.include,
        group_by=request.group_by,
    )
