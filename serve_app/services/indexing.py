"""Write the one table: group commit, one row per id, upkeep behind the writers' backs. Knows nothing of how a row was made.

There is one of these per table (the Indexer has one replica); the table's own merge guards against writers elsewhere.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from serve_app.core.batching import Batcher
from serve_app.core.index_policy import IndexPolicy
from serve_app.core.planning import same_row
from serve_app.core.records import pointed_to
from serve_app.errors import FingerprintMismatch
from serve_app.ports import MaintainedTable
from serve_app.services.committing import commit, refusal
from serve_app.services.index_keeper import IndexKeeper
from serve_app.services.kept_pictures import MOST_FREED, KeptPictures
from serve_app.services.table_upkeep import TableUpkeep
from serve_app.types import (
    DeletedRows,
    DeleteOutcome,
    EncoderCard,
    Filter,
    FloatMatrix,
    ItemFailure,
    Modality,
    Optimized,
    Orphans,
    Record,
    TableInfo,
    UpsertOutcome,
    UpsertStatus,
)

# Rows that one replacement looks at; a video has far fewer frames.
MOST_REPLACED = 100_000
# Shorter than any wait for an answer; an index over millions of rows takes longer.
OPTIMIZE_S = 10.0


class IndexingService:
    """Upserts that arrive together become one commit; each caller is answered after it."""

    def __init__(
        self,
        table: MaintainedTable,
        *,
        max_commit_documents: int,
        max_queued_documents: int,
        compact_every_commits: int,
        keep_versions: timedelta,
        calibration_sample: int,
        calibration_growth: float,
        index: IndexPolicy | None = None,
        pictures: KeptPictures | None = None,
    ) -> None:
        self._table = table
        self._pictures = pictures
        self._writing = asyncio.Lock()
        self._upkeep = TableUpkeep(
            table,
            self._writing,
            compact_every_commits=compact_every_commits,
            keep_versions=keep_versions,
            calibration_sample=calibration_sample,
            calibration_growth=calibration_growth,
            keeper=IndexKeeper(table, index or IndexPolicy()),
        )
        self._batcher = Batcher[Record, UpsertOutcome | ItemFailure](
            self._commit, max_batch_size=max_commit_documents, max_queued_items=max_queued_documents
        )

    @property
    def writing(self) -> asyncio.Lock:
        """Held during each commit: whoever changes the table as a whole takes it too."""
        return self._writing

    async def prepare_table(self, encoder: EncoderCard, usual_texts: FloatMatrix | None = None) -> TableInfo:
        """Create the table for this encoder if there is none. Raises FingerprintMismatch if it belongs to another.

        `usual_texts`: see ports.Indexing.prepare_table.
        """
        async with self._writing:
            info = await self._table.create(encoder)
        if info.fingerprint != encoder.fingerprint:
            raise FingerprintMismatch(
                f"the table {info.uri} was built with the encoder {info.model} ({(info.fingerprint or '')[:12]}), this graph "
                f"runs {encoder.model} ({encoder.fingerprint[:12]}): start it with the table's encoder, take a table of "
                "its own into service (crossmodal table use), or give it another table.uri and add the documents again"
            )
        if usual_texts is not None:
            self._upkeep.usual_texts = usual_texts
        self._upkeep.look()
        return info

    async def upsert(self, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        """Answered after the commit. Of several records with one id the last one stands."""
        return await self._batcher.submit_all(records)

    async def replace(self, where: Filter, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        """Upsert the records, and delete what else `where` matches, in one commit. One that fails fails for all.

        What stands there as given already is `unchanged`, and makes no commit.
        """
        async with self._writing:
            head = await self._table.head()
            failure = next(filter(None, (refusal(record, head) for record in records)), None)
            if failure is not None:
                return [failure] * len(records)
            rows = {row.document.id: row for row in await self._table.find(where, MOST_REPLACED)}
            rows |= {row.document.id: row for row in await self._table.get([each.id for each in records]) if row}
            gone = {each: row.document for each, row in rows.items() if each not in {record.id for record in records}}
            version, status = head.version, UpsertStatus.UNCHANGED
            if gone or not all(same_row(record, rows.get(record.id)) for record in records):
                created = {each: row.document.created_at for each, row in rows.items()}
                version = await self._table.upsert(records, created, datetime.now(UTC), instead_of=where)
                status = UpsertStatus.STORED
        if status is UpsertStatus.STORED:
            kept = {uri for record in records for uri in pointed_to(record)}
            self._free({uri for row in rows.values() for uri in pointed_to(row.document)} - kept)
            self._upkeep.wrote(Counter(record.modality for record in records), touched=bool(rows))
        return [UpsertOutcome(id=record.id, status=status, table_version=version) for record in records]

    async def delete(self, ids: Sequence[str]) -> list[DeleteOutcome]:
        """Deleting what is not there is no error: the outcome says so."""
        async with self._writing:
            present = {row.document.id: row.document for row in await self._table.get(ids) if row is not None}
            version = await self._table.delete(sorted(present)) if present else (await self._table.head()).version
        if present:
            self._free(uri for document in present.values() for uri in pointed_to(document))
            self._upkeep.wrote(Counter(document.modality for document in present.values()), touched=True)
        return [DeleteOutcome(id=each, deleted=each in present, table_version=version) for each in ids]

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        """Delete what a checked filter matches, everything if None, in one commit."""
        async with self._writing:
            uris = await self._table.uris_matching(where, MOST_FREED) if self._pictures else []
            deleted = await self._table.delete_matching(where)
        self._free(uris)
        # Of which modalities they were is not known: upkeep counts.
        self._upkeep.wrote({}, touched=True)
        self._upkeep.look()
        return deleted

    async def _commit(self, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        async with self._writing:
            return await self._write(records)

    async def _write(self, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        """One commit of what is new. The lock is held."""
        head = await self._table.head()
        failures = [refusal(record, head) for record in records]
        last = {each.id: each for each, failure in zip(records, failures, strict=True) if failure is None}
        done = await commit(self._table, list(last.values()), head.version)
        if done.changed:
            kept = {uri for record in last.values() for uri in pointed_to(record)}
            self._free({uri for row in done.replaced for uri in pointed_to(row.document)} - kept)
            self._upkeep.wrote(Counter(record.modality for record in done.changed), touched=done.touched)
        stored = {record.id for record in done.changed}
        return [
            failure
            or UpsertOutcome(
                id=record.id,
                status=UpsertStatus.STORED if record.id in stored else UpsertStatus.UNCHANGED,
                table_version=done.version,
            )
            for record, failure in zip(records, failures, strict=True)
        ]

    async def orphans(self, remove: bool, after: str | None = None) -> Orphans:
        """Kept pictures that no document points to: counted, and removed if told. See ports.Indexing."""
        return await self._pictures.orphans(remove=remove, after=after) if self._pictures else Orphans(0, 0, 0, 0)

    def _free(self, uris: Iterable[str]) -> None:
        if self._pictures:
            self._pictures.freed(uris)

    async def check_health(self) -> None:
        """Raises StorageUnavailable if the table cannot be reached."""
        await self._table.head()

    async def catch_up(self, rows: Mapping[Modality, int], *, touched: bool) -> None:
        """Look after the table once somebody else has written so many rows; returns when nothing is left to do."""
        self._upkeep.wrote(rows, touched=touched)
        self._upkeep.look()
        await self.settled()

    async def optimize(self) -> Optimized:
        """See ports.Indexing."""
        optimizing = asyncio.ensure_future(self._upkeep.optimize())
        done, _ = await asyncio.wait({optimizing}, timeout=OPTIMIZE_S)
        if not done:
            optimizing.cancel()  # the waiting, not the work
        else:
            optimizing.result()
        return Optimized(bool(done), (await self._table.head()).version)

    async def settled(self) -> None:
        """Wait until upkeep has nothing to do."""
        await self._upkeep.settled()
        if self._pictures:
            await self._pictures.settled()
