"""The connection to a LanceDB database and its open tables, one of each per process; LanceDB's errors become ours here.

Knows names of tables and what their schemas say; knows nothing of rows, nor which table is in service.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import lancedb
import pyarrow as pa

from serve_app.core.columns import LATE_COLUMNS, fields_of
from serve_app.core.records import (
    TableIdentity,
    calibration_from_json,
    identity_of,
    index_from_json,
    vectors_in,
)
from serve_app.errors import StorageUnavailable
from serve_app.types import Calibration, FieldType, IndexState, VectorType

# On the vector field: LanceDB updates the metadata of fields in one commit, and that of the schema not at all.
CALIBRATION_KEY = "crossmodal.calibration"
INDEX_KEY = "crossmodal.index"
# LanceDB has no error classes of its own: it raises these.
FOREIGN = (ValueError, RuntimeError, OSError, pa.ArrowException)
_GONE = ("not found", "no longer exists")


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What the schema said at a version, which is LanceDB's own number. `late`: which of LATE_COLUMNS it has."""

    version: int
    identity: TableIdentity
    calibration: Calibration
    fields: Mapping[str, FieldType]
    index: IndexState | None
    late: frozenset[str]
    vectors: VectorType


@dataclass(slots=True, eq=False)
class OpenTable:
    """A table of LanceDB that this process reads and writes; `pinned`: its one version, where it was opened at one."""

    lance: lancedb.AsyncTable
    name: str
    pinned: int | None
    state: SchemaState | None = field(default=None)


class Database:
    """Not picklable once used: it lives in one process and one event loop.

    `uri`: a folder or s3://, gs://, az://. `read_consistency`: how old a view may be; zero looks before every read.
    `session`: LanceDB's caches, with their bounds.
    """

    def __init__(
        self,
        uri: str,
        storage_options: Mapping[str, str] | None,
        read_consistency: timedelta,
        session: lancedb.Session | None = None,
    ) -> None:
        self.uri = uri
        self._storage_options = dict(storage_options or {})
        self._read_consistency = read_consistency
        self._session = session
        self._opening = asyncio.Lock()
        self._connection: lancedb.AsyncConnection | None = None
        self._tables: dict[tuple[str, int | None], OpenTable] = {}

    async def connect(self) -> lancedb.AsyncConnection:
        """The connection of this process."""
        if self._connection is None:
            self._connection = await lancedb.connect_async(
                self.uri,
                read_consistency_interval=self._read_consistency,
                storage_options=self._storage_options or None,
                session=self._session,
            )
        return self._connection

    async def find(self, name: str) -> lancedb.AsyncTable | None:
        """A handle of its own on the table, None where there is none."""
        connection = await self.connect()
        try:
            return await connection.open_table(name)
        except ValueError as error:
            if "was not found" not in str(error):
                raise
            return None

    async def make(self, name: str, schema: pa.Schema) -> lancedb.AsyncTable:
        """A new and empty table, or the one that somebody else made at the same moment."""
        connection = await self.connect()
        try:
            # `exist_ok` is no help: it compares schemas, and raises for another encoder's.
            return await connection.create_table(name, schema=schema)
        except FOREIGN:
            # Of several at once LanceDB tells some that it exists already, and some of a conflict between commits.
            made = await self.find(name)
            if made is None:
                raise
            return made

    async def open(self, name: str, pinned: int | None = None) -> OpenTable | None:
        """The table as all of this process share it. Raises FingerprintMismatch for one that crossmodal did not make."""
        key = (name, pinned)
        if key in self._tables:
            return self._tables[key]
        async with self._opening:
            if key not in self._tables:
                table = await self.find(name) if pinned is None else await self._open_at(name, pinned)
                if table is None:
                    return None
                # Before anything is read as if it were ours.
                identity_of(await table.schema())
                self._tables[key] = OpenTable(table, name, pinned)
            return self._tables[key]

    def opened(self, lance: lancedb.AsyncTable, pinned: int | None) -> OpenTable:
        """What is known of an open table; nothing yet of one that was forgotten meanwhile."""
        known = self._tables.get((lance.name, pinned))
        return known if known is not None and known.lance is lance else OpenTable(lance, lance.name, pinned)

    def forget(self, table: OpenTable) -> None:
        """Open it anew next time: its version was pruned, or it was dropped."""
        if self._tables.get((table.name, table.pinned)) is table:
            del self._tables[table.name, table.pinned]

    async def names(self, prefix: str) -> list[str]:
        """Every table whose name begins so, in order."""
        connection = await self.connect()
        found: list[str] = []
        while page := await connection.table_names(start_after=found[-1] if found else None, limit=100):
            found += page
        return [name for name in found if name.startswith(prefix)]

    async def state(self, table: OpenTable) -> SchemaState:
        """What the schema says now. Read once per version."""
        version = int(await table.lance.version())
        if table.state is None or table.state.version != version:
            schema = await table.lance.schema()
            stored = {key.decode(): text.decode() for key, text in (schema.field("vector").metadata or {}).items()}
            calibration = calibration_from_json(stored.get(CALIBRATION_KEY))
            index = index_from_json(stored.get(INDEX_KEY))
            late = frozenset(LATE_COLUMNS) & frozenset(schema.names)
            table.state = SchemaState(
                *(version, identity_of(schema), calibration, fields_of(schema), index, late, vectors_in(schema))
            )
        return table.state

    async def _open_at(self, name: str, version: int) -> lancedb.AsyncTable:
        # Old views are few, and cheap to open again.
        for key in [key for key in self._tables if key[1] is not None][:-_PINNED_TABLES]:
            del self._tables[key]
        return await (await self.connect()).open_table(name, version=version)


_PINNED_TABLES = 7


def is_gone(error: Exception) -> bool:
    """Whether LanceDB says that what a handle saw does not exist any more."""
    return any(sign in str(error).lower() for sign in _GONE)


@contextmanager
def translated(done: str) -> Iterator[None]:
    """LanceDB's errors as StorageUnavailable. `done`: "read" for "the table could not be read"."""
    try:
        yield
    except TimeoutError as error:
        raise StorageUnavailable(f"the table could not be {done}: its storage did not answer in time") from error
    except FOREIGN as error:
        raise StorageUnavailable(f"the table could not be {done}: its storage failed") from error
