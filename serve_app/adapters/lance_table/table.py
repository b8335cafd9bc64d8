"""The DocumentTable over LanceDB: rows in, rows out.

Promises neighbours with exact cosine distances, one row per id whoever writes at the same time, and errors of ours only.
Knows nothing of ranking, of HTTP, or of whether the table's encoder is the right one: the caller compares fingerprints.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lancedb.query import ColumnOrdering

from serve_app.adapters.lance_table.bulk import all_batches, id_marks, merge_rows
from serve_app.adapters.lance_table.catalogue import Catalogue
from serve_app.adapters.lance_table.database import FOREIGN, Database, is_gone, translated
from serve_app.adapters.lance_table.fields import add_fields, follow_schema, index_fields
from serve_app.adapters.lance_table.filters import Predicate, ids_are, modality_is, predicate
from serve_app.adapters.lance_table.handle import (
    CALIBRATION_KEY,
    INDEX_KEY,
    READ_S,
    WRITE_S,
    TableHandle,
    TableState,
    not_ready,
)
from serve_app.adapters.lance_table.indexes import (
    ALL_LISTS,
    build_vector_index,
    drop_vector_index,
    nearest_rows,
    unindexed_rows,
)
from serve_app.adapters.lance_table.keeping import LanceKeeping
from serve_app.adapters.lance_table.texts import index_texts, words_query
from serve_app.adapters.lance_table.upkeep import maintain
from serve_app.adapters.lance_table.uris import pointed_to, uri_columns
from serve_app.adapters.lance_table.widths import FilterWidths
from serve_app.core.columns import LATE_COLUMNS, QUERY_COLUMN
from serve_app.core.index_policy import NARROW_ROWS, reach_of, sparse_reading
from serve_app.core.ranking import empty_calibration
from serve_app.core.records import (
    TableIdentity,
    calibration_to_json,
    check_ids,
    check_rows,
    check_vectors,
    index_to_json,
    records_to_rows,
    rows_to_documents,
    spread,
    table_identity,
    vectors_of,
    with_vectors,
)
from serve_app.core.row_checks import RowStamp
from serve_app.errors import InvalidRequest, SnapshotNotFound
from serve_app.types import (
    And,
    Calibration,
    Compare,
    DeletedRows,
    EncoderCard,
    FieldSpec,
    Filter,
    FloatMatrix,
    IndexKind,
    IndexReading,
    IndexState,
    Modality,
    Operator,
    Reach,
    Record,
    StoredDocument,
    TableHead,
    TableInfo,
    TextIndexSpec,
    TextMatch,
    VectorType,
)

_IDS_PER_READ = 1000
# Times the rows that are asked for: so many that match the words of a query equally well are put in order.
_MOST_TIED = 16
_VIEWS = 8
# At each of them one writer at least gets through.
_STORE_ATTEMPTS = 16


class LanceTable:
    """A DocumentTable. Not picklable once used: build it in the process that uses it, in one event loop.

    `uri`: a folder or s3://, gs://, az://. `read_consistency`: how old a view may be; zero looks before every read.
    `fields` are the declared ones, `texts` says how texts are indexed, `vectors` what a new table keeps them in; only a writer
    has to know any of them.
    `unread_for`: how long a table that was in service is kept from being dropped.
    `index_cache_bytes`, `metadata_cache_bytes`: most memory that LanceDB keeps of the table; its own default is 7 GiB.
    Every method raises StorageUnavailable when the storage fails, and FingerprintMismatch on a table that is not ours.
    """

    def __init__(
        self,
        uri: str,
        name: str = "documents",
        storage_options: Mapping[str, str] | None = None,
        read_consistency: timedelta = timedelta(0),
        fields: Mapping[str, FieldSpec] = MappingProxyType({}),
        texts: TextIndexSpec | None = None,
        unread_for: timedelta = timedelta(hours=1),
        *,
        vectors: VectorType = VectorType.FLOAT32,
        index_cache_bytes: int | None = None,
        metadata_cache_bytes: int | None = None,
    ) -> None:
        self._texts = texts or TextIndexSpec()
        self._fields = fields
        self._vectors = vectors
        session = lancedb.Session(index_cache_bytes, metadata_cache_bytes)
        database = Database(uri, storage_options, read_consistency, session)
        self._catalogue = Catalogue(database, name)
        self._database = database
        self.keeping = LanceKeeping(database, self._catalogue, unread_for)
        self._handle = TableHandle(database, self._catalogue)
        self._widths = FilterWidths()
        self._described: tuple[TableState, TableInfo] | None = None
        self._views: dict[tuple[str, int | None], LanceTable] = {}

    async def info(self) -> TableInfo:
        """The state of the table as this handle sees it; version 0 while there is none."""
        return (await self.info_and_calibration())[0]

    async def info_and_calibration(self) -> tuple[TableInfo, Calibration]:
        """See ports.DocumentTable; the empty calibration while there is none."""
        return await self._handle.run(
            "described", self._describe, lambda: (self._no_info(), empty_calibration()), within_s=READ_S
        )

    async def create(self, encoder: EncoderCard) -> TableInfo:
        """Create the table if there is none, and add columns for fields that it lacks; two processes may do so at once.

        Returns the state either way. Raises InvalidConfig for a field that was removed or has another type.
        """
        return await self.create_for(table_identity(encoder))

    async def create_for(self, identity: TableIdentity) -> TableInfo:
        """See `create`; for rows that were encoded elsewhere, where this process has no encoder."""
        await self._handle.create(identity, self._vectors)

        async def complete(table: lancedb.AsyncTable) -> None:
            if (await self._handle.identity(table)).fingerprint != identity.fingerprint:
                return
            await follow_schema(table)
            await add_fields(table, self._fields)
            if not await table.count_rows():
                # From the first row on: only an index says how texts and queries are cut into words. A table with rows
                # waits for upkeep, which is in nobody's way.
                await index_texts(table, self._texts)
                await index_fields(table, self._fields)

        await self._handle.run("prepared", complete, not_ready)
        return await self.info()

    async def refresh(self, min_version: int) -> int:
        """See ports.DocumentTable.refresh; whatever `read_consistency` says. Raises StaleTable."""
        return await self._handle.refresh(min_version)

    async def at(self, as_of: str | None, fingerprint: str | None = None) -> "LanceTable":
        """See ports.DocumentTable.at. Raises SnapshotNotFound."""
        if as_of is None and self._handle.name is not None:
            return self
        with translated("read"):
            if as_of is None:
                return self._view(await self._catalogue.in_service(fingerprint), None)
            return self._view(*await self.keeping.find(as_of, fingerprint))

    async def frozen(self) -> "LanceTable":
        """The table as it is now: read-only, and the same rows whatever is written. Raises NotReady without a table."""

        async def look(table: lancedb.AsyncTable) -> tuple[str, int]:
            state = await self._handle.state(table)
            return state.table, state.lance_version

        return self._view(*await self._handle.run("read", look, not_ready))

    def beside(self, name: str) -> "LanceTable":
        """The table of this name, to be created and filled while another one is in service: `documents.rebuilt`."""
        if not name.startswith(f"{self._catalogue.name}."):
            raise InvalidRequest(
                f"the name of a table beside {self._catalogue.name} begins with {self._catalogue.name}."
            )
        return self._view(name, None)

    def named(self, name: str) -> "LanceTable":
        """The table of this name, whether it is in service or not: that of the configuration, or one beside it."""
        return self._view(name, None) if name == self._catalogue.name else self.beside(name)

    async def head(self) -> TableHead:
        """What has to be known before a commit; version 0 while there is no table."""

        async def read(table: lancedb.AsyncTable) -> TableHead:
            state = await self._handle.state(table)
            return TableHead(state.version, state.identity.fingerprint, state.identity.dimension)

        return await self._handle.run("read", read, lambda: TableHead(0, None, None), within_s=READ_S)

    async def maintain(self, keep_versions: timedelta) -> None:
        """Compact, bring the indexes up to date, and drop versions older than `keep_versions`. Readers go on meanwhile.

        Keep versions for much longer than any `read_consistency`: a reader of a dropped version has to start again.
        """

        async def work(table: lancedb.AsyncTable) -> None:
            await index_texts(table, self._texts)
            await index_fields(table, self._fields)
            await maintain(table, keep_versions)

        await self._handle.run("compacted", work, not_ready)

    async def build_index(self, kind: IndexKind, partitions: int) -> None:
        """Make the vector index over all rows, in place of the one that is there. Raises NotReady without a table."""
        await self._handle.run("indexed", lambda table: build_vector_index(table, kind, partitions), not_ready)

    async def drop_index(self) -> None:
        """Remove the vector index, if there is one. Raises NotReady without a table."""
        await self._handle.run("indexed", drop_vector_index, not_ready)

    async def store_index(self, state: IndexState) -> None:
        """Store how the table is searched; makes a new version and rewrites no row. Raises NotReady without a table."""
        await self._store(INDEX_KEY, index_to_json(state))

    async def uris_matching(self, where: Filter | None, limit: int) -> list[str]:
        """Up to `limit` URIs that rows which `where` matches point to, of all rows if None; in no order."""

        async def read(table: lancedb.AsyncTable) -> list[str]:
            # Whatever points to a kept picture of a frame points to its video, too.
            asked = await self._predicate(table, _both(Compare("uri", Operator.EXISTS, True), where))
            columns = await uri_columns(table)
            rows = await table.query().where(asked).select(columns).limit(limit).to_arrow()
            found = {uri: None for column in columns for uri in rows.column(column).to_pylist() if uri is not None}
            return list(found)[:limit]

        return await self._handle.run("read", read, list)

    async def used_uris(self, uris: Sequence[str]) -> set[str]:
        """Those of these URIs that a row points to, of this table, of a snapshot, or of a table beside it."""

        async def read(table: lancedb.AsyncTable) -> set[str]:
            return await pointed_to(table, uris)

        return await self._handle.run("read", read, set[str]) | await self.keeping.kept_uris(uris)

    async def probe(
        self, vectors: FloatMatrix, modality: Modality, limit: int, reading: IndexReading | None
    ) -> list[list[str]]:
        """The ids that `nearest` finds by this reading, or exactly without one; fewer where its lists hold fewer."""

        async def search(table: lancedb.AsyncTable) -> pa.Table:
            def query() -> Any:
                found = table.query().nearest_to(vectors).column("vector").where(modality_is(modality)).limit(limit)
                return found.select(["id", "_distance"])

            # No second look in all lists: one query that comes up short would have it done for all, and flatter the reading.
            return await nearest_rows(query, reading, limit)

        rows = _with_query_index(await self._handle.run("read", search, not_ready))
        found: list[list[str]] = [[] for _ in vectors]
        for query, document_id in zip(
            rows.column(QUERY_COLUMN).to_pylist(), rows.column("id").to_pylist(), strict=True
        ):
            found[query].append(document_id)
        return found

    async def get(self, ids: Sequence[str]) -> list[StoredDocument | None]:
        """One entry per id, in order, None where there is no such document. Raises InvalidDocumentId."""
        chunks = await self._find(ids, None)
        found = {row.document.id: row for rows in chunks for row in rows_to_documents(rows)}
        return [found.get(document_id) for document_id in ids]

    async def nearest(
        self, vectors: FloatMatrix, modality: Modality, limit: int, where: Filter | None = None, *, aimed: bool = False
    ) -> list[list[StoredDocument]]:
        """For each row of [n, dimension] its `limit` nearest rows of one modality that `where` matches, best first, equals
        by id.

        One search for all n. By the index, as `store_index` last told, or by reading every vector that a narrow filter leaves;
        either way the distances are those of the raw vectors. `aimed`: see ports.DocumentTable. Which of several equally near
        rows make it into the last places is the storage's choice. Raises InvalidVector.
        """

        async def search(table: lancedb.AsyncTable) -> pa.Table | None:
            state = await self._handle.state(table)
            check_vectors(vectors, state.identity.dimension)
            if limit < 1 or not len(vectors):
                return None
            of_modality = _both(Compare("modality", Operator.EQ, modality.value), where)
            matching = _predicate(of_modality, state)
            readings = state.index.readings if state.index else None
            fitting = None
            if readings and where is not None:
                fitting = await self._widths.of(table, modality, where, matching)
            return await nearest_rows(
                lambda: table.query().nearest_to(vectors).column("vector").where(matching).limit(limit),
                _reading(readings, fitting, aimed) if readings else None,
                limit,
                at_least=limit * len(vectors),
            )

        rows: pa.Table | None = await self._handle.run("read", search, lambda: None, within_s=READ_S)
        return [[] for _ in vectors] if rows is None else _by_query(rows, len(vectors))

    async def matching(
        self, text: str, modalities: Sequence[Modality], limit: int, where: Filter | None = None
    ) -> list[TextMatch]:
        """The `limit` best rows by BM25 over `text`, best first, equals by id; rows that no index holds yet among them."""
        words = words_query(text)

        async def search(table: lancedb.AsyncTable) -> pa.Table | None:
            if words is None or limit < 1 or not modalities:
                return None
            of_modalities = Compare("modality", Operator.IN, tuple(each.value for each in modalities))
            asked = await self._predicate(table, _both(of_modalities, where))

            async def best(count: int) -> pa.Table:
                found = await table.query().nearest_to_text(words).where(asked).limit(count).to_arrow()
                return found.sort_by([("_score", "descending"), ("id", "ascending")])

            # Of rows that match equally well Lance takes any: where the last place falls among such, they are all looked at.
            rows = await best(limit + 1)
            if len(rows) > limit and rows["_score"][limit] == rows["_score"][limit - 1]:
                rows = await best(_MOST_TIED * limit)
            return rows.slice(0, limit)

        rows: pa.Table | None = await self._handle.run("read", search, lambda: None, within_s=READ_S)
        if rows is None:
            return []
        scores = rows.column("_score").to_pylist()
        return [TextMatch(row, score) for row, score in zip(rows_to_documents(rows), scores, strict=True)]

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> list[StoredDocument]:
        """The first `limit` rows that `where` matches, in the order of their ids, those after the id `after`."""
        after_id = None if after is None else Compare("id", Operator.GT, after)
        asked = _both(after_id, where)

        async def read(table: lancedb.AsyncTable) -> list[str]:
            # Their ids first: sorting whole rows would read the vectors of all that match.
            query = table.query() if asked is None else table.query().where(await self._predicate(table, asked))
            keys = query.select(["id"]).order_by([ColumnOrdering(column_name="id")]).limit(limit)
            return list((await keys.to_arrow()).column("id").to_pylist())

        ids: list[str] = await self._handle.run("read", read, list, within_s=READ_S) if limit > 0 else []
        return [row for row in await self.get(ids) if row is not None]

    async def count(self, where: Filter) -> int:
        """How many rows `where` matches; reads none of them whole."""

        async def read(table: lancedb.AsyncTable) -> int:
            asked = await self._predicate(table, where)
            return await table.count_rows(asked if isinstance(asked, str) else asked.to_sql())

        return await self._handle.run("read", read, lambda: 0, within_s=READ_S)

    async def sample(self, modality: Modality, limit: int) -> FloatMatrix:
        """Up to `limit` raw vectors, evenly spaced in the order of storage; the same for the same version."""

        async def read(table: lancedb.AsyncTable) -> FloatMatrix:
            state = await self._handle.state(table)
            # A handle of its own, pinned: row ids mean nothing in another version.
            pinned = await self._handle.pinned(table, state.lance_version)
            found = await pinned.query().where(modality_is(modality)).select([]).with_row_id().to_arrow()
            row_ids = np.sort(found.column("_rowid").to_numpy())
            chosen = row_ids[spread(len(row_ids), limit)].tolist()
            if not chosen:
                return np.empty((0, state.identity.dimension), np.float32)
            rows = await pinned.take_row_ids(chosen).select(["vector"]).with_row_id().to_arrow()
            return vectors_of(rows.sort_by("_rowid"))

        return await self._handle.run("read", read, lambda: np.empty((0, 0), np.float32))

    async def calibration(self) -> Calibration:
        """The calibration last stored, the empty one before. Read once per version of the table."""

        async def read(table: lancedb.AsyncTable) -> Calibration:
            return (await self._handle.state(table)).calibration

        return await self._handle.run("read", read, empty_calibration)

    async def upsert(
        self,
        records: Sequence[Record],
        created_at: Mapping[str, datetime],
        now: datetime,
        *,
        instead_of: Filter | None = None,
    ) -> int:
        """Insert or replace by id, all or nothing, in one commit; returns its version. `instead_of`: see ports.DocumentTable.

        Raises NotReady without a table, InvalidVector, InvalidDocumentId, InvalidRequest (metadata, an id given twice).
        """
        state = await self._handle.run("read", self._handle.state, not_ready, within_s=READ_S)
        if not records:
            return state.version
        made = records_to_rows(records, state.identity, created_at, now, state.fields)

        async def write(table: lancedb.AsyncTable) -> int:
            now_there = await self._handle.state(table)
            if now_there.late < frozenset(LATE_COLUMNS):
                await follow_schema(table)  # A snapshot from before these columns was restored.
            rows = with_vectors(made, now_there.vectors)
            merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            if instead_of is not None:
                gone = await self._predicate(table, instead_of)
                merge = merge.when_not_matched_by_source_delete(gone if isinstance(gone, str) else gone.to_sql())
            # Only the primary key without an index notices that another writer inserted the same new id meanwhile.
            return self._handle.served(table, (await merge.use_index(False).execute(rows)).version)

        return await self._handle.run("written", write, not_ready, within_s=WRITE_S)

    async def id_marks(self, one_in: int) -> list[str]:
        """About one id in so many, in order, to cut the table into ranges; the same ones whatever else is written."""
        return await self._handle.run("read", lambda table: id_marks(table, one_in), list)

    async def all_rows(self, batch_rows: int, where: Filter | None = None) -> AsyncIterator[pa.Table]:
        """Every row, or those that `where` matches, as the table is now, with its schema; in the order of storage.

        Raises NotReady without a table, SnapshotNotFound if upkeep removes this version before all of it is read.
        """

        pinned, asked = await self._pinned(where)
        with translated("read"):
            try:
                async for batch in all_batches(pinned, None, batch_rows, asked):
                    yield with_vectors(pa.Table.from_batches([batch]), VectorType.FLOAT32)
            except FOREIGN as error:
                if not is_gone(error):
                    raise
                raise SnapshotNotFound(
                    "this version of the table was removed while it was read: keep it by crossmodal snapshot create"
                ) from error

    async def _pinned(self, where: Filter | None) -> tuple[lancedb.AsyncTable, Any]:
        """The table as it is now, and stays, with `where` for its columns. Raises NotReady without a table."""

        async def pin(table: lancedb.AsyncTable) -> tuple[lancedb.AsyncTable, Any]:
            state = await self._handle.state(table)
            asked = None if where is None else await self._predicate(table, where)
            return await self._handle.pinned(table, state.lance_version), asked

        return await self._handle.run("read", pin, not_ready)

    async def stamps(self, ids: Sequence[str]) -> dict[str, RowStamp]:
        """Of each of these ids that is there: what tells whether its row is still the same. Raises InvalidDocumentId."""
        columns = ["id", "content_sha256", "created_at", "updated_at"]
        return {
            document_id: RowStamp(*stamp)
            for rows in await self._find(ids, columns)
            for document_id, *stamp in zip(*(rows.column(name).to_pylist() for name in columns), strict=True)
        }

    async def row_marks(
        self, where: Filter | None = None, batch_rows: int = 16_384
    ) -> AsyncIterator[tuple[list[str], npt.NDArray[np.int64]]]:
        """Id and `updated_at` (microseconds since 1970) of every row, or of those that `where` matches, in one version of the
        table. Raises NotReady without a table."""
        pinned, asked = await self._pinned(where)
        with translated("read"):
            async for batch in all_batches(pinned, ["id", "updated_at"], batch_rows, asked):
                times = batch.column("updated_at").cast(pa.int64()).to_numpy()
                yield batch.column("id").to_pylist(), times

    async def put_rows(self, rows: pa.Table) -> int:
        """Insert or replace rows as they are, their times among them, in one commit; returns its version.

        `rows` have the columns and the fields of this table. Raises NotReady, InvalidVector, InvalidDocumentId, InvalidRequest.
        """
        state = await self._handle.run("read", self._handle.state, not_ready, within_s=READ_S)
        check_rows(rows, state.identity.dimension)

        async def write(table: lancedb.AsyncTable) -> int:
            kept = (await self._handle.state(table)).vectors
            return self._handle.served(table, await merge_rows(table, with_vectors(rows, kept)))

        return await self._handle.run("written", write, not_ready, within_s=WRITE_S)

    async def delete(self, ids: Sequence[str]) -> int:
        """Delete what is there of `ids`; returns the version in which it is gone. Nothing to delete makes no version."""
        present = [found for rows in await self._find(ids, ["id"]) for found in rows.column("id").to_pylist()]

        async def write(table: lancedb.AsyncTable) -> int:
            version = (await table.delete(ids_are(present))).version if present else await table.version()
            return self._handle.served(table, version)

        return await self._handle.run("written", write, lambda: 0, within_s=WRITE_S)

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        """Delete what `where` matches, everything if None, in one commit. Raises NotReady without a table."""

        async def write(table: lancedb.AsyncTable) -> DeletedRows:
            asked = lancedb.lit(True) if where is None else await self._predicate(table, where)
            done: Any = await table.delete(asked)
            return DeletedRows(int(done.num_deleted_rows), self._handle.served(table, done.version))

        return await self._handle.run("written", write, not_ready, within_s=WRITE_S)

    async def store_calibration(self, calibration: Calibration) -> None:
        """Store it with the table; makes a new version and rewrites no row. Raises NotReady without a table."""
        await self._store(CALIBRATION_KEY, calibration_to_json(calibration))

    async def _store(self, key: str, text: str) -> None:
        """Two that store at once conflict, whatever their keys: whoever lost stores again, and the last one stands."""

        async def write(table: lancedb.AsyncTable) -> None:
            for attempt in range(1, _STORE_ATTEMPTS + 1):
                try:
                    await table.update_field_metadata({"path": "vector", "metadata": {key: text}})
                except RuntimeError as error:
                    if attempt == _STORE_ATTEMPTS or "concurrent transaction UpdateConfig" not in str(error):
                        raise
                    await table.checkout_latest()  # type: ignore[no-untyped-call]
                else:
                    return

        await self._handle.run("written", write, not_ready, within_s=WRITE_S)

    async def _find(self, ids: Sequence[str], columns: list[str] | None) -> list[pa.Table]:
        """The rows with these ids, in parts, in no order; all columns if None."""
        check_ids(ids)
        distinct = list(dict.fromkeys(ids))

        async def read(table: lancedb.AsyncTable) -> list[pa.Table]:
            parts = (distinct[start : start + _IDS_PER_READ] for start in range(0, len(distinct), _IDS_PER_READ))
            queries = (table.query().where(ids_are(part)) for part in parts)
            return [await (each.select(columns) if columns else each).to_arrow() for each in queries]

        return await self._handle.run("read", read, list, within_s=READ_S)

    async def _predicate(self, table: lancedb.AsyncTable, where: Filter) -> Predicate:
        return _predicate(where, await self._handle.state(table))

    async def _describe(self, table: lancedb.AsyncTable) -> tuple[TableInfo, Calibration]:
        state = await self._handle.state(table)
        if self._described is None or self._described[0] is not state:
            index = state.index and replace(state.index, unindexed_rows=await unindexed_rows(table))
            info = TableInfo(
                uri=self._handle.uri,
                version=state.version,
                counts={modality: await table.count_rows(modality_is(modality).to_sql()) for modality in Modality},
                fingerprint=state.identity.fingerprint,
                model=state.identity.model,
                dimension=state.identity.dimension,
                calibration_version=state.calibration.version,
                fields=state.fields,
                index=index,
            )
            self._described = (state, info)
        return self._described[1], state.calibration

    def _view(self, name: str, pinned: int | None) -> "LanceTable":
        """One for each table and version, so that what it has counted is counted once."""
        view = self._views.get((name, pinned))
        if view is None:
            while len(self._views) >= _VIEWS:
                del self._views[next(iter(self._views))]
            view = self._views[name, pinned] = copy(self)
            view._handle = TableHandle(self._database, self._catalogue, name=name, pinned=pinned)
            view._described = None
            view._widths = FilterWidths()
        return view

    def _no_info(self) -> TableInfo:
        return TableInfo(self._handle.uri, 0, dict.fromkeys(Modality, 0), None, None, None, calibration_version=0)


def _predicate(where: Filter, state: TableState) -> Predicate:
    return predicate(where, {*state.fields, *state.late})


def _reading(readings: Mapping[Reach, IndexReading], fitting: int | None, aimed: bool) -> IndexReading | None:
    """How to read the index for a search; None where reading the rows themselves is quicker."""
    if fitting is not None and fitting <= NARROW_ROWS:
        return None
    reach = reach_of(aimed=aimed, fitting=fitting)
    if reach is Reach.SPARSE and fitting is not None:
        return sparse_reading(readings, fitting)
    return replace(readings[Reach.PLAIN], nprobes=ALL_LISTS) if reach is None else readings[reach]


def _by_query(rows: pa.Table, count: int) -> list[list[StoredDocument]]:
    rows = _with_query_index(rows).sort_by([(column, "ascending") for column in (QUERY_COLUMN, "_distance", "id")])
    pages: list[list[StoredDocument]] = [[] for _ in range(count)]
    for query, row in zip(rows.column(QUERY_COLUMN).to_pylist(), rows_to_documents(rows), strict=True):
        pages[query].append(row)
    return pages


def _both(left: Filter | None, right: Filter | None) -> Any:
    return And((left, right)) if left and right else left or right


def _with_query_index(rows: pa.Table) -> pa.Table:
    """LanceDB names the query of each row, unless there was one query only."""
    if QUERY_COLUMN in rows.column_names:
        return rows
    return rows.append_column(QUERY_COLUMN, pa.array(np.zeros(len(rows), np.int32)))
