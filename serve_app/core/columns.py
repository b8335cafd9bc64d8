"""The columns of the table as Arrow has them: those of every document, then the declared fields. Knows no rows of a store."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pyarrow as pa

from serve_app.core.fields import LIST_TYPES
from serve_app.types import FieldType, FieldValue

QUERY_COLUMN = "query_index"  # LanceDB's name for which of several queries a row was found by
# Columns that came later: a table made before, or a snapshot of one, lacks them, and no document there has a value.
LATE_COLUMNS = ("offset_s", "thumbnail_uri")
COLUMNS = [
    *("id", "modality", "uri", "text", "vector", "content_sha256", "metadata", "created_at", "updated_at"),
    *LATE_COLUMNS,
]
INSTANT = pa.timestamp("us", tz="UTC")
_FIELD_TYPES: Mapping[FieldType, pa.DataType] = {
    FieldType.STRING: pa.string(),
    FieldType.INTEGER: pa.int64(),
    FieldType.FLOAT: pa.float64(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.TIMESTAMP: INSTANT,
    FieldType.STRINGS: pa.list_(pa.string()),
    FieldType.INTEGERS: pa.list_(pa.int64()),
}


def late_columns() -> list[pa.Field]:
    """Those of LATE_COLUMNS, null for everything but the frames of videos."""
    types = (pa.float64(), pa.string())
    return [pa.field(name, type_) for name, type_ in zip(LATE_COLUMNS, types, strict=True)]


def field_columns(fields: Mapping[str, FieldType]) -> list[pa.Field]:
    """The columns of declared fields; null where a document has none."""
    return [pa.field(name, _FIELD_TYPES[type_]) for name, type_ in fields.items()]


def fields_of(schema: pa.Schema) -> dict[str, FieldType]:
    """The declared fields that a table, or rows read from one, have. What a store adds to rows begins with `_`."""
    types = {arrow: type_ for type_, arrow in _FIELD_TYPES.items()}
    ours = {*COLUMNS, QUERY_COLUMN}
    return {
        column.name: types[column.type]
        for column in schema
        if column.name not in ours and not column.name.startswith("_") and column.type in types
    }


def fields_in(rows: pa.Table) -> list[dict[str, FieldValue]]:
    """The declared fields of each row, without those that are null."""
    found: list[dict[str, FieldValue]] = [{} for _ in range(len(rows))]
    for name, type_ in fields_of(rows.schema).items():
        for fields, value in zip(found, rows.column(name).to_pylist(), strict=True):
            if value is not None:
                fields[name] = (
                    tuple(value) if type_ in LIST_TYPES else utc(value) if type_ is FieldType.TIMESTAMP else value
                )
    return found


def utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a timestamp without a time zone: Arrow would silently take it for UTC")
    return moment.astimezone(UTC)
