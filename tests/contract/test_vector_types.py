"""Tables whose vectors are kept in half the space: rounded on their way in, float32 everywhere else."""

from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from serve_app.adapters.lance_table import LanceTable
from serve_app.core.records import vectors_of
from serve_app.core.vectors import unit
from serve_app.types import FloatMatrix, IndexKind, IndexReading, IndexState, Modality, Reach, VectorType
from tests.contract.rows import DIMENSION, ENCODER, MONDAY, ids_of, record, stored

ROWS = 400


@pytest.fixture
def vectors() -> FloatMatrix:
    drawn = np.random.default_rng(0).standard_normal((ROWS, DIMENSION))
    return np.stack([unit(row) for row in drawn])


def name(at: int) -> str:
    return f"{at:04}"


async def filled(folder: Path, vectors: FloatMatrix, kept: VectorType) -> LanceTable:
    table = LanceTable(str(folder), vectors=kept)
    await table.create(ENCODER)
    await table.upsert([record(name(at), vector) for at, vector in enumerate(vectors)], {}, MONDAY)
    return table


async def column(folder: Path) -> pa.DataType:
    lance = await (await lancedb.connect_async(str(folder))).open_table("documents")
    return (await lance.schema()).field("vector").type


@pytest.mark.parametrize("kept", list(VectorType))
async def test_a_table_keeps_its_vectors_as_it_was_made(tmp_path: Path, vectors: FloatMatrix, kept: VectorType) -> None:
    table = await filled(tmp_path, vectors, kept)
    assert await column(tmp_path) == pa.list_({"float32": pa.float32(), "float16": pa.float16()}[kept], DIMENSION)
    found = (await stored(table, name(7))).vector
    assert found.dtype == np.float32
    assert np.array_equal(found, vectors[7].astype(kept.value).astype(np.float32))
    sample = await table.sample(Modality.TEXT, 10)
    assert sample.dtype == np.float32


async def test_writers_follow_the_table_whatever_they_would_make(tmp_path: Path, vectors: FloatMatrix) -> None:
    await filled(tmp_path, vectors, VectorType.FLOAT16)
    other = LanceTable(str(tmp_path), vectors=VectorType.FLOAT32)
    await other.create(ENCODER)
    await other.upsert([record("new", vectors[0])], {}, MONDAY)
    assert await column(tmp_path) == pa.list_(pa.float16(), DIMENSION)
    assert np.array_equal((await stored(other, "new")).vector, (await stored(other, name(0))).vector)


async def test_rows_go_out_in_float32_and_come_back_the_same(tmp_path: Path, vectors: FloatMatrix) -> None:
    table = await filled(tmp_path / "one", vectors, VectorType.FLOAT16)
    parts = [rows async for rows in table.all_rows(150)]
    assert {rows.schema.field("vector").type for rows in parts} == {pa.list_(pa.float32(), DIMENSION)}
    for kept in VectorType:
        into = LanceTable(str(tmp_path / kept), vectors=kept)
        await into.create(ENCODER)
        for rows in parts:
            await into.put_rows(rows)
        again = pa.concat_tables([rows async for rows in into.all_rows(1000)]).sort_by("id")
        assert np.array_equal(vectors_of(again), vectors_of(pa.concat_tables(parts).sort_by("id")))


@pytest.mark.parametrize("kind", [IndexKind.EXACT, IndexKind.IVF_SQ, IndexKind.IVF_RQ])
async def test_the_nearest_are_those_of_the_rounded_vectors(
    tmp_path: Path, vectors: FloatMatrix, kind: IndexKind
) -> None:
    table = await filled(tmp_path, vectors, VectorType.FLOAT16)
    if kind is not IndexKind.EXACT:
        await table.build_index(kind, 2)
        readings = dict.fromkeys(Reach, IndexReading(nprobes=2, compared=ROWS))
        await table.store_index(
            IndexState(kind, "a test", ROWS, MONDAY, 1.0, 1.0, 1.0, partitions=2, readings=readings)
        )
    queries = vectors[:5]
    rounded = vectors.astype(np.float16).astype(np.float32)
    pages = await table.nearest(queries, Modality.TEXT, 10)
    # LanceDB's distances of halved vectors are off by up to 1e-4; Retrievers score what was found again.
    for page, scores in zip(pages, queries @ rounded.T, strict=True):
        found = scores[[int(document_id) for document_id in ids_of(page)]]
        assert np.allclose(found, np.sort(scores)[::-1][:10], rtol=0, atol=2e-4)
