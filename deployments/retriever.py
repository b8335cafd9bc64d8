"""Retriever: reads the table. Bounds how many searches run at once: LanceDB's own threads thrash beyond the cores."""

from collections.abc import Sequence
from datetime import timedelta

from configs.schema import SearchConfig, TableConfig
from deployments.replica import bound_lance_threads, log_with_serve
from serve_app.core.batching import Batcher
from serve_app.services.retrieval import RetrievalService
from serve_app.types import Document, Filter, ItemFailure, SearchPage, StoredDocument, TableInfo, VectorQuery

MAX_QUERIES_PER_READ = 64


class Retriever:
    def __init__(self, table: TableConfig, search: SearchConfig) -> None:
        log_with_serve()
        bound_lance_threads()
        # Here and not above: the builder imports this file, and LanceDB takes two seconds.
        from serve_app.adapters.lance_table import LanceTable

        lance = LanceTable(
            table.uri,
            table.name,
            storage_options=table.options,
            read_consistency=timedelta(milliseconds=table.read_consistency_ms),
            index_cache_bytes=table.index_cache_bytes,
            metadata_cache_bytes=table.metadata_cache_bytes,
        )
        self._service = RetrievalService(lance, candidates=search.candidates)
        self._queries = Batcher[VectorQuery, SearchPage | ItemFailure](
            self._service.search,
            max_batch_size=MAX_QUERIES_PER_READ,
            max_queued_items=table.max_queued_reads,
            max_in_flight=table.max_concurrent_reads,
        )

    async def search(self, queries: Sequence[VectorQuery]) -> list[SearchPage | ItemFailure]:
        return await self._queries.submit_all(queries)

    async def get(
        self, ids: Sequence[str], min_table_version: int = 0, as_of: str | None = None
    ) -> list[StoredDocument | None]:
        return await self._service.get(ids, min_table_version, as_of)

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> list[Document]:
        return await self._service.find(where, limit, after)

    async def count(self, where: Filter) -> int:
        return await self._service.count(where)

    async def table_info(self) -> TableInfo:
        return await self._service.table_info()

    async def check_health(self) -> None:
        await self._service.table_info()
