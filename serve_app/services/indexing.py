"""Write the one table: group commit, one row per id, upkeep behind the writers' backs. Knows nothing of how a row was made.

There is one of these per table (the Indexer has one replica); the table's own merge guards against writers elsewhere.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from serve_app.core.batching import Batcher
from serve_app.core.failures import failure_of
from serve_app.core.ranking import estimate_calibration, needs_calibration
from serve_app.core.vectors import check_unit
from serve_app.errors import CrossmodalError, FingerprintMismatch, NotReady
from serve_app.ports import MaintainedTable
from serve_app.types import (
    DeletedRows,
    DeleteOutcome,
    EncoderCard,
    Filter,
    ItemFailure,
    Modality,
    Record,
    StoredDocument,
    TableInfo,
    UpsertOutcome,
    UpsertStatus,
)

log = logging.getLogger(__name__)


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
    ) -> None:
        self._table = table
        self._compact_every_commits = compact_every_commits
        self._keep_versions = keep_versions
        self._calibration_sample = calibration_sample
        self._calibration_growth = calibration_growth
        self._commits_since_compaction = 0
        self._writing = asyncio.Lock()
        self._upkeep: asyncio.Task[None] | None = None
        self._batcher = Batcher[Record, UpsertOutcome | ItemFailure](
            self._commit, max_batch_size=max_commit_documents, max_queued_items=max_queued_documents
        )

    @property
    def writing(self) -> asyncio.Lock:
        """Held during each commit: whoever changes the table as a whole takes it too."""
        return self._writing

    async def prepare_table(self, encoder: EncoderCard) -> TableInfo:
        """Create the table for this encoder if there is none. Raises FingerprintMismatch if it belongs to another."""
        async with self._writing:
            info = await self._table.create(encoder)
        self._look_after_table()
        if info.fingerprint != encoder.fingerprint:
            raise FingerprintMismatch(
                f"the table {info.uri} was built with the encoder {info.model} ({(info.fingerprint or '')[:12]}), this graph "
                f"runs {encoder.model} ({encoder.fingerprint[:12]}): start it with the table's encoder, or give it another "
                "table.uri and add the documents again"
            )
        return info

    async def upsert(self, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        """Answered after the commit. Of several records with one id the last one stands."""
        return await self._batcher.submit_all(records)

    async def delete(self, ids: Sequence[str]) -> list[DeleteOutcome]:
        """Deleting what is not there is no error: the outcome says so."""
        async with self._writing:
            present = {row.document.id for row in await self._table.get(ids) if row is not None}
            version = await self._table.delete(sorted(present)) if present else (await self._table.info()).version
        self._look_after_table()
        return [DeleteOutcome(id=each, deleted=each in present, table_version=version) for each in ids]

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        """Delete what a checked filter matches, everything if None, in one commit."""
        async with self._writing:
            deleted = await self._table.delete_matching(where)
            self._commits_since_compaction += 1
        self._look_after_table()
        return deleted

    async def _commit(self, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        async with self._writing:
            info = await self._table.info()
            failures = [_failure(record, info) for record in records]
            last = {each.id: each for each, failure in zip(records, failures, strict=True) if failure is None}
            rows = {row.document.id: row for row in await self._table.get(list(last)) if row is not None}
            changed = [record for record in last.values() if not _same(record, rows.get(record.id))]
            version = info.version
            if changed:
                created = {each.id: rows[each.id].document.created_at for each in changed if each.id in rows}
                version = await self._table.upsert(changed, created, datetime.now(UTC))
                self._commits_since_compaction += 1
        self._look_after_table()
        stored = {record.id for record in changed}
        return [
            failure
            or UpsertOutcome(
                id=record.id,
                status=UpsertStatus.STORED if record.id in stored else UpsertStatus.UNCHANGED,
                table_version=version,
            )
            for record, failure in zip(records, failures, strict=True)
        ]

    def _look_after_table(self) -> None:
        """Start upkeep unless it is at it: never inside a user's request."""
        if self._upkeep is None or self._upkeep.done():
            self._upkeep = asyncio.get_running_loop().create_task(self._maintain())

    async def check_health(self) -> None:
        """Raises StorageUnavailable if the table cannot be reached."""
        await self._table.info()

    async def settled(self) -> None:
        """Wait until upkeep has nothing to do."""
        if self._upkeep is not None:
            await self._upkeep

    async def _maintain(self) -> None:
        try:
            await self._calibrate_if_needed()
            if self._commits_since_compaction >= self._compact_every_commits:
                async with self._writing:
                    await self._table.maintain(self._keep_versions)
                    self._commits_since_compaction = 0
        except CrossmodalError:
            # The documents are committed; upkeep is tried again after the next commit.
            log.exception("upkeep of the table failed")

    async def _calibrate_if_needed(self) -> None:
        while needs_calibration(
            present := await self._table.calibration(), (await self._table.info()).counts, self._calibration_growth
        ):
            async with self._writing:
                counts = (await self._table.info()).counts
                samples = {each: await self._table.sample(each, self._calibration_sample) for each in Modality}
                await self._table.store_calibration(estimate_calibration(samples, counts, present.version + 1))


def _failure(record: Record, info: TableInfo) -> ItemFailure | None:
    try:
        if info.fingerprint is None or info.dimension is None:
            raise NotReady("the table is not prepared yet")
        if record.fingerprint != info.fingerprint:
            raise FingerprintMismatch(
                f"the table belongs to the encoder {info.fingerprint[:12]}, the vector came from {record.fingerprint[:12]}"
            )
        check_unit(record.vector, info.dimension)
    except CrossmodalError as error:
        return failure_of(error)
    return None


def _same(record: Record, row: StoredDocument | None) -> bool:
    """Whether the row says already what the record says; a vector follows from the content."""
    return row is not None and (
        row.document.content_sha256,
        row.document.modality,
        row.document.uri,
        row.document.text,
        row.document.metadata,
        row.document.fields,
    ) == (record.content_sha256, record.modality, record.uri, record.text, record.metadata, record.fields)
