"""What is kept of the table besides its rows of today: snapshots, and the tables that lie beside the one in service.

Promises that readers go on through each of these, and that nothing is dropped which somebody may still read.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import lancedb

from serve_app.adapters.lance_table.catalogue import Catalogue
from serve_app.adapters.lance_table.database import Database, OpenTable, translated
from serve_app.adapters.lance_table.snapshots import fork, forked_at, forks, version_of
from serve_app.adapters.lance_table.uris import pointed_to
from serve_app.core.history import check_snapshot_name, moment_of
from serve_app.errors import NotReady, SnapshotExists, SnapshotNotFound, TableConflict, TableNotFound
from serve_app.types import Snapshot, TableEntry

_REMEMBERED_MOMENTS = 256


class LanceKeeping:
    """Implements ports.TableKeeping. Every method raises StorageUnavailable when the storage fails.

    `unread_for`: how long a table is kept that was in service, since somebody may still read it.
    """

    def __init__(self, database: Database, catalogue: Catalogue, unread_for: timedelta) -> None:
        self._unread_for = unread_for
        self._database = database
        self._catalogue = catalogue
        self._moments: dict[tuple[datetime, str | None], tuple[str, int]] = {}

    async def create_snapshot(self, name: str) -> Snapshot:
        """See ports.TableKeeping.create_snapshot; the names of snapshots are distinct over all tables."""
        check_snapshot_name(name)
        with translated("kept"):
            if any([name in await forks(table.lance) async for table in self._tables()]):
                raise SnapshotExists(f"there is a snapshot {name!r} already")
            table = await self._in_service()
            await fork(table.lance, name)
            return await self._snapshot(table, name, (await forks(table.lance))[name])

    async def snapshots(self) -> list[Snapshot]:
        """See ports.TableKeeping.snapshots."""
        with translated("read"):
            found = [
                await self._snapshot(table, name, version)
                async for table in self._tables()
                for name, version in (await forks(table.lance)).items()
            ]
        return sorted(found, key=lambda each: (each.created_at, each.name))

    async def restore_snapshot(self, name: str) -> int:
        """See ports.TableKeeping.restore_snapshot. Indexes and calibration are those of the snapshot too."""
        with translated("restored"):
            table, version = await self._named(name)
            served = await self._in_service()
            if table.name != served.name:
                raise TableConflict(
                    f"the snapshot {name!r} is one of the table {table.name}; take that into service first"
                )
            # A handle of its own: everybody else's stays with the latest version.
            lance = await (await self._database.connect()).open_table(table.name)
            await lance.restore(version)
            return self._catalogue.first_version(table.name) + int(await lance.version())

    async def delete_snapshot(self, name: str) -> None:
        """See ports.TableKeeping.delete_snapshot; the next upkeep frees what nothing else holds."""
        with translated("changed"):
            table, _ = await self._named(name)
            await table.lance.branches.delete(name)

    async def tables(self) -> list[TableEntry]:
        """See ports.TableKeeping.tables."""
        with translated("read"):
            served = await self._catalogue.in_service()
            since = {entry.table: entry.since for entry in await self._catalogue.entries()}
            found = []
            async for table in self._tables():
                identity = (await self._database.state(table)).identity
                found.append(
                    TableEntry(
                        name=table.name,
                        in_service=table.name == served,
                        since=since.get(table.name),
                        documents=await table.lance.count_rows(),
                        fingerprint=identity.fingerprint,
                        model=identity.model,
                    )
                )
        return sorted(found, key=lambda each: each.name)

    async def version(self) -> int:
        """See ports.TableKeeping.version."""
        with translated("read"):
            name = await self._catalogue.in_service()
            table = await self._database.open(name)
            return 0 if table is None else self._catalogue.first_version(name) + await _latest(table.lance)

    async def use_table(self, name: str, if_version: int | None = None) -> int:
        """See ports.TableKeeping.use_table."""
        with translated("taken into service"):
            table = await self._table(name)
            served = await self._in_service()
            fingerprint = (await self._database.state(table)).identity.fingerprint
            if name != served.name:
                latest = self._catalogue.first_version(served.name) + await _latest(served.lance)
                if if_version is not None and latest != if_version:
                    raise TableConflict(f"the table in service has the version {latest} by now, and not {if_version}")
                await self._catalogue.append(name, fingerprint, latest)
            return self._catalogue.first_version(name) + await _latest(table.lance)

    async def drop_table(self, name: str) -> None:
        """See ports.TableKeeping.drop_table."""
        with translated("dropped"):
            table = await self._table(name)
            entries = await self._catalogue.entries()
            if name == await self._catalogue.in_service():
                raise TableConflict(f"the table {name} is in service; take another one into service first")
            left = [after.since for before, after in pairwise(entries) if before.table == name]
            if left and datetime.now(UTC) - left[-1] < self._unread_for:
                raise TableConflict(
                    f"the table {name} was in service until {left[-1]:%H:%M:%S} UTC and may still be read"
                )
            if kept := sorted(await forks(table.lance)):
                raise TableConflict(f"the table {name} has the snapshots {', '.join(kept)}; delete them first")
            self._database.forget(table)
            await (await self._database.connect()).drop_table(name)

    async def find(self, as_of: str, fingerprint: str | None) -> tuple[str, int]:
        """The table and LanceDB's number of the version that a snapshot or a time names. Raises SnapshotNotFound."""
        moment = moment_of(as_of)
        if moment is None:
            table, version = await self._named(as_of)
            return table.name, version
        # The past does not change, and to read the times of all versions takes long.
        key = (moment, fingerprint)
        if key not in self._moments:
            found = await self._find_moment(moment, fingerprint)
            if moment > datetime.now(UTC):
                return found
            while len(self._moments) >= _REMEMBERED_MOMENTS:
                del self._moments[next(iter(self._moments))]
            self._moments[key] = found
        return self._moments[key]

    async def kept_uris(self, uris: Sequence[str]) -> set[str]:
        """Those of these URIs that a snapshot, or a table beside the one in service, still points to."""
        kept: set[str] = set()
        with translated("read"):
            served = await self._catalogue.in_service()
            async for table in self._tables():
                versions = [await self._at(table.name, version) for version in (await forks(table.lance)).values()]
                for lance in versions if table.name == served else [table.lance, *versions]:
                    kept |= await pointed_to(lance, uris)
        return kept

    async def _find_moment(self, moment: datetime, fingerprint: str | None) -> tuple[str, int]:
        entries = await self._catalogue.entries()
        entries = [entry for entry in entries if entry.fingerprint == fingerprint] or entries
        # A table is older than its entry if it was there before there was a log.
        names = [entry.table for entry in entries if entry.since <= moment][-1:] or [
            entry.table for entry in entries[:1]
        ]
        table = await self._database.open(names[0] if names else self._catalogue.name)
        if table is None:
            raise SnapshotNotFound("the table of that time is not kept any more")
        return table.name, await version_of(table.lance, moment)

    async def _tables(self) -> AsyncIterator[OpenTable]:
        for name in await self._catalogue.tables():
            table = await self._database.open(name)
            if table is not None:
                yield table

    async def _table(self, name: str) -> OpenTable:
        table = await self._database.open(name) if name in await self._catalogue.tables() else None
        if table is None:
            raise TableNotFound(f"there is no table {name!r} beside {self._catalogue.name}")
        return table

    async def _in_service(self) -> OpenTable:
        table = await self._database.open(await self._catalogue.in_service())
        if table is None:
            raise NotReady("the table does not exist yet; it is created when the service starts with its encoder")
        return table

    async def _named(self, name: str) -> tuple[OpenTable, int]:
        async for table in self._tables():
            version = (await forks(table.lance)).get(name)
            if version is not None:
                return table, version
        raise SnapshotNotFound(f"there is no snapshot {name!r}")

    async def _snapshot(self, table: OpenTable, name: str, version: int) -> Snapshot:
        return Snapshot(
            name=name,
            table=table.name,
            table_version=self._catalogue.first_version(table.name) + version,
            created_at=await forked_at(table.lance, name),
            documents=await (await self._at(table.name, version)).count_rows(),
            fingerprint=(await self._database.state(table)).identity.fingerprint,
        )

    async def _at(self, name: str, version: int) -> lancedb.AsyncTable:
        return await (await self._database.connect()).open_table(name, version=version)


async def _latest(table: lancedb.AsyncTable) -> int:
    await table.checkout_latest()  # type: ignore[no-untyped-call]
    return int(await table.version())
