"""A running service as something to evaluate, over HTTP, with the product's own client. Knows no figures.

What it adds stands under ids that begin with a prefix of the corpus' own. Searches see nothing else; it is deleted afterwards.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from serve_app.client import Client, NewDocument, SearchResults
from serve_app.core.failures import failure_of
from serve_app.core.judgements import Found, JudgedCorpus, JudgedDocument, Question
from serve_app.errors import CrossmodalError, PictureNotFound, Unavailable
from serve_app.types import FloatVector, ItemFailure, Modality, Ranking

SEARCHES_PER_REQUEST = 32
REQUESTS_AT_ONCE = 4
# Of one request of pictures; base64 makes a third more of it, and a service takes 32 MB.
PICTURE_BYTES = 16_000_000

T = TypeVar("T")


def prefix_of(corpus: JudgedCorpus) -> str:
    """The same for the same ids: a run that was broken off leaves what the next one finds `unchanged`, and deletes."""
    digest = hashlib.sha256(json.dumps([corpus.name, *(each.id for each in corpus.documents)]).encode())
    return f"evaluate-{digest.hexdigest()[:8]}/"


class EvaluatedService:
    """services.evaluation.EvaluatedSystem over a client. `prefix`: of its own ids; empty: the service's documents."""

    def __init__(self, client: Client, prefix: str = "") -> None:
        self._client = client
        self._prefix = prefix
        self._version = 0
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def add(self, documents: Sequence[JudgedDocument]) -> list[ItemFailure | None]:
        """Store documents under the prefix; a failure for each that could not be stored."""
        return await asyncio.to_thread(self._add, documents)

    async def clear(self) -> int:
        """Delete what stands under the prefix; how many documents that were."""
        where = {"field": "id", "prefix": self._prefix}
        return (await asyncio.to_thread(lambda: self._client.delete_many(where=where))).deleted

    async def settle(self) -> None:
        """See EvaluatedSystem. The service does it by itself, but not for the last few documents."""
        self._version = max(self._version, await asyncio.to_thread(self._client.optimize))

    async def embed_pictures(self, pictures: Sequence[str]) -> list[FloatVector | ItemFailure]:
        """See EvaluatedSystem."""
        return [vector for part in _by_size(pictures) for vector in await self._embed(part)]

    async def search(
        self, questions: Sequence[Question], modalities: Sequence[Modality], ranking: Ranking, limit: int
    ) -> list[Sequence[Found] | ItemFailure]:
        """See EvaluatedSystem."""
        options: dict[str, Any] = {"modalities": [each.value for each in modalities], "ranking": ranking.value}
        options |= {"limit": limit, "min_table_version": self._version}
        if self._prefix:
            options["filter"] = {"field": "id", "prefix": self._prefix}
        searches = [{"query": _query(each), **options} for each in questions]
        parts = [searches[at : at + SEARCHES_PER_REQUEST] for at in range(0, len(searches), SEARCHES_PER_REQUEST)]
        return [self._page(answer) for part in await asyncio.gather(*map(self._ask, parts)) for answer in part]

    async def classify(
        self, pictures: Sequence[str], labels: Sequence[str], templates: Sequence[str], limit: int
    ) -> list[Sequence[str] | ItemFailure]:
        """See EvaluatedSystem."""
        best: list[Sequence[str] | ItemFailure] = []
        for part in _by_size(pictures):
            answer = await asyncio.to_thread(
                lambda part=part: self._client.classify(  # type: ignore[misc]
                    [_source(each) for each in part], labels, templates=templates, limit=limit
                )
            )
            best += [
                failure_of(each.error) if each.error is not None else [label.label for label in each.labels]
                for each in answer.results
            ]
        return best

    def _add(self, documents: Sequence[JudgedDocument]) -> list[ItemFailure | None]:
        given = [
            NewDocument(each.text, None if each.picture is None else _source(each.picture), self._prefix + each.id)
            for each in documents
        ]
        failures: list[ItemFailure | None] = []
        for added in self._client.add(given):
            self._version = max(self._version, added.table_version or 0)
            failures.append(None if added.error is None else failure_of(added.error))
        return failures

    async def _ask(self, searches: Sequence[Mapping[str, Any]]) -> list[SearchResults | CrossmodalError]:
        async with self._slots:
            return await asyncio.to_thread(self._client.search_many, searches)

    def _page(self, answer: SearchResults | CrossmodalError) -> Sequence[Found] | ItemFailure:
        if isinstance(answer, CrossmodalError):
            return failure_of(answer)
        return [
            Found(each.id.removeprefix(self._prefix), Modality(each.modality), each.score, each.confidence, each.text)
            for each in answer.results
        ]

    async def _embed(self, pictures: Sequence[str]) -> list[FloatVector | ItemFailure]:
        """One request; where one of the pictures is wrong, one for each, to find out which."""
        try:
            embedded = await asyncio.to_thread(lambda: self._client.embed(images=[_source(each) for each in pictures]))
        except Unavailable:
            raise
        except CrossmodalError as error:
            if len(pictures) == 1:
                return [failure_of(error)]
            return [vector for picture in pictures for vector in await self._embed([picture])]
        return list(embedded.vectors)


def _query(question: Question) -> Mapping[str, Any]:
    if question.body is not None:
        return question.body
    parts: list[dict[str, Any]] = [] if question.text is None else [{"text": question.text}]
    if question.picture is not None:
        parts.append({"vector": question.picture.tolist(), "modality": Modality.IMAGE.value})
    return parts[0] if len(parts) == 1 else {"all_of": parts}


def _source(picture: str) -> Path | str:
    return picture if "://" in picture else Path(picture)


def _by_size(pictures: Sequence[str]) -> Iterator[list[str]]:
    """Parts of at most PICTURE_BYTES and SEARCHES_PER_REQUEST pictures. Raises PictureNotFound."""
    part: list[str] = []
    total = 0
    for picture in pictures:
        try:
            size = 0 if "://" in picture else Path(picture).stat().st_size
        except OSError as error:
            raise PictureNotFound(f"{picture} cannot be read: {error.strerror}") from error
        if part and (total + size > PICTURE_BYTES or len(part) == SEARCHES_PER_REQUEST):
            yield part
            part, total = [], 0
        part.append(picture)
        total += size
    if part:
        yield part
