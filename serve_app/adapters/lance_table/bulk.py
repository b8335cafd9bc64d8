"""Rows of a Lance table many at a time, as Arrow has them: to read all of it, to cut it, to write rows as they are.

Memory stays bounded however large the table: nothing is held but a batch, and one id in many.
"""

import zlib
from collections.abc import AsyncIterator
from typing import Any

import lancedb
import pyarrow as pa

from serve_app.core.columns import LATE_COLUMNS


async def all_batches(
    table: lancedb.AsyncTable, columns: list[str] | None, batch_rows: int, where: Any = None
) -> AsyncIterator[pa.RecordBatch]:
    """Every row, in the order of storage."""
    query = table.query() if where is None else table.query().where(where)
    found = query if columns is None else query.select(columns)
    async for batch in await found.to_batches(max_batch_length=batch_rows):
        yield batch


async def id_marks(table: lancedb.AsyncTable, one_in: int) -> list[str]:
    """About one id in so many, in order: chosen by what it is, so that the same marks come whatever else is in the table."""
    marks: list[str] = []
    async for batch in all_batches(table, ["id"], 16_384):
        marks += [each for each in batch.column("id").to_pylist() if zlib.crc32(each.encode()) % one_in == 0]
    return sorted(marks)


async def merge_rows(table: lancedb.AsyncTable, rows: pa.Table) -> int:
    """Insert or replace by id in one commit, times included; LanceDB's number of the version. The ids are distinct."""
    absent = [name for name in LATE_COLUMNS if name not in (await table.schema()).names]
    merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    # Only the primary key without an index notices that another writer inserted the same new id meanwhile.
    return int((await merge.use_index(False).execute(rows.drop_columns(absent))).version)
