"""The indexes of a Lance table: the scalar ones that are always wanted, and the vector index with how it is asked.

Knows no rows and decides nothing: when an index is worth its cost is core.index_policy's business.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import lancedb
import pyarrow as pa
from lancedb.index import Bitmap, BTree, IvfRq, IvfSq, LabelList

from serve_app.core.index_policy import refine_factor
from serve_app.types import IndexKind, IndexReading

VECTOR_INDEX = "vector_idx"
_SCALAR: Mapping[str, Any] = {"id": BTree, "modality": Bitmap}
_SCALAR_TYPES: Mapping[str, Any] = {"BTree": BTree, "Bitmap": Bitmap, "LabelList": LabelList}
# Every index and every query names it: a query with another metric than the index's reads all vectors, and only warns.
METRIC: Literal["cosine"] = "cosine"
# More rounds move the centres of lists hardly at all, and each reads the whole training sample.
_TRAINING_ROUNDS = 20
ALL_LISTS = 1 << 20  # more than any index has


async def nearest_rows(
    query: Callable[[], Any], reading: IndexReading | None, limit: int, *, at_least: int = 0
) -> pa.Table:
    """What a vector query for `limit` rows gives by the index, or exactly where there is no reading. `query` makes a new one.

    Distances are those of raw vectors either way. Where the lists that are read hold fewer than `at_least` rows in all (a
    narrow filter, a large limit), all lists are read: the number of rows is always that of exact search. LanceDB's own way, a
    maximum of lists above the minimum, reads up to the maximum always.
    """
    if reading is None:
        return await query().distance_type(METRIC).bypass_vector_index().to_arrow()
    refine = refine_factor(reading.compared, limit)
    rows = await query().distance_type(METRIC).refine_factor(refine).nprobes(reading.nprobes).to_arrow()
    if len(rows) < at_least and reading.nprobes < ALL_LISTS:
        rows = await query().distance_type(METRIC).refine_factor(refine).nprobes(ALL_LISTS).to_arrow()
    return rows


async def make_scalar_indexes(table: lancedb.AsyncTable) -> None:
    """Make those that are missing."""
    indexed = {column for index in await table.list_indices() for column in index.columns}
    for column in _SCALAR.keys() - indexed:
        await table.create_index(column, config=_SCALAR[column]())


async def build_vector_index(table: lancedb.AsyncTable, kind: IndexKind, partitions: int) -> None:
    """Make the vector index over all rows, in place of the one that is there; searches go on meanwhile."""
    quantised = IvfRq if kind is IndexKind.IVF_RQ else IvfSq
    # Declared as Any: LanceDB takes these indexes and leaves IvfSq out of its annotations.
    config: Any = quantised(distance_type=METRIC, num_partitions=partitions, max_iterations=_TRAINING_ROUNDS)
    await table.create_index("vector", config=config, name=VECTOR_INDEX)
    # A filter becomes a mask over the vector index only where the scalar index covers every row of it; otherwise each search
    # reads the ids of all rows that fit (at a million rows 58 ms instead of 5). `optimize` would do it too, but compacts as
    # well, and loses to writers.
    for index in await table.list_indices():
        if index.index_type in _SCALAR_TYPES:
            await table.create_index(index.columns[0], config=_SCALAR_TYPES[index.index_type](), name=index.name)


async def drop_vector_index(table: lancedb.AsyncTable) -> None:
    """Its files go with the versions that still know it."""
    if await table.index_stats(VECTOR_INDEX) is not None:
        await table.drop_index(VECTOR_INDEX)


async def unindexed_rows(table: lancedb.AsyncTable) -> int:
    """Rows that the vector index does not hold yet; they are searched exactly. All rows where there is no index."""
    found = await table.index_stats(VECTOR_INDEX)
    return int(await table.count_rows() if found is None else found.num_unindexed_rows)
