"""Columns that a Lance table gains: those of a later version of crossmodal, and declared fields with their indexes."""

from collections.abc import Mapping, Sequence
from typing import Any

import lancedb
import pyarrow as pa
from lancedb.index import Bitmap, BTree, LabelList

from serve_app.core.columns import field_columns, fields_of, late_columns
from serve_app.errors import InvalidConfig
from serve_app.types import FieldIndex, FieldSpec

_INDEXES: Mapping[FieldIndex, Any] = {
    FieldIndex.BTREE: BTree,
    FieldIndex.BITMAP: Bitmap,
    FieldIndex.LABEL_LIST: LabelList,
}


async def add_fields(table: lancedb.AsyncTable, declared: Mapping[str, FieldSpec]) -> None:
    """Add a column for each field that the table lacks, null in every row. Raises InvalidConfig for what cannot be followed."""
    present = fields_of(await table.schema())
    for name, type_ in present.items():
        if name not in declared or declared[name].type is not type_:
            now = f"declared as {declared[name].type}" if name in declared else "no longer declared"
            raise InvalidConfig(
                f"the table has the field {name!r} as {type_}, and it is {now}: declare it in table.fields as it was, or give "
                "the service another table.uri and add the documents again"
            )
    await _add_columns(table, field_columns({name: spec.type for name, spec in declared.items()}))


async def follow_schema(table: lancedb.AsyncTable) -> None:
    """Bring a table of an earlier version to the columns of today; its rows stay as they are."""
    await _add_columns(table, late_columns())
    if not (await table.schema()).field("metadata").nullable:
        # LanceDB annotates one change as many.
        change: Any = {"path": "metadata", "nullable": True}
        await table.alter_columns(change)


async def _add_columns(table: lancedb.AsyncTable, wanted: Sequence[pa.Field]) -> None:
    present = await table.schema()
    if missing := [column for column in wanted if column.name not in present.names]:
        try:
            await table.add_columns(pa.schema(missing))
        except (ValueError, RuntimeError):
            # Another process may have been faster; what it added is then there.
            present = await table.schema()
            if not all(
                column.name in present.names and column.equals(present.field(column.name)) for column in missing
            ):
                raise


async def index_fields(table: lancedb.AsyncTable, declared: Mapping[str, FieldSpec]) -> None:
    """Make the index that each field declares, and drop another one that it has."""
    present = {index.columns[0]: index for index in await table.list_indices() if len(index.columns) == 1}
    for name, spec in declared.items():
        config = None if spec.index is FieldIndex.NONE else _INDEXES[spec.index]
        index = present.get(name)
        if index is not None and (config is None or index.index_type.lower() != config.__name__.lower()):
            await table.drop_index(index.name)
            index = None
        if index is None and config is not None:
            await make_index(table, name, config())


async def make_index(table: lancedb.AsyncTable, column: str, config: Any) -> None:
    """Make one index. Another process that makes the same one at this moment is no failure: one of both stands."""
    try:
        await table.create_index(column, config=config)
    except RuntimeError as error:
        if "preempted by concurrent transaction CreateIndex" not in str(error):
            raise
