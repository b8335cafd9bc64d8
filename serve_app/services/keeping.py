"""Snapshots of the table, and the tables that lie beside it, in turn with the one writer. Knows neither HTTP nor LanceDB."""

import asyncio

from serve_app.ports import TableKeeping, WriteHolding
from serve_app.services.write_hold import WriteHold
from serve_app.types import Snapshot, TableEntry


class KeepingService:
    """What changes the table as a whole waits for the commit that is under way, and the next commit for it.

    `writing`: the lock that the writer holds while it commits, where this runs beside the writer. `holding`: where it does
    not, who can hold the writer's.
    """

    def __init__(
        self, keeping: TableKeeping, writing: asyncio.Lock | None = None, holding: WriteHolding | None = None
    ) -> None:
        self._keeping = keeping
        self._writing = writing or asyncio.Lock()
        self._hold = WriteHold(self._writing, keeping.version)
        self._holding = holding or self._hold

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

    async def version(self) -> int:
        """Of the table in service."""
        return await self._keeping.version()

    async def use_table(self, name: str, if_version: int | None = None) -> int:
        """Take a table into service; returns the version that it has now. Raises TableNotFound, TableConflict.

        `if_version`: see ports.TableKeeping. Writes that are held go on after it.
        """
        async with self._hold.switching():
            return await self._keeping.use_table(name, if_version)

    async def hold_writes(self, seconds: float) -> int:
        """See ports.WriteHolding."""
        return await self._holding.hold_writes(seconds)

    async def release_writes(self) -> None:
        """See ports.WriteHolding."""
        await self._holding.release_writes()

    async def drop_table(self, name: str) -> None:
        """Remove a table for good. Raises TableNotFound, TableConflict while anybody may need it."""
        async with self._writing:
            await self._keeping.drop_table(name)
