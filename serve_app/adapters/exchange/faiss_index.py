"""The vectors as an index of FAISS, as faiss.read_index reads it; its numbers are the rows of documents.parquet from 0.

By inner product, which for unit vectors is the cosine. FAISS holds an index in memory while it is made: `Flat` takes 4 bytes for
each number of each vector, the compressed ones take less. Imported where it is asked for only: FAISS is an extra.
"""

from typing import Any

import faiss
import pyarrow as pa

from serve_app.adapters.object_writing import ObjectWriting
from serve_app.core.manifests import ExportedFile
from serve_app.core.records import vectors_of
from serve_app.errors import InvalidConfig
from serve_app.types import FloatMatrix

INDEX = "index.faiss"


class FaissSink:
    """`factory`: one of FAISS's own descriptions, `Flat`, `HNSW32`, `IVF1024,SQ8`. Raises InvalidConfig for one it has not."""

    def __init__(self, writing: ObjectWriting, dimension: int, factory: str) -> None:
        self._writing = writing
        try:
            self._index: Any = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise InvalidConfig(f"FAISS knows no index {factory!r} for {dimension} numbers") from error

    @property
    def needs_training(self) -> bool:
        return not self._index.is_trained

    def train(self, vectors: FloatMatrix) -> None:
        """Raises InvalidConfig where there are too few vectors for so fine an index."""
        try:
            self._index.train(vectors)
        except RuntimeError as error:
            raise InvalidConfig(
                f"the index cannot be trained on {len(vectors):,} vectors: take one with fewer lists, or Flat"
            ) from error

    def write(self, rows: pa.Table) -> None:
        self._index.add(vectors_of(rows))

    def close(self) -> list[ExportedFile]:
        with self._writing.create(INDEX) as file:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
        return [ExportedFile(each.name, each.size, each.sha256) for each in self._writing.files if each.name == INDEX]
