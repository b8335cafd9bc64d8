"""Tables of clustered vectors for the benchmarks of retrieval and writes, filled without the models.

The vectors are made to be as hard as those of a CLIP-like model: two thousand clusters of uneven size that overlap (a row lies
as far from its centre as centres lie from one another), a spectrum that falls off, and a modality gap: texts lie nearer to any
text than to the right picture, so the lists of an index that are nearest to a text hold no pictures.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import lancedb
import numpy as np
import pyarrow as pa

from serve_app.adapters.lance_table import LanceTable
from serve_app.core.records import with_vectors
from serve_app.types import (
    EncoderCard,
    FieldIndex,
    FieldSpec,
    FieldType,
    FloatMatrix,
    ImagePreprocessing,
    Modality,
    Record,
    VectorType,
)

DIMENSION = 512
CHUNK_ROWS = 50_000
CLUSTERS = 2000
MODALITIES = (Modality.TEXT, Modality.IMAGE)
# What all vectors of a modality share, and what all share, beside a centre and a row's own part of length 1 each. They give the
# cosines of a real CLIP: 0.7 of any two texts, 0.3 of a text and a picture of one cluster, 0.15 of any other such pair.
GAP, COMMON = 1.92, 1.0
ENCODER = EncoderCard(
    model="benchmark",
    pretrained="",
    fingerprint="b" * 64,
    dimension=DIMENSION,
    context_length=77,
    preprocessing=ImagePreprocessing(224, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "shortest", 0),
    device="cpu",
    precision="float32",
    logit_scale=100.0,
)


FIELDS = {
    "shelf": FieldSpec(FieldType.STRING, FieldIndex.BITMAP),
    "in_stock": FieldSpec(FieldType.BOOLEAN, FieldIndex.BITMAP),
}
SHELVES = 100


class Chunk(NamedTuple):
    """Ids are spread evenly over 0000... to ffff..., in no order; `modalities` are positions in MODALITIES."""

    ids: list[str]
    vectors: FloatMatrix
    modalities: np.ndarray


def clustered(rows: int, *, seed: int = 0, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """So many rows, in chunks. Every seed draws other rows from the same clusters."""
    world = np.random.default_rng(2026)
    spectrum = np.arange(1, DIMENSION + 1, dtype=np.float32) ** -0.35
    centres = world.standard_normal((CLUSTERS, DIMENSION), np.float32) * spectrum
    sizes = world.dirichlet(np.full(CLUSTERS, 0.5))
    directions = world.standard_normal((len(MODALITIES) + 1, DIMENSION), np.float32)
    directions *= np.linalg.norm(centres, axis=1).mean() / np.linalg.norm(directions, axis=1, keepdims=True)
    random = np.random.default_rng(seed)
    for start in range(0, rows, chunk_rows):
        count = min(chunk_rows, rows - start)
        modalities = random.integers(0, len(MODALITIES), count)
        vectors = centres[random.choice(CLUSTERS, count, p=sizes)]
        vectors += random.standard_normal((count, DIMENSION), np.float32) * spectrum
        vectors += (GAP * directions[:-1] + COMMON * directions[-1])[modalities]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        digits = random.bytes(8 * count).hex()
        yield Chunk([digits[at : at + 16] for at in range(0, len(digits), 16)], vectors, modalities)


def shelf_of(document_id: str) -> str:
    """One of a hundred."""
    return f"shelf {int(document_id[:4], 16) * SHELVES >> 16}"


def in_stock(document_id: str) -> bool:
    """Every second row."""
    return document_id < "8"


def records(rows: int, *, seed: int) -> list[Record]:
    """Rows to write by the service."""
    return [
        record_of(document_id, vector, MODALITIES[modality])
        for chunk in clustered(rows, seed=seed)
        for document_id, vector, modality in zip(chunk.ids, chunk.vectors, chunk.modalities, strict=True)
    ]


def record_of(document_id: str, vector: np.ndarray, modality: Modality = Modality.TEXT, text: str = "a text") -> Record:
    """A row to write."""
    return Record(
        id=document_id,
        modality=modality,
        uri=None,
        text=text,
        content_sha256=document_id.rjust(64, "0")[:64],
        metadata={},
        vector=vector,
        fingerprint=ENCODER.fingerprint,
    )


async def filled_table(
    folder: Path,
    rows: int,
    *,
    seed: int = 0,
    fields: Mapping[str, FieldSpec] = MappingProxyType({}),
    vectors: VectorType = VectorType.FLOAT32,
) -> LanceTable:
    """The table in this folder, made and filled if it is not there, with scalar indexes and without a vector index.

    `fields`: none, or FIELDS, which follow from the ids and so are spread over all clusters.
    """
    uri = str(folder)
    table = LanceTable(uri, fields=fields, vectors=vectors)
    info = await table.create(ENCODER)
    missing = rows - sum(info.counts.values())
    if missing == rows:
        lance = await (await lancedb.connect_async(uri, read_consistency_interval=timedelta(0))).open_table("documents")
        schema = await lance.schema()
        for chunk in clustered(rows, seed=seed):
            await lance.add(with_vectors(_rows_of(chunk, schema), vectors))
        await table.maintain(timedelta(hours=1))
    elif missing:
        raise ValueError(f"{folder} holds a table of another size: remove it")
    return table


def _rows_of(chunk: Chunk, schema: pa.Schema) -> pa.Table:
    count = len(chunk.ids)
    now = datetime.now(UTC)
    columns = {
        "id": chunk.ids,
        "modality": [MODALITIES[each].value for each in chunk.modalities],
        "uri": pa.nulls(count, pa.string()),
        "text": [f"text {each}" for each in chunk.ids],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(chunk.vectors.ravel()), DIMENSION),
        "content_sha256": [each.rjust(64, "0") for each in chunk.ids],
        "metadata": pa.nulls(count, pa.string()),
        "created_at": [now] * count,
        "updated_at": [now] * count,
        "shelf": [shelf_of(each) for each in chunk.ids],
        "in_stock": [in_stock(each) for each in chunk.ids],
    }
    filled = {name: columns.get(name, pa.nulls(count, schema.field(name).type)) for name in schema.names}
    at = schema.get_field_index("vector")
    return pa.table(filled, schema=schema.set(at, schema.field(at).with_type(columns["vector"].type)))
