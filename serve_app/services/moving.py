"""A table out of here and into here again: rows as they are, checked, merged by id. Knows no format and no storage.

Vectors are never made here: they come with the fingerprint of their encoder, and a table of another encoder takes none.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from serve_app.core.manifests import ExportedFile
from serve_app.core.records import TableIdentity, spread, vectors_of
from serve_app.core.row_checks import Portion, RowFailure, RowStamp, sort_out
from serve_app.errors import FingerprintMismatch, InvalidField, JobFailed
from serve_app.ports import DocumentTable
from serve_app.services.committing import commit
from serve_app.types import FieldType, Filter, FloatMatrix, Modality, Record, TableInfo


class RowTable(Protocol):
    """What is asked of the table. See adapters.lance_table."""

    def all_rows(self, batch_rows: int, where: Filter | None = None) -> AsyncIterator[pa.Table]: ...

    async def create_for(self, identity: TableIdentity) -> TableInfo: ...

    async def stamps(self, ids: Sequence[str]) -> dict[str, RowStamp]: ...

    async def put_rows(self, rows: pa.Table) -> int: ...


class RowSink(Protocol):
    """A format that rows are written in. What `close` has not ended does not exist."""

    def write(self, rows: pa.Table, /) -> None: ...

    def close(self) -> list[ExportedFile]: ...


@dataclass(slots=True)
class Arrival:
    """What an import has done so far. `stored` counts new and replaced rows by modality; `failed` counts rows, too."""

    stored: Counter[Modality] = field(default_factory=Counter)
    replaced: int = 0
    unchanged: int = 0
    failed: int = 0
    failures: list[RowFailure] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.stored.total() + self.unchanged + self.failed

    def fail(self, failures: Sequence[RowFailure]) -> None:
        self.failures += failures
        self.failed += sum(each.rows for each in failures)

    def take(self, stored: Iterable[Modality], *, replaced: int, unchanged: int) -> None:
        self.stored.update(stored)
        self.replaced += replaced
        self.unchanged += unchanged

    def check(self, max_failures: int | None) -> None:
        """Raises JobFailed."""
        if max_failures is not None and self.failed > max_failures:
            first = self.failures[0]
            raise JobFailed(
                f"{self.failed:,} rows failed, and --max-failures allows {max_failures:,}; the first: {first.place}: "
                f"{first.failure.message}"
            )


async def send_rows(
    table: RowTable, sinks: Sequence[RowSink], where: Filter | None, batch_rows: int, tell: Callable[[int], None]
) -> Counter[Modality]:
    """Every row that `where` matches to every sink, in the order of storage; returns how many of each modality."""
    counts: Counter[Modality] = Counter()
    async for rows in table.all_rows(batch_rows, where):
        for sink in sinks:
            sink.write(rows)
        counts.update(Modality(each) for each in rows.column("modality").to_pylist())
        tell(counts.total())
    return counts


async def sample_rows(table: RowTable, where: Filter | None, batch_rows: int, count: int, limit: int) -> FloatMatrix:
    """The vectors of up to `limit` of the `count` rows that `where` matches, evenly spaced."""
    chosen, first, parts = spread(count, limit), 0, []
    async for rows in table.all_rows(batch_rows, where):
        here = chosen[(chosen >= first) & (chosen < first + len(rows))] - first
        parts.append(vectors_of(rows)[here])
        first += len(rows)
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


async def prepare_table(
    table: RowTable, identity: TableIdentity, fields: Mapping[str, FieldType], came_from: str
) -> TableInfo:
    """The table that rows of this encoder may go to; made where there is none. `came_from`: what brings them, for messages.

    Raises FingerprintMismatch, and InvalidField for fields that the table has not, each before anything is written.
    """
    info = await table.create_for(identity)
    if info.fingerprint != identity.fingerprint:
        raise FingerprintMismatch(
            f"{came_from} holds vectors of the encoder {identity.model} ({identity.fingerprint[:12]}), the table {info.uri} "
            f"belongs to {info.model} ({(info.fingerprint or '')[:12]}), and vectors of two encoders cannot be compared: "
            "import into a table of its own (--into) and encode that anew with crossmodal reindex, or start a service with the "
            "other encoder"
        )
    if wrong := {name: type_ for name, type_ in fields.items() if info.fields.get(name) is not type_}:
        wanted = ", ".join(f"{name}: {type_.value}" for name, type_ in wrong.items())
        raise InvalidField(f"{came_from} has fields that the table has not: declare them in table.fields ({wanted})")
    return info


async def take_rows(
    table: RowTable,
    found: Iterable[Portion | RowFailure],
    arrival: Arrival,
    *,
    empty: bool,
    max_failures: int | None,
    tell: Callable[[int], None],
) -> None:
    """Merge rows as they were, times among them, a commit for each portion; those that stand there so are `unchanged`.

    `arrival` is kept up to date, so that what was done before an error is known. `empty`: the table was so, and nothing has to
    be compared. Raises JobFailed where more rows fail than may.
    """
    for each in found:
        if isinstance(each, RowFailure):
            arrival.fail([each])
        else:
            good, failures = sort_out(each.rows)
            arrival.fail([each.failure(at, failure) for at, failure in sorted(failures.items())])
            known = {} if empty or not len(good) else await table.stamps(good.column("id").to_pylist())
            changed = _changed(good, known) if known else good
            if len(changed):
                await table.put_rows(changed)
            arrival.take(
                [Modality(each) for each in changed.column("modality").to_pylist()],
                replaced=sum(each in known for each in changed.column("id").to_pylist()),
                unchanged=len(good) - len(changed),
            )
        tell(arrival.rows)
        arrival.check(max_failures)


async def take_records(
    table: DocumentTable,
    found: Iterable[Sequence[Record] | RowFailure],
    arrival: Arrival,
    *,
    max_failures: int | None,
    tell: Callable[[int], None],
) -> None:
    """See `take_rows`, of rows that were made elsewhere and come here for the first time."""
    for each in found:
        if isinstance(each, RowFailure):
            arrival.fail([each])
        else:
            done = await commit(table, each, 0)
            there = {row.document.id for row in done.replaced}
            arrival.take(
                [record.modality for record in done.changed],
                replaced=sum(record.id in there for record in done.changed),
                unchanged=len(each) - len(done.changed),
            )
        tell(arrival.rows)
        arrival.check(max_failures)


def _changed(rows: pa.Table, known: Mapping[str, RowStamp]) -> pa.Table:
    names = ("id", "content_sha256", "created_at", "updated_at")
    stamps = zip(*(rows.column(name).to_pylist() for name in names), strict=True)
    return rows.filter(pa.array([known.get(document_id) != RowStamp(*stamp) for document_id, *stamp in stamps]))
