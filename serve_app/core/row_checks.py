"""Arrow rows on their way between tables: which may be written as they are, and why not. Knows no file and no store."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from serve_app.core.columns import COLUMNS
from serve_app.core.records import vectors_of
from serve_app.core.vectors import UNIT_TOLERANCE, check_unit
from serve_app.errors import CrossmodalError, InvalidRow
from serve_app.types import ItemFailure, Modality

_MODALITIES = frozenset(Modality)


@dataclass(frozen=True, slots=True)
class RowFailure:
    """`place`: `documents-00000.parquet#12`, the number of the row from 0; `rows`: how many it stands for, from there on."""

    place: str
    failure: ItemFailure
    rows: int = 1


@dataclass(frozen=True, slots=True)
class RowStamp:
    """What tells whether a row is the one that it was."""

    content_sha256: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Portion:
    """Rows of a file, in the columns of core.records.table_schema. `first`: number of the first one in the file, from 0."""

    file: str
    first: int
    rows: pa.Table

    def failure(self, at: int, failure: ItemFailure) -> RowFailure:
        return RowFailure(f"{self.file}#{self.first + at}", failure)


def fitted(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with exactly these columns; those that they lack are null. Raises ValueError for a column that may not be."""
    columns = []
    for column in schema:
        if column.name in rows.column_names:
            columns.append(rows.column(column.name).cast(column.type))
        elif column.nullable or column.name not in COLUMNS:
            columns.append(pa.nulls(len(rows), column.type))
        else:
            raise ValueError(f"there is no column {column.name}")
    return pa.table(columns, schema=schema)


def sort_out(rows: pa.Table) -> tuple[pa.Table, dict[int, ItemFailure]]:
    """The rows that may be written, and by position why each of the others may not.

    `rows` have the columns of core.records.table_schema. Of several rows with one id the last one stands, and the others are
    failures: none is left out in silence.
    """
    failures: dict[int, ItemFailure] = {}
    for at, failure in (*_wrong_vectors(rows), *_wrong_values(rows), *_repeated(rows)):
        failures.setdefault(at, failure)
    if not failures:
        return rows, failures
    good = np.ones(len(rows), np.bool_)
    good[list(failures)] = False
    return rows.filter(pa.array(good)), failures


def _wrong_vectors(rows: pa.Table) -> Iterator[tuple[int, ItemFailure]]:
    column = rows.column("vector")
    if column.null_count or any(chunk.flatten().null_count for chunk in column.chunks):
        for at, vector in enumerate(column.to_pylist()):
            if vector is None or None in vector:
                yield at, ItemFailure(InvalidRow.code, "the row has no vector, or one with a hole")
        return
    vectors = vectors_of(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors, axis=1)
        suspect = ~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE)
    for at in np.flatnonzero(suspect).tolist():
        try:
            check_unit(vectors[at], vectors.shape[1])
        except CrossmodalError as error:
            yield at, ItemFailure(error.code, error.message)


def _wrong_values(rows: pa.Table) -> Iterator[tuple[int, ItemFailure]]:
    wanted = [column.name for column in rows.schema if not column.nullable and column.name != "vector"]
    for name in wanted:
        for at in np.flatnonzero(rows.column(name).is_null()).tolist():
            yield at, ItemFailure(InvalidRow.code, f"the row has no {name}")
    columns = zip(*(rows.column(name).to_pylist() for name in ("id", "modality", "metadata")), strict=True)
    for at, (document_id, modality, metadata) in enumerate(columns):
        try:
            if document_id == "":
                raise InvalidRow("the id is empty")
            if modality is not None and modality not in _MODALITIES:
                raise InvalidRow(f"there is no modality {modality[:64]!r}")
            if metadata is not None:
                _check_metadata(metadata)
        except CrossmodalError as error:
            yield at, ItemFailure(error.code, error.message)


def _check_metadata(text: str) -> None:
    try:
        if isinstance(json.loads(text), dict):
            return
    except (ValueError, RecursionError) as error:
        raise InvalidRow("the metadata is not JSON") from error
    raise InvalidRow("the metadata is no JSON object")


def _repeated(rows: pa.Table) -> Iterator[tuple[int, ItemFailure]]:
    last: dict[str, int] = {}
    for at, document_id in enumerate(rows.column("id").to_pylist()):
        before = last.get(document_id)
        if before is not None:
            yield before, ItemFailure(InvalidRow.code, "a later row has the same id, and stands for both")
        last[document_id] = at
