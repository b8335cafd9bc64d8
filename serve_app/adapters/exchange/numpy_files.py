"""The vectors as one `.npy`, and beside it the documents in the same order: row i of the one is row i of the other.

Streamed: numpy.load with mmap_mode="r" reads what no memory holds, and none had to hold it here.
"""

from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from serve_app.adapters.object_writing import ObjectWriting
from serve_app.core.manifests import ExportedFile, ExportManifest
from serve_app.core.records import table_schema, vectors_of
from serve_app.core.row_checks import fitted
from serve_app.errors import JobFailed

VECTORS, DOCUMENTS = "vectors.npy", "documents.parquet"


class NumpySink:
    """`count`: how many rows will come; the file says so at its beginning."""

    def __init__(self, writing: ObjectWriting, manifest: ExportManifest, count: int) -> None:
        schema = table_schema(manifest.identity, manifest.fields)
        self._documents = schema.remove(schema.get_field_index("vector"))
        self._writing = writing
        self._count = count
        self._rows = 0
        self._open = ExitStack()
        self._vectors = self._open.enter_context(writing.create(VECTORS))
        np.lib.format.write_array_header_1_0(
            self._vectors,
            {"descr": "<f4", "fortran_order": False, "shape": (count, manifest.identity.dimension)},
        )
        file = self._open.enter_context(writing.create(DOCUMENTS))
        self._writer = self._open.enter_context(pq.ParquetWriter(file, self._documents, compression="zstd"))

    def write(self, rows: pa.Table) -> None:
        self._vectors.write(np.ascontiguousarray(vectors_of(rows), "<f4"))
        self._writer.write_table(fitted(rows, self._documents))
        self._rows += len(rows)

    def close(self) -> list[ExportedFile]:
        if self._rows != self._count:
            raise JobFailed(f"{self._count:,} rows were to be exported and {self._rows:,} came")
        self._open.close()
        return [
            ExportedFile(each.name, each.size, each.sha256, self._rows)
            for each in self._writing.files
            if each.name in (VECTORS, DOCUMENTS)
        ]
