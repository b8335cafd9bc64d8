"""What a document takes on the disk: bytes a row of the table and of its indexes, written as the product writes them.

    .venv/bin/python -m benchmarks.table_bytes

Three kinds of documents: a text, a picture by its URI, and a picture with a caption. Ids are those that documents get without one
of their own (32 digits); addresses have 60 characters. The figures are bytes on the disk after compaction, with one version kept,
so they need no quiet machine.
"""

import argparse
import asyncio
import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from benchmarks.reporting import FOLDER, told, write_report
from benchmarks.tables import DIMENSION, ENCODER
from benchmarks.workload import texts
from serve_app.adapters.lance_table import LanceTable
from serve_app.types import FloatMatrix, Modality, Record

WORK = FOLDER / "table_bytes"
KINDS = (Modality.TEXT, Modality.IMAGE, Modality.IMAGE_TEXT)
ROWS = 100_000
COMMIT_ROWS = 10_000


def documents(kind: Modality, rows: int) -> Iterator[list[Record]]:
    """So many of one kind, a commit at a time, with random vectors: floats do not compress, whatever they say."""
    words = texts(seed=rows)
    for start in range(0, rows, COMMIT_ROWS):
        count = min(COMMIT_ROWS, rows - start)
        yield [_document(kind, start + n, vector, next(words)) for n, vector in enumerate(_vectors(count, start))]


def _vectors(count: int, seed: int) -> FloatMatrix:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _document(kind: Modality, number: int, vector: Any, text: str) -> Record:
    content = hashlib.sha256(f"{kind} {number}".encode()).hexdigest()
    seen = kind is not Modality.TEXT
    return Record(
        id=content[:32],
        modality=kind,
        uri=f"s3://a-bucket-of-pictures/2026/11/25/{content[32:48]}.jpeg" if seen else None,
        text=text if kind is not Modality.IMAGE else None,
        content_sha256=content,
        metadata={},
        vector=vector,
        fingerprint=ENCODER.fingerprint,
    )


async def measure(kind: Modality, rows: int) -> dict[str, Any]:
    """Bytes a row of the data files and of each index, all of which upkeep has made."""
    folder = WORK / kind.value
    shutil.rmtree(folder, ignore_errors=True)
    table = LanceTable(str(folder))
    await table.create(ENCODER)
    for batch in documents(kind, rows):
        await table.upsert(batch, {}, datetime.now(UTC))
    await table.maintain(timedelta(0))
    await table.maintain(timedelta(0))
    lance = await (await lancedb.connect_async(str(folder))).open_table("documents")
    data = _size(folder / "documents.lance" / "data")
    indexes = {index.name: (index.size_bytes or 0) / rows for index in await lance.list_indices()}
    other = data / rows - 4 * DIMENSION
    return {"kind": kind.value, "data": data / rows, "without_vector": other, **indexes}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table_bytes", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    rows = [told(asyncio.run(measure(kind, options.rows))) for kind in KINDS]
    write_report("table_bytes", rows, {"rows": options.rows, "dimension": DIMENSION, "unit": "bytes a row"})


if __name__ == "__main__":
    main()
