"""Indexer: the only online writer of the table. One replica."""

from collections.abc import Sequence

from configs.schema import FullTextConfig, SearchConfig, StorageConfig, TableConfig
from deployments.replica import bound_lance_threads, log_with_serve
from deployments.writing import indexing_service, open_for_writing
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.services.keeping import KeepingService
from serve_app.services.kept_pictures import KeptPictures
from serve_app.types import (
    DeletedRows,
    DeleteOutcome,
    EncoderCard,
    Filter,
    FloatMatrix,
    ItemFailure,
    Optimized,
    Orphans,
    Record,
    Snapshot,
    TableEntry,
    TableInfo,
    UpsertOutcome,
)


class Indexer:
    def __init__(
        self, table: TableConfig, search: SearchConfig, full_text: FullTextConfig, storage: StorageConfig
    ) -> None:
        log_with_serve()
        bound_lance_threads()
        lance = open_for_writing(table, full_text)
        pictures = KeptPictures(lance, ObstoreObjectStore(storage.uri, storage.options))
        self._service = indexing_service(lance, table, search, pictures)
        self._keeping = KeepingService(lance.keeping, self._service.writing)

    async def prepare_table(self, encoder: EncoderCard, usual_texts: FloatMatrix | None = None) -> TableInfo:
        return await self._service.prepare_table(encoder, usual_texts)

    async def upsert(self, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        return await self._service.upsert(records)

    async def replace(self, where: Filter, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        return await self._service.replace(where, records)

    async def delete(self, ids: Sequence[str]) -> list[DeleteOutcome]:
        return await self._service.delete(ids)

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        return await self._service.delete_matching(where)

    async def create_snapshot(self, name: str) -> Snapshot:
        return await self._keeping.create_snapshot(name)

    async def snapshots(self) -> list[Snapshot]:
        return await self._keeping.snapshots()

    async def restore_snapshot(self, name: str) -> int:
        return await self._keeping.restore_snapshot(name)

    async def delete_snapshot(self, name: str) -> None:
        await self._keeping.delete_snapshot(name)

    async def tables(self) -> list[TableEntry]:
        return await self._keeping.tables()

    async def version(self) -> int:
        return await self._keeping.version()

    async def use_table(self, name: str, if_version: int | None = None) -> int:
        return await self._keeping.use_table(name, if_version)

    async def hold_writes(self, seconds: float) -> int:
        return await self._keeping.hold_writes(seconds)

    async def release_writes(self) -> None:
        await self._keeping.release_writes()

    async def drop_table(self, name: str) -> None:
        await self._keeping.drop_table(name)

    async def optimize(self) -> Optimized:
        return await self._service.optimize()

    async def orphans(self, remove: bool, after: str | None = None) -> Orphans:
        return await self._service.orphans(remove, after)

    async def check_health(self) -> None:
        await self._service.check_health()
