"""The table that work is done on: the one in service, whichever that is at the moment, or one that was named.

Knows which encoder a table belongs to and how new a view of it is; knows nothing of rows.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import lancedb

from serve_app.adapters.lance_table.catalogue import PRIMARY_KEY, Catalogue
from serve_app.adapters.lance_table.database import (
    CALIBRATION_KEY,
    FOREIGN,
    INDEX_KEY,
    Database,
    OpenTable,
    is_gone,
    translated,
)
from serve_app.core.records import TableIdentity, table_schema
from serve_app.errors import NotReady, SnapshotNotFound, StaleTable, TableConflict
from serve_app.types import Calibration, FieldType, IndexState, VectorType

__all__ = ["CALIBRATION_KEY", "INDEX_KEY", "READ_S", "WRITE_S", "TableHandle", "TableState", "not_ready"]

T = TypeVar("T")
log = logging.getLogger(__name__)

# A version that was acknowledged is there at once; the rest is for storage whose listings lag. Short: neighbours wait too.
REFRESH_S, REFRESH_PAUSE_S = 0.1, 0.05
ENTER_PAUSE_S = 0.05
# For what somebody waits for. LanceDB's runtime is known to lose wake-ups: a call may never end, and would hold for ever whoever
# called, and the place of one of few concurrent reads.
READ_S, WRITE_S = 60.0, 300.0


@dataclass(frozen=True, slots=True)
class TableState:
    """What the schema said at a version: `version` is the users' number, `lance_version` LanceDB's (see catalogue.py).

    `late`: which of the columns it has that came later than the first tables.
    """

    table: str
    version: int
    lance_version: int
    identity: TableIdentity
    calibration: Calibration
    fields: Mapping[str, FieldType]
    index: IndexState | None
    late: frozenset[str]
    vectors: VectorType


class TableHandle:
    """Runs work on an open table. `name`: None follows what is in service. `pinned`: LanceDB's number of one version."""

    def __init__(
        self, database: Database, catalogue: Catalogue, *, name: str | None = None, pinned: int | None = None
    ) -> None:
        self.uri = database.uri
        self.name = name
        self._database = database
        self._catalogue = catalogue
        self._pinned = pinned
        self._state: TableState | None = None

    async def run(
        self,
        done: str,
        work: Callable[[lancedb.AsyncTable], Awaitable[T]],
        missing: Callable[[], T],
        *,
        within_s: float | None = None,
    ) -> T:
        """`work` on the open table, `missing` without one; once more on a new handle if what it saw was dropped.

        `done` says what `work` does, for the message of StorageUnavailable: "the table could not be read".
        """
        with translated(done):
            async with asyncio.timeout(within_s):
                return await self._run(work, missing)

    async def _run(self, work: Callable[[lancedb.AsyncTable], Awaitable[T]], missing: Callable[[], T]) -> T:
        opened = await self._open()
        if opened is None:
            return missing()
        try:
            return await work(opened.lance)
        except FOREIGN as error:
            if not is_gone(error):
                raise
            self._database.forget(opened)
            if self._pinned is not None:
                raise SnapshotNotFound("what the table held then is not kept any more") from error
        # Its version was pruned, or the table dropped. Every write here may be repeated.
        await self._catalogue.refresh()
        opened = await self._open()
        return missing() if opened is None else await work(opened.lance)

    async def create(self, identity: TableIdentity, vectors: VectorType) -> None:
        """Create the table if there is none; two processes may do so at once. In service, unless this handle has a name."""
        with translated("created"):
            opened = await self._open()
            if opened is None:
                schema = table_schema(identity, vectors=vectors)
                keyed = schema.set(0, schema.field(0).with_metadata(PRIMARY_KEY))
                await self._database.make(await self.current(), keyed)
            if self.name is None:
                await self._enter()

    async def refresh(self, min_version: int) -> int:
        """See ports.DocumentTable.refresh; 0 without a table."""

        async def look(table: lancedb.AsyncTable) -> int:
            seen = self.served(table, await table.version())
            if seen < min_version and self._pinned is None:
                await table.checkout_latest()  # type: ignore[no-untyped-call]
                seen = self.served(table, await table.version())
            return seen

        deadline = time.monotonic() + REFRESH_S
        while (seen := await self.run("read", look, lambda: 0)) < min_version:
            if time.monotonic() > deadline:
                raise StaleTable(f"the table has no version {min_version} yet; its latest is {seen}")
            with translated("read"):
                # The version may be that of another table, which was taken into service since.
                await self._catalogue.refresh()
            await asyncio.sleep(REFRESH_PAUSE_S)
        return seen

    async def state(self, table: lancedb.AsyncTable) -> TableState:
        """What the schema says now. Read once per version."""
        opened = self._opened(table)
        found = await self._database.state(opened)
        version = self.served(table, found.version)
        if self._state is None or (self._state.table, self._state.version) != (opened.name, version):
            self._state = TableState(
                *(opened.name, version, found.version, found.identity, found.calibration, found.fields),
                *(found.index, found.late, found.vectors),
            )
        return self._state

    async def identity(self, table: lancedb.AsyncTable) -> TableIdentity:
        """Whose table it is; as last seen, since a table never changes its encoder or its dimension."""
        opened = self._opened(table)
        return (opened.state or await self._database.state(opened)).identity

    def served(self, table: lancedb.AsyncTable, lance_version: int) -> int:
        """The users' number of a version, from LanceDB's."""
        return self._catalogue.first_version(table.name) + int(lance_version)

    async def pinned(self, table: lancedb.AsyncTable, lance_version: int) -> lancedb.AsyncTable:
        """A handle on this table that stays at one version."""
        return await (await self._database.connect()).open_table(table.name, version=lance_version)

    async def current(self) -> str:
        """LanceDB's name of the table that work is done on."""
        return self.name or await self._catalogue.in_service()

    async def _open(self) -> OpenTable | None:
        return await self._database.open(await self.current(), self._pinned)

    def _opened(self, table: lancedb.AsyncTable) -> OpenTable:
        return self._database.opened(table, self._pinned)

    async def _enter(self) -> None:
        """Have the table in the log, so that replicas look there from the first day on; several may do so at once."""
        while not await self._entered():
            log.info("another process enters a table, too")
            await self._catalogue.refresh()
            await asyncio.sleep(ENTER_PAUSE_S)

    async def _entered(self) -> bool:
        name = await self.current()
        opened = await self._database.open(name)
        if opened is None:
            return True
        fingerprint = (await self._database.state(opened)).identity.fingerprint
        entries = await self._catalogue.entries()
        if entries and (entries[-1].table, entries[-1].fingerprint) == (name, fingerprint):
            return True
        try:
            # Where the log names another encoder, the table was dropped and made again: its versions begin anew.
            await self._catalogue.append(name, fingerprint, entries[-1].first_version if entries else 0)
        except TableConflict:
            return False
        return True


def not_ready() -> NoReturn:
    raise NotReady("the table does not exist yet; it is created when the service starts with its encoder")
