"""Search the one table and rank what it gives. Knows nothing of models: queries are vectors already."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from serve_app.core.failures import failure_of
from serve_app.core.ordering import Candidates, deeper, effective_ranking, level_of, page, rows_of
from serve_app.core.ranking import aim, centred_query, pair_of
from serve_app.core.together import together
from serve_app.errors import CrossmodalError, FingerprintMismatch, InvalidRequest, InvalidVector
from serve_app.ports import DocumentTable
from serve_app.services.views import views_of
from serve_app.types import (
    Calibration,
    Document,
    Filter,
    FloatVector,
    ItemFailure,
    Modality,
    Ranking,
    SearchPage,
    StoredDocument,
    TableInfo,
    VectorQuery,
)

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Read:
    """One read of the table that several queries share."""

    modality: Modality
    where: Filter | None
    rows: int  # of the queries' level, without what they exclude
    aimed: bool


@dataclass(frozen=True, slots=True)
class _View:
    """A state of the table, and what ranks its rows."""

    table: DocumentTable
    info: TableInfo
    calibration: Calibration

    def ranking(self, query: VectorQuery) -> Ranking:
        return effective_ranking(query, self.info.counts)

    def modalities(self, query: VectorQuery) -> list[Modality]:
        """Those that the query may find and the table has."""
        return [each for each in query.modalities if self.info.counts.get(each, 0)]


class RetrievalService:
    """One read of the table for all queries of a call that can share it, then one exact ranking for each query."""

    def __init__(self, table: DocumentTable, *, candidates: int) -> None:
        self._table = table
        self._candidates = candidates

    async def search(self, queries: Sequence[VectorQuery]) -> list[SearchPage | ItemFailure]:
        """A page, or a failure, for each query. A query of another encoder than the table's fails."""
        views, failures = await views_of(self._table, queries)
        results: dict[int, SearchPage | ItemFailure] = dict(failures)
        for view in views:
            answers = await self._search_view(view.table, [queries[place] for place in view.places])
            results.update(zip(view.places, answers, strict=True))
        return [results[place] for place in range(len(queries))]

    async def get(
        self, ids: Sequence[str], min_table_version: int = 0, as_of: str | None = None
    ) -> list[StoredDocument | None]:
        """See ports.Retrieval.get."""
        if as_of is not None:
            return await (await self._table.at(as_of)).get(ids)
        if min_table_version:
            await self._table.refresh(min_table_version)
        return await self._table.get(ids)

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> list[Document]:
        """The first `limit` documents that `where` matches, in the order of their ids, those after the id `after`."""
        return [row.document for row in await self._table.find(where, limit, after)]

    async def count(self, where: Filter) -> int:
        """How many documents `where` matches."""
        return await self._table.count(where)

    async def table_info(self) -> TableInfo:
        """The state of the table as this reader sees it."""
        return await self._table.info()

    async def _search_view(
        self, table: DocumentTable, queries: Sequence[VectorQuery]
    ) -> list[SearchPage | ItemFailure]:
        """The queries of one state of the table."""
        view = _View(table, *await table.info_and_calibration())
        failures = [_failure(query, view) for query in queries]
        asked = [query for query, failure in zip(queries, failures, strict=True) if failure is None]
        pages = iter(await self._pages_of(asked, view))
        return [failure or next(pages) for failure in failures]

    async def _pages_of(self, queries: Sequence[VectorQuery], view: _View) -> list[SearchPage | ItemFailure]:
        """A second, deeper look is for pages that too few videos fill, of which there are more."""
        rows = [level_of(query, self._candidates).rows for query in queries]
        found = await self._candidates_of(queries, rows, view)
        pages = [self._page(query, each, view) for query, each in zip(queries, found, strict=True)]
        again: dict[int, int] = {}
        for at, (page_of, each) in enumerate(zip(pages, found, strict=True)):
            if isinstance(page_of, SearchPage) and isinstance(each, Candidates):
                wanted = deeper(queries[at], each, page_of.hits, self._candidates)
                if wanted is not None:
                    again[at] = wanted
        if again:
            more = await self._candidates_of([queries[at] for at in again], list(again.values()), view)
            for at, each in zip(again, more, strict=True):
                pages[at] = self._page(queries[at], each, view)
        return pages

    def _page(self, query: VectorQuery, found: Candidates | ItemFailure, view: _View) -> SearchPage | ItemFailure:
        if isinstance(found, ItemFailure):
            return found
        ranking = view.ranking(query)
        return SearchPage(
            hits=page(query, found, ranking, view.calibration, self._candidates),
            ranking=ranking,
            table_version=view.info.version,
            calibration_version=view.calibration.version if ranking is not Ranking.COSINE else None,
        )

    async def _candidates_of(
        self, queries: Sequence[VectorQuery], rows: Sequence[int], view: _View
    ) -> list[Candidates | ItemFailure]:
        """`rows`: of the level that each query is read for."""
        near, by_words = await asyncio.gather(self._nearest(queries, rows, view), self._matching(queries, rows, view))
        results: list[Candidates | ItemFailure] = []
        for query, level_rows, lists, matching in zip(queries, rows, near, by_words, strict=True):
            nearest = {each: rows for each, rows in lists.items() if not isinstance(rows, ItemFailure)}
            failures = [each for each in (*lists.values(), matching) if isinstance(each, ItemFailure)]
            if failures or isinstance(matching, ItemFailure):
                results.append(failures[0])
                continue
            # A filter may leave few rows; where they fill the candidates, the whole modality is the safe guess.
            searched = sum(
                len(found) if len(found) < rows_of(query, each, level_rows) else view.info.counts.get(each, 0)
                for each, found in nearest.items()
            )
            results.append(Candidates(nearest, matching, searched, level_rows))
        return results

    async def _nearest(
        self, queries: Sequence[VectorQuery], rows: Sequence[int], view: _View
    ) -> list[dict[Modality, Sequence[StoredDocument] | ItemFailure]]:
        """For each query the rows that lie nearest to where it aims, in each modality that it may find."""
        asked = [(at, modality) for at, query in enumerate(queries) for modality in view.modalities(query)]

        def read_of(item: tuple[int, Modality]) -> _Read:
            query = queries[item[0]]
            aimed = view.ranking(query) is not Ranking.COSINE
            return _Read(item[1], query.where, rows_of(query, item[1], rows[item[0]]), aimed)

        async def look(read: _Read, items: Sequence[tuple[int, Modality]]) -> list[list[StoredDocument] | ItemFailure]:
            # What a query excludes may be among the nearest, and must not cost it a candidate.
            limit = read.rows + max(len(queries[at].exclude_ids) for at, _ in items)
            vectors = np.stack([_aimed(queries[at], read.modality, view) for at, _ in items])
            return [*await view.table.nearest(vectors, read.modality, limit, read.where, aimed=read.aimed)]

        found: list[dict[Modality, Sequence[StoredDocument] | ItemFailure]] = [{} for _ in queries]
        for (at, modality), nearest in zip(asked, await _shared(asked, read_of, look), strict=True):
            found[at][modality] = nearest
        return found

    async def _matching(
        self, queries: Sequence[VectorQuery], rows: Sequence[int], view: _View
    ) -> list[Sequence[StoredDocument] | ItemFailure]:
        """For each query that is ranked with its words the rows that hold them, by BM25.

        All frames of a video have its text: they are looked for by themselves, so that they take nobody's place.
        """
        by_words = [at for at, query in enumerate(queries) if query.words and view.ranking(query) is Ranking.HYBRID]

        def read_of(at: int) -> tuple[str, tuple[Modality, ...], int, Filter | None]:
            query = queries[at]
            return query.words or "", query.modalities, rows[at] + len(query.exclude_ids), query.where

        async def look(
            read: tuple[str, tuple[Modality, ...], int, Filter | None], items: Sequence[int]
        ) -> list[Sequence[StoredDocument] | ItemFailure]:
            words, modalities, limit, where = read
            frames = tuple(
                each for each in modalities if each is Modality.VIDEO_FRAME and view.info.counts.get(each, 0)
            )
            others = tuple(each for each in modalities if each is not Modality.VIDEO_FRAME)
            matches = [await view.table.matching(words, part, limit, where) for part in (others, frames) if part]
            best = sorted((match for part in matches for match in part), key=lambda match: -match.score)
            found: Sequence[StoredDocument] = [match.row for match in best]
            return [found for _ in items]

        found: list[Sequence[StoredDocument] | ItemFailure] = [[] for _ in queries]
        for at, matching in zip(by_words, await _shared(by_words, read_of, look), strict=True):
            found[at] = matching
        return found


async def _shared(
    items: Sequence[Item],
    key_of: Callable[[Item], Key],
    work: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Result | ItemFailure]]],
) -> list[Result | ItemFailure]:
    """A result for each item, in order; items with the same key are worked on together and fail together."""
    groups: dict[Key, list[int]] = {}
    for at, item in enumerate(items):
        groups.setdefault(key_of(item), []).append(at)

    async def one(key: Key, places: Sequence[int]) -> Sequence[Result | ItemFailure]:
        try:
            return await work(key, [items[at] for at in places])
        except CrossmodalError as error:
            return [failure_of(error)] * len(places)

    found = await together(*(one(key, places) for key, places in groups.items()))
    results: dict[int, Result | ItemFailure] = {}
    for places, of_group in zip(groups.values(), found, strict=True):
        results.update(zip(places, of_group, strict=True))
    return [results[at] for at in range(len(items))]


def _aimed(query: VectorQuery, modality: Modality, view: _View) -> FloatVector:
    if view.ranking(query) is Ranking.COSINE:
        return query.vector
    (aimed,) = aim(centred_query(query, view.calibration)[np.newaxis], modality, view.calibration)
    # Nothing is left of a query that is its own mean; any direction is as good, and a table wants one.
    return np.asarray(aimed) if aimed.any() else query.vector


def _failure(query: VectorQuery, view: _View) -> ItemFailure | None:
    info = view.info
    try:
        if info.fingerprint is not None and query.fingerprint != info.fingerprint:
            what = "the table belongs" if query.as_of is None else f"the table as of {query.as_of} belongs"
            raise FingerprintMismatch(
                f"{what} to the encoder {info.fingerprint[:12]}, the query came from {query.fingerprint[:12]}"
            )
        if info.dimension is not None and query.vector.shape != (info.dimension,):
            raise InvalidVector(f"the vector has {query.vector.size} numbers, the table wants {info.dimension}")
        if query.min_confidence is not None:
            unknown = [each for each in view.modalities(query) if pair_of(query, each, view.calibration) is None]
            if unknown:
                raise InvalidRequest(
                    "min_confidence needs to know how unrelated queries of this kind score, and the table holds no documents of "
                    f"that kind ({', '.join(dict(query.made_of))}); leave it out"
                )
    except CrossmodalError as error:
        return failure_of(error)
    return None
