"""Search the one table and rank what it gives. Knows nothing of models: queries are vectors already."""

import asyncio
from collections.abc import Sequence

import numpy as np

from serve_app.core.failures import failure_of
from serve_app.core.ranking import effective_ranking, rank
from serve_app.errors import CrossmodalError, FingerprintMismatch, InvalidVector
from serve_app.ports import DocumentTable
from serve_app.services.views import views_of
from serve_app.types import (
    Document,
    Filter,
    ItemFailure,
    Modality,
    Ranking,
    SearchPage,
    StoredDocument,
    TableInfo,
    VectorQuery,
)


class RetrievalService:
    """Per modality one read of the table for all queries of a call, then one exact ranking per query."""

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

    async def _search_view(
        self, table: DocumentTable, queries: Sequence[VectorQuery]
    ) -> list[SearchPage | ItemFailure]:
        info = await table.info()
        failures = [_failure(query, info) for query in queries]
        asked = [at for at, failure in enumerate(failures) if failure is None]
        found = await self._candidates_of(table, [queries[at] for at in asked], info)
        calibration = await table.calibration()
        pages: list[SearchPage | ItemFailure | None] = list(failures)
        for at, candidates in zip(asked, found, strict=True):
            ranking = effective_ranking(queries[at], info.counts)
            pages[at] = SearchPage(
                hits=rank(queries[at], candidates, ranking, calibration),
                ranking=ranking,
                table_version=info.version,
                calibration_version=calibration.version if ranking is Ranking.CALIBRATED else None,
            )
        return [page for page in pages if page is not None]

    async def get(self, ids: Sequence[str], min_table_version: int = 0) -> list[StoredDocument | None]:
        """The rows with these ids, None where there is none; of that version or a later one. Raises StaleTable."""
        if min_table_version:
            await self._table.refresh(min_table_version)
        return await self._table.get(ids)

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> list[Document]:
        """The first `limit` documents that `where` matches, in the order of their ids, those after the id `after`."""
        return [row.document for row in await self._table.find(where, limit, after)]

    async def table_info(self) -> TableInfo:
        """The state of the table as this reader sees it."""
        return await self._table.info()

    async def _candidates_of(
        self, table: DocumentTable, queries: Sequence[VectorQuery], info: TableInfo
    ) -> list[list[StoredDocument]]:
        found: list[list[StoredDocument]] = [[] for _ in queries]

        async def look(modality: Modality, where: Filter | None) -> None:
            asking = [at for at, query in enumerate(queries) if modality in query.modalities and query.where == where]
            if not asking or not info.counts.get(modality, 0):
                return
            # One more than asked for: the document that the query came from may be among them.
            limit = max(self._candidates, *(queries[at].limit + 1 for at in asking))
            vectors = np.stack([queries[at].vector for at in asking])
            for at, rows in zip(asking, await table.nearest(vectors, modality, limit, where), strict=True):
                found[at].extend(rows)

        filters = dict.fromkeys(query.where for query in queries)
        await asyncio.gather(*(look(modality, where) for modality in Modality for where in filters))
        return found


def _failure(query: VectorQuery, info: TableInfo) -> ItemFailure | None:
    try:
        if info.fingerprint is not None and query.fingerprint != info.fingerprint:
            what = "the table belongs" if query.as_of is None else f"the table as of {query.as_of} belongs"
            raise FingerprintMismatch(
                f"{what} to the encoder {info.fingerprint[:12]}, the query came from {query.fingerprint[:12]}"
            )
        if info.dimension is not None and query.vector.shape != (info.dimension,):
            raise InvalidVector(f"the vector has {query.vector.size} numbers, the table wants {info.dimension}")
    except CrossmodalError as error:
        return failure_of(error)
    return None
