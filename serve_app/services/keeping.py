"""Snapshots of the table, and the tables that lie beside it, in turn with the one writer. Knows neither HTTP nor LanceDB."""

import asyncio

from serve_app.ports import TableKeeping
from serve_app.types import Snapshot, TableEntry


class KeepingService:
    """What changes the table as a whole waits for the commit that is under way, and the next commit for it.

    `writing`: the lock that the writer holds while it commits, where this runs beside the writer.
    """

    def __init__(self, keeping: TableKeeping, writing: asyncio.Lock | None = None) -> None:
        self._keeping = keeping
        self._writing = writing or asyncio.Lock()

    async def create_snapshot(self, name: str) -> Snapshot:
        """Keep the table as it is now. Raises SnapshotExists, InvalidRequest, NotReady."""
        async with self._writing:
            return await self._keeping.create_snapshot(name)

    async def snapshots(self) -> list[Snapshot]:
        """All snapshots, the oldest first."""
        return await self._keeping.snapshots()

    async def restore_snapshot(self, name: str) -> int:
        """A new version that is like the snapshot; returns it. Raises SnapshotNotFound, TableConflict."""
        async with self._writing:
            return await self._keeping.restore_snapshot(name)

    async def delete_snapshot(self, name: str) -> None:
        """Raises SnapshotNotFound."""
        async with self._writing:
            await self._keeping.delete_snapshot(name)

    async def tables(self) -> list[TableEntry]:
        """The table in service and those beside it, by name."""
        return await self._keeping.tables()

    async def use_table(self, name: str) -> int:
        """Take a table into service; returns the version that it has now. Raises TableNotFound, TableConflict."""
        async with self._writing:
            return await self._keeping.use_table(name)

    async def drop_table(self, name: str) -> None:
        """Remove a table for good. Raises TableNotFound, TableConflict while anybody may need it."""
        async with self._writing:
            await self._keeping.drop_table(name)
