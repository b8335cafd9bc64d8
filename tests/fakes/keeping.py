"""Snapshots of a MemoryTable. Tables beside it are no more than their names: LanceDB alone can switch."""

from datetime import datetime

from serve_app.core.history import check_snapshot_name
from serve_app.errors import NotReady, SnapshotExists, SnapshotNotFound, TableConflict, TableNotFound
from serve_app.types import Snapshot, TableEntry
from tests.fakes.table import MemoryTable


class MemoryKeeping:
    def __init__(self, table: MemoryTable) -> None:
        self.table = table
        self.beside: dict[str, TableEntry] = {}
        self._made: dict[str, Snapshot] = {}

    async def create_snapshot(self, name: str) -> Snapshot:
        check_snapshot_name(name)
        info = await self.table.info()
        if info.fingerprint is None:
            raise NotReady("the table does not exist yet")
        if name in self._made:
            raise SnapshotExists(f"there is a snapshot {name!r} already")
        self.table.snapshots[name] = info.version
        self._made[name] = Snapshot(
            name=name,
            table="documents",
            table_version=info.version,
            created_at=self.table.committed_at(info.version),
            documents=sum(info.counts.values()),
            fingerprint=info.fingerprint,
        )
        return self._made[name]

    async def snapshots(self) -> list[Snapshot]:
        return list(self._made.values())

    async def restore_snapshot(self, name: str) -> int:
        self._known(name)
        return self.table.become(await self.table.at(name))

    async def delete_snapshot(self, name: str) -> None:
        self._known(name)
        del self._made[name], self.table.snapshots[name]

    async def tables(self) -> list[TableEntry]:
        info = await self.table.info()
        since: datetime | None = None
        mine = TableEntry("documents", True, since, sum(info.counts.values()), info.fingerprint or "", info.model or "")
        return [mine, *self.beside.values()]

    async def version(self) -> int:
        return self.table.version

    async def use_table(self, name: str, if_version: int | None = None) -> int:
        if if_version is not None and if_version != self.table.version:
            raise TableConflict(f"the table in service has the version {self.table.version}")
        if name != "documents":
            raise TableNotFound(f"there is no table {name!r} beside documents")
        return self.table.version

    async def drop_table(self, name: str) -> None:
        if name == "documents":
            raise TableConflict("the table documents is in service")
        if self.beside.pop(name, None) is None:
            raise TableNotFound(f"there is no table {name!r} beside documents")

    async def kept_uris(self, uris: list[str]) -> set[str]:
        kept = [await self.table.at(name) for name in self._made]
        return {uri for view in kept for uri in view.uris()} & set(uris)

    def _known(self, name: str) -> None:
        if name not in self._made:
            raise SnapshotNotFound(f"there is no snapshot {name!r}")
