"""The rows as bodies of Qdrant's REST calls: what makes the collection, and points of which each line is one batch upsert.

Points have ids of their own there, so each has a UUID that follows from its document's id; the payload has the id itself.
Knows no Qdrant: any client that sends a line to `PUT /collections/<name>/points` will do.
"""

import json
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from serve_app.adapters.object_writing import NewFile, ObjectWriting
from serve_app.core.manifests import ExportedFile, ExportManifest
from serve_app.types import FieldType

COLLECTION, INDEXES = "collection.json", "payload_indexes.jsonl"
BATCH_POINTS = 128
FILE_POINTS = 65_536
# Of the ids of documents; never to be changed, or the points of a second export stand beside those of the first.
NAMESPACE = uuid.UUID("6f1a4e0e-1f0c-5c39-9a54-0c1f6d3d8a57")
_SCHEMAS: Mapping[FieldType, str] = {
    FieldType.STRING: "keyword",
    FieldType.STRINGS: "keyword",
    FieldType.INTEGER: "integer",
    FieldType.INTEGERS: "integer",
    FieldType.FLOAT: "float",
    FieldType.BOOLEAN: "bool",
    FieldType.TIMESTAMP: "datetime",
}


def point_id(document_id: str) -> str:
    """The id of a document's point, the same one in every export."""
    return str(uuid.uuid5(NAMESPACE, document_id))


class QdrantSink:
    """Takes rows and writes `points-00000.jsonl` and so on."""

    def __init__(self, writing: ObjectWriting, manifest: ExportManifest) -> None:
        self._writing = writing
        self._open = ExitStack()
        self._file: NewFile | None = None
        self._rows: list[int] = []
        size = manifest.identity.dimension
        writing.put(COLLECTION, _line({"vectors": {"size": size, "distance": "Cosine"}}))
        fields = {
            "id": "keyword",
            "modality": "keyword",
            **{k: _SCHEMAS[type_] for k, type_ in manifest.fields.items()},
        }
        lines = [_line({"field_name": name, "field_schema": schema}) for name, schema in fields.items()]
        writing.put(INDEXES, b"".join(lines))

    def write(self, rows: pa.Table) -> None:
        for start in range(0, len(rows), BATCH_POINTS):
            self._write_batch(rows.slice(start, BATCH_POINTS))

    def close(self) -> list[ExportedFile]:
        self._open.close()
        return [
            ExportedFile(file.name, file.size, file.sha256, rows)
            for file, rows in zip(self._writing.files, self._rows, strict=True)
        ]

    def _write_batch(self, rows: pa.Table) -> None:
        if self._file is None or self._rows[-1] >= FILE_POINTS:
            self._open.close()
            self._file = self._open.enter_context(self._writing.create(f"points-{len(self._rows):05}.jsonl"))
            self._rows.append(0)
        vectors = _as_json(rows.column("vector"))
        payloads = [_payload(row) for row in rows.drop_columns(["vector"]).to_pylist()]
        points = [
            f'{{"id":"{point_id(payload["id"])}","vector":[{vector}],"payload":{_dumped(payload)}}}'
            for vector, payload in zip(vectors, payloads, strict=True)
        ]
        self._file.write(f'{{"points":[{",".join(points)}]}}\n'.encode())
        self._rows[-1] += len(rows)


def _as_json(vectors: pa.ChunkedArray) -> list[str]:
    """The numbers of each vector, as short as float32 is told apart: JSON of 64 bits would be twice as long."""
    whole = vectors.combine_chunks()
    size = whole.type.list_size
    numbers = pc.cast(whole.flatten(), pa.string())
    offsets = pa.array(range(0, len(numbers) + 1, size), pa.int32())
    joined: list[str] = pc.binary_join(pa.ListArray.from_arrays(offsets, numbers), ",").to_pylist()
    return joined


def _payload(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the row says, without its nulls; fields stand beside the rest, for filters to name them."""
    payload = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
    payload["metadata"] = json.loads(row["metadata"]) if row["metadata"] else None
    return {key: value for key, value in payload.items() if value is not None}


def _dumped(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _line(content: Any) -> bytes:
    return f"{_dumped(content)}\n".encode()
