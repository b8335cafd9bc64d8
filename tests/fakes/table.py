"""An in-memory DocumentTable: brute-force cosine over a dictionary. Holds the same promises as the real one, on no disk.

The contract suite (tests/contract/test_document_table.py) runs on both; a test of a service may rely on this one.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import numpy as np

from serve_app.core.filters import matches
from serve_app.core.history import moment_of, version_at
from serve_app.core.records import (
    TableIdentity,
    calibration_from_json,
    calibration_to_json,
    check_ids,
    check_vectors,
    index_from_json,
    index_to_json,
    pointed_to,
    records_to_rows,
    rows_to_documents,
    spread,
    table_identity,
)
from serve_app.errors import NotReady, SnapshotNotFound, StaleTable
from serve_app.types import (
    Calibration,
    DeletedRows,
    EncoderCard,
    FieldSpec,
    Filter,
    FloatMatrix,
    IndexKind,
    IndexReading,
    IndexState,
    Modality,
    Record,
    StoredDocument,
    TableHead,
    TableInfo,
    TextMatch,
)
from tests.fakes.full_text import bm25


class MemoryTable:
    def __init__(self, uri: str = "memory://documents", fields: Mapping[str, FieldSpec] = MappingProxyType({})) -> None:
        self._fields = {name: spec.type for name, spec in fields.items()}
        self.uri = uri
        self.version = 0
        self._identity: TableIdentity | None = None
        self._rows: dict[str, StoredDocument] = {}
        self._calibration = calibration_from_json(None)
        self._versions: dict[int, tuple[datetime, MemoryTable]] = {}
        self.snapshots: dict[str, int] = {}
        self._index: IndexState | None = None
        self._indexed_ids: set[str] = set()

    async def refresh(self, min_version: int) -> int:
        if self.version < min_version:
            raise StaleTable(f"the table has no version {min_version} yet; its latest is {self.version}")
        return self.version

    async def at(self, as_of: str | None, fingerprint: str | None = None) -> "MemoryTable":
        if as_of is None:
            return self
        moment = moment_of(as_of)
        if moment is not None:
            return self._versions[version_at([(each, when) for each, (when, _) in self._versions.items()], moment)][1]
        if as_of not in self.snapshots:
            raise SnapshotNotFound(f"there is no snapshot {as_of!r}")
        return self._versions[self.snapshots[as_of]][1]

    def committed_at(self, version: int) -> datetime:
        return self._versions[version][0]

    def uris(self) -> set[str]:
        return {uri for row in self._rows.values() for uri in pointed_to(row.document)}

    def become(self, view: "MemoryTable") -> int:
        """A new version with the rows and the calibration of an old one."""
        self._rows, self._calibration = dict(view._rows), view._calibration
        return self._commit()

    def _commit(self) -> int:
        """A new version, which `at` finds again."""
        self.version += 1
        view = copy(self)
        view._rows = dict(self._rows)
        self._versions[self.version] = (datetime.now(UTC), view)
        return self.version

    async def info(self) -> TableInfo:
        counts = {modality: len(self._of(modality)) for modality in Modality}
        return TableInfo(
            uri=self.uri,
            version=self.version,
            counts=counts,
            fingerprint=self._identity.fingerprint if self._identity else None,
            model=self._identity.model if self._identity else None,
            dimension=self._identity.dimension if self._identity else None,
            calibration_version=self._calibration.version,
            fields=self._fields if self._identity else {},
            index=self._index and replace(self._index, unindexed_rows=len(self._rows.keys() - self._indexed_ids)),
        )

    async def head(self) -> TableHead:
        identity = self._identity
        return TableHead(self.version, identity and identity.fingerprint, identity and identity.dimension)

    async def create(self, encoder: EncoderCard) -> TableInfo:
        if self._identity is None:
            self._identity = table_identity(encoder)
            self._commit()
        return await self.info()

    async def get(self, ids: Sequence[str]) -> list[StoredDocument | None]:
        check_ids(ids)
        return [self._rows.get(document_id) for document_id in ids]

    async def nearest(
        self, vectors: FloatMatrix, modality: Modality, limit: int, where: Filter | None = None, *, aimed: bool = False
    ) -> list[list[StoredDocument]]:
        if self._identity is None:
            return [[] for _ in vectors]
        check_vectors(vectors, self._identity.dimension)
        rows = [row for row in self._in_order(where) if row.document.modality is modality]
        if not rows or limit < 1:
            return [[] for _ in vectors]
        matrix = np.stack([row.vector for row in rows]).astype(np.float64)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        # A stable sort of rows in the order of their ids: equal rows come in the order of their ids.
        orders = (np.argsort(-np.round(matrix @ query, 9), kind="stable") for query in vectors.astype(np.float64))
        return [[rows[position] for position in order[:limit]] for order in orders]

    async def matching(
        self, text: str, modalities: Sequence[Modality], limit: int, where: Filter | None = None
    ) -> list[TextMatch]:
        rows = [row for row in self._in_order(where) if row.document.text and row.document.modality in modalities]
        scores = bm25(text, [row.document.text or "" for row in rows])
        found = [TextMatch(row, score) for row, score in zip(rows, scores, strict=True) if score is not None]
        return sorted(found, key=lambda match: -match.score)[: max(limit, 0)]

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> list[StoredDocument]:
        return [row for row in self._in_order(where) if after is None or row.document.id > after][: max(limit, 0)]

    async def count(self, where: Filter) -> int:
        return len(self._in_order(where))

    async def upsert(
        self,
        records: Sequence[Record],
        created_at: Mapping[str, datetime],
        now: datetime,
        *,
        instead_of: Filter | None = None,
    ) -> int:
        identity = self._existing()
        written = rows_to_documents(records_to_rows(records, identity, created_at, now, self._fields))
        if written:
            for row in self._in_order(instead_of) if instead_of is not None else ():
                del self._rows[row.document.id]
            self._rows.update({row.document.id: row for row in written})
            self._commit()
        return self.version

    async def delete(self, ids: Sequence[str]) -> int:
        check_ids(ids)
        doomed = self._rows.keys() & set(ids)
        for document_id in doomed:
            del self._rows[document_id]
        return self._commit() if doomed else self.version

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        self._existing()
        doomed = [row.document.id for row in self._in_order(where)]
        return DeletedRows(len(doomed), await self.delete(doomed))

    async def sample(self, modality: Modality, limit: int) -> FloatMatrix:
        if self._identity is None:
            return np.empty((0, 0), np.float32)
        rows = self._of(modality)
        chosen = [rows[position].vector for position in spread(len(rows), limit)]
        return np.array(chosen, np.float32).reshape(len(chosen), self._identity.dimension)

    async def calibration(self) -> Calibration:
        return self._calibration

    async def info_and_calibration(self) -> tuple[TableInfo, Calibration]:
        return await self.info(), self._calibration

    async def store_calibration(self, calibration: Calibration) -> None:
        self._existing()
        # There and back, as the real table does it: a test cannot change a stored value through its own reference.
        self._calibration = calibration_from_json(calibration_to_json(calibration))
        self._commit()

    async def maintain(self, keep_versions: timedelta) -> None:
        self._existing()
        if self._indexed_ids:
            self._indexed_ids = set(self._rows)

    async def build_index(self, kind: IndexKind, partitions: int) -> None:
        self._existing()
        self._indexed_ids = set(self._rows)

    async def drop_index(self) -> None:
        self._existing()
        self._indexed_ids = set()

    async def uris_matching(self, where: Filter | None, limit: int) -> list[str]:
        return list(dict.fromkeys(uri for row in self._in_order(where) for uri in pointed_to(row.document)))[:limit]

    async def used_uris(self, uris: Sequence[str]) -> set[str]:
        views = [self, *(self._versions[version][1] for version in self.snapshots.values())]
        return {uri for view in views for uri in view.uris()} & set(uris)

    async def frozen(self) -> "MemoryTable":
        self._existing()
        frozen = copy(self)
        frozen._rows = dict(self._rows)
        return frozen

    async def probe(
        self, vectors: FloatMatrix, modality: Modality, limit: int, reading: IndexReading | None
    ) -> list[list[str]]:
        return [[row.document.id for row in rows] for rows in await self.nearest(vectors, modality, limit)]

    async def store_index(self, state: IndexState) -> None:
        self._existing()
        self._index = index_from_json(index_to_json(state))
        self._commit()

    def _of(self, modality: Modality) -> list[StoredDocument]:
        return [row for row in self._rows.values() if row.document.modality is modality]

    def _in_order(self, where: Filter | None) -> list[StoredDocument]:
        """What a filter matches, by id."""
        rows = (self._rows[document_id] for document_id in sorted(self._rows))
        return [row for row in rows if where is None or matches(where, row.document)]

    def _existing(self) -> TableIdentity:
        if self._identity is None:
            raise NotReady("the table does not exist yet")
        return self._identity
