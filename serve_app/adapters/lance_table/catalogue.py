"""Which table is in service, and which were before: an append-only log, itself a small LanceDB table beside the others.

A switch is one commit that inserts the next number, so of two switches at once one wins and the other is told; replicas see it
as they see any new version. LanceDB's own atomic commit carries it, on a local disk as in object storage.

Versions of different tables cannot be compared. Each entry of the log therefore begins a new million: what users know as
`table_version` is the entry's `first_version` plus LanceDB's own number, and grows through every switch.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import lancedb
import pyarrow as pa

from serve_app.adapters.lance_table.database import FOREIGN, Database
from serve_app.errors import TableConflict

VERSIONS_PER_ENTRY = 1_000_000
# The unenforced primary key, as `set_unenforced_primary_key` writes it. Set with the schema, it is there from the first
# version on: no writer can come between creation and a second commit.
PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}
_SCHEMA = pa.schema(
    [
        pa.field("number", pa.string(), nullable=False, metadata=PRIMARY_KEY),
        pa.field("table", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("first_version", pa.int64(), nullable=False),
        pa.field("since", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A table that was taken into service. `fingerprint` is empty only while there is no log."""

    table: str
    fingerprint: str
    first_version: int
    since: datetime


class Catalogue:
    """The log of the tables called `name` or `name.something`. It may not exist: then `name` is in service."""

    def __init__(self, database: Database, name: str) -> None:
        self.name = name
        self._log_name = f"{name}.service"
        self._database = database
        self._log: lancedb.AsyncTable | None = None
        self._read: tuple[int, list[Entry]] = (0, [])

    async def entries(self) -> list[Entry]:
        """All entries, in order; as old as the database's `read_consistency` allows."""
        if self._log is None:
            self._log = await self._database.find(self._log_name)
        if self._log is None:
            return []
        version = await self._log.version()
        if version != self._read[0]:
            rows = (await self._log.query().to_arrow()).to_pylist()
            rows.sort(key=lambda row: int(row.pop("number")))
            self._read = (version, [Entry(**row) for row in rows])
        return self._read[1]

    async def refresh(self) -> None:
        """Look for newer entries whatever `read_consistency` says."""
        if self._log is not None:
            await self._log.checkout_latest()  # type: ignore[no-untyped-call]

    async def in_service(self, fingerprint: str | None = None) -> str:
        """The name of the table in service; with a fingerprint the last one in service of that encoder, if there was one."""
        entries = await self.entries()
        of_encoder = [entry.table for entry in entries if entry.fingerprint == fingerprint]
        if fingerprint is not None and entries and not of_encoder:
            # Somebody has seen a switch that this reader has not: it would answer from the wrong table.
            await self.refresh()
            entries = await self.entries()
            of_encoder = [entry.table for entry in entries if entry.fingerprint == fingerprint]
        if of_encoder:
            return of_encoder[-1]
        return entries[-1].table if entries else self.name

    def first_version(self, table: str) -> int:
        """What is added to LanceDB's own versions of this table; as last read."""
        return next((entry.first_version for entry in reversed(self._read[1]) if entry.table == table), 0)

    async def append(self, table: str, fingerprint: str, latest_version: int) -> None:
        """Take a table into service. `latest_version`: of the one before, 0 for the first. Raises TableConflict."""
        entries = await self.entries()
        if self._log is None:
            self._log = await self._database.make(self._log_name, _SCHEMA)
        first_version = (latest_version // VERSIONS_PER_ENTRY + 1) * VERSIONS_PER_ENTRY if entries else 0
        row = {
            "number": str(len(entries)),
            "table": table,
            "fingerprint": fingerprint,
            "first_version": first_version,
            "since": datetime.now(UTC),
        }
        # Only the primary key without an index notices that somebody else inserted the same number meanwhile.
        merge = self._log.merge_insert("number").when_not_matched_insert_all().use_index(False)
        try:
            inserted = (await merge.execute(pa.Table.from_pylist([row], _SCHEMA))).num_inserted_rows
        except FOREIGN as error:
            # Of several that make the log at once, one may make it again over the other's, and then enters its own row.
            if "Incompatible transaction" not in str(error):
                raise
            inserted, self._log = 0, None
        if not inserted:
            raise TableConflict("another table was taken into service at the same moment")
        await self.refresh()
        await self.entries()

    async def tables(self) -> list[str]:
        """The names of the tables that may be taken into service."""
        prefix = f"{self.name}."
        found = await self._database.names(self.name)
        return [each for each in found if (each == self.name or each.startswith(prefix)) and each != self._log_name]
