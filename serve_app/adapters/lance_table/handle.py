"""One Lance table, opened on first use, shared by everything in the process; LanceDB's errors become ours here.

Knows which encoder the table belongs to and what its schema says; knows nothing of rows.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn, TypeVar

import lancedb
import pyarrow as pa

from serve_app.core.history import moment_of, version_at
from serve_app.core.records import (
    TableIdentity,
    calibration_from_json,
    identity_of,
    table_schema,
)
from serve_app.errors import NotReady, SnapshotNotFound, StaleTable, StorageUnavailable
from serve_app.types import Calibration

T = TypeVar("T")

# The unenforced primary key, as `set_unenforced_primary_key` writes it. Set with the schema, it is there from the first
# version on: no writer can come between creation and a second commit.
_PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}
# On the vector field: LanceDB updates the metadata of fields in one commit, and that of the schema not at all.
CALIBRATION_KEY = "crossmodal.calibration"
# LanceDB has no error classes of its own: it raises these.
_FOREIGN = (ValueError, RuntimeError, OSError, pa.ArrowException)
# A version that was acknowledged is there at once; the rest is for storage whose listings lag.
REFRESH_S, REFRESH_PAUSE_S = 0.2, 0.05
_GONE = ("not found", "no longer exists")


@dataclass(frozen=True, slots=True)
class TableState:
    """What the schema said at a version."""

    version: int
    identity: TableIdentity
    calibration: Calibration


class TableHandle:
    """Opens, and runs work on the open table. Not picklable once used: it lives in one process and one event loop.

    `uri`: a folder or s3://, gs://, az://. `read_consistency`: how old a view may be; zero looks before every read.
    """

    def __init__(
        self,
        uri: str,
        name: str,
        storage_options: Mapping[str, str] | None,
        read_consistency: timedelta,
        *,
        pinned: int | None = None,
    ) -> None:
        self.uri = uri
        self.name = name
        self._storage_options = dict(storage_options or {})
        self._read_consistency = read_consistency
        self._pinned = pinned
        self._opening = asyncio.Lock()
        self._connection: lancedb.AsyncConnection | None = None
        self._table: lancedb.AsyncTable | None = None
        self._state: TableState | None = None

    async def run(self, done: str, work: Callable[[lancedb.AsyncTable], Awaitable[T]], missing: Callable[[], T]) -> T:
        """`work` on the open table, `missing` without one; once more on a new handle if what it saw was dropped.

        `done` says what `work` does, for the message of StorageUnavailable: "the table could not be read".
        """
        with _translated(done):
            table = await self._open()
            if table is None:
                return missing()
            try:
                return await work(table)
            except _FOREIGN as error:
                if not any(sign in str(error).lower() for sign in _GONE):
                    raise
                if self._pinned is not None:
                    raise SnapshotNotFound("what the table held then is not kept any more") from error
                # Its version was pruned, or the table dropped. Every write here may be repeated.
                if self._table is table:
                    self._table = self._state = None
            table = await self._open()
            return missing() if table is None else await work(table)

    async def create(self, identity: TableIdentity) -> None:
        """Create the table if there is none; two processes may do so at once."""
        with _translated("created"):
            if await self._open() is None:
                await self._make(identity)

    async def refresh(self, min_version: int) -> int:
        """See ports.DocumentTable.refresh; 0 without a table."""

        async def look(table: lancedb.AsyncTable) -> int:
            seen = int(await table.version())
            if seen < min_version and self._pinned is None:
                await table.checkout_latest()
                seen = int(await table.version())
            return seen

        deadline = time.monotonic() + REFRESH_S
        while (seen := await self.run("read", look, lambda: 0)) < min_version:
            if time.monotonic() > deadline:
                raise StaleTable(f"the table has no version {min_version} yet; its latest is {seen}")
            await asyncio.sleep(REFRESH_PAUSE_S)
        return seen

    async def at(self, as_of: str) -> "TableHandle":
        """A handle of the version that a snapshot or a time names, and of no other. Raises SnapshotNotFound."""

        async def find(table: lancedb.AsyncTable) -> int:
            moment = moment_of(as_of)
            if moment is not None:
                return version_at(
                    [(each["version"], _utc(each["timestamp"])) for each in await table.list_versions()], moment
                )
            tags = await table.tags.list()
            if as_of not in tags:
                raise SnapshotNotFound(f"there is no snapshot {as_of!r}")
            return int(tags[as_of]["version"])

        def missing() -> int:
            raise SnapshotNotFound("there is no table yet, and nothing that it held")

        version = await self.run("read", find, missing)
        view = TableHandle(self.uri, self.name, self._storage_options, self._read_consistency, pinned=version)
        view._connection = self._connection
        return view

    async def connect(self) -> lancedb.AsyncConnection:
        """The connection of this process."""
        if self._connection is None:
            self._connection = await lancedb.connect_async(
                self.uri,
                read_consistency_interval=self._read_consistency,
                storage_options=self._storage_options or None,
            )
        return self._connection

    async def state(self, table: lancedb.AsyncTable) -> TableState:
        """What the schema says now. Read once per version."""
        version = await table.version()
        if self._state is None or self._state.version != version:
            schema = await table.schema()
            stored = (schema.field("vector").metadata or {}).get(CALIBRATION_KEY.encode())
            calibration = calibration_from_json(stored.decode() if stored else None)
            self._state = TableState(version, identity_of(schema), calibration)
        return self._state

    async def identity(self, table: lancedb.AsyncTable) -> TableIdentity:
        """Whose table it is; as last seen, since a table never changes its encoder or its dimension."""
        return (self._state or await self.state(table)).identity

    async def _open(self) -> lancedb.AsyncTable | None:
        if self._table is not None:
            return self._table
        async with self._opening:
            if self._table is None:
                connection = await self.connect()
                try:
                    table = await connection.open_table(self.name, version=self._pinned)
                except ValueError as error:
                    if "was not found" not in str(error):
                        raise
                    return None
                # Before anything is read as if it were ours.
                identity_of(await table.schema())
                self._table = table
            return self._table

    async def _make(self, identity: TableIdentity) -> None:
        schema = table_schema(identity)
        keyed = schema.set(0, schema.field(0).with_metadata(_PRIMARY_KEY))
        connection = await self.connect()
        try:
            await connection.create_table(self.name, schema=keyed)
        except _FOREIGN as error:
            # Another process was faster. `exist_ok` is no help: it compares schemas, and raises for another encoder's.
            if "already exists" not in str(error):
                raise


def _utc(naive: datetime) -> datetime:
    """LanceDB tells the times of versions in UTC, without saying so."""
    return naive.replace(tzinfo=UTC) if naive.tzinfo is None else naive


def not_ready() -> NoReturn:
    raise NotReady("the table does not exist yet; it is created when the service starts with its encoder")


@contextmanager
def _translated(done: str) -> Iterator[None]:
    try:
        yield
    except _FOREIGN as error:
        raise StorageUnavailable(f"the table could not be {done}: its storage failed") from error
