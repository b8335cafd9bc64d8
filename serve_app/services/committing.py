"""One commit into the table: what is new or changed, merged by id. Knows nothing of who else writes, of queues or upkeep."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from serve_app.core.failures import failure_of
from serve_app.core.planning import same_row
from serve_app.core.vectors import check_unit
from serve_app.errors import CrossmodalError, FingerprintMismatch, NotReady
from serve_app.ports import DocumentTable
from serve_app.types import ItemFailure, Record, StoredDocument, TableHead


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit did. `replaced`: the rows that stood under the ids given, changed or not. `version`: the table's then."""

    changed: Sequence[Record]
    replaced: Sequence[StoredDocument]
    version: int

    @property
    def touched(self) -> bool:
        """Whether a row that was there before was changed."""
        there = {row.document.id for row in self.replaced}
        return any(record.id in there for record in self.changed)


async def commit(table: DocumentTable, records: Sequence[Record], version: int) -> Commit:
    """Merge records with distinct ids, leaving out what the table says already; `version`: the table's, if all is left out.

    May be repeated, and beside other writers: the table's merge keeps one row per id, and `created_at` of a row stays.
    """
    rows = {row.document.id: row for row in await table.get([each.id for each in records]) if row is not None}
    changed = [record for record in records if not same_row(record, rows.get(record.id))]
    if changed:
        created = {each.id: rows[each.id].document.created_at for each in changed if each.id in rows}
        version = await table.upsert(changed, created, datetime.now(UTC))
    return Commit(changed, list(rows.values()), version)


def refusal(record: Record, head: TableHead) -> ItemFailure | None:
    """Why a record may not be written into this table, None if it may."""
    try:
        if head.fingerprint is None or head.dimension is None:
            raise NotReady("the table is not prepared yet")
        if record.fingerprint != head.fingerprint:
            raise FingerprintMismatch(
                f"the table belongs to the encoder {head.fingerprint[:12]}, the vector came from {record.fingerprint[:12]}"
            )
        check_unit(record.vector, head.dimension)
    except CrossmodalError as error:
        return failure_of(error)
    return None
