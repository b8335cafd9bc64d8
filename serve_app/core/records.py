"""Turn records into Arrow rows and rows back into documents; say what a table is by its schema.

Promises that no row leaves here with a vector that is not finite, of the table's dimension and of unit length, nor with metadata
that is not JSON. Vectors are float32, but for those on their way into a table that keeps them in float16 (`with_vectors`).
Knows nothing of LanceDB: any store that keeps an Arrow schema and its metadata will do.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from serve_app.core.columns import COLUMNS as COLUMNS
from serve_app.core.columns import INSTANT, LATE_COLUMNS, field_columns, fields_in, late_columns, utc
from serve_app.core.fields import shown
from serve_app.core.ranking import empty_calibration
from serve_app.core.vectors import UNIT_TOLERANCE, check_unit
from serve_app.errors import FingerprintMismatch, InvalidDocumentId, InvalidField, InvalidRequest, InvalidVector
from serve_app.types import (
    Calibration,
    Document,
    EncoderCard,
    FieldType,
    FloatMatrix,
    IndexKind,
    IndexReading,
    IndexState,
    Modality,
    PairScores,
    Reach,
    Record,
    StoredDocument,
    VectorType,
)

FORMAT = "1"
_FORMAT_KEY = b"crossmodal.format"
_FINGERPRINT_KEY = b"crossmodal.fingerprint"
_MODEL_KEY = b"crossmodal.model"
_DIMENSION_KEY = b"crossmodal.dimension"
_NUMBERS = {VectorType.FLOAT32: pa.float32(), VectorType.FLOAT16: pa.float16()}


@dataclass(frozen=True, slots=True)
class TableIdentity:
    """Which encoder a table belongs to: its fingerprint, "name (pretrained)", and the length of its vectors."""

    fingerprint: str
    model: str
    dimension: int


def table_identity(encoder: EncoderCard) -> TableIdentity:
    """The identity of a table that is made for this encoder."""
    model = f"{encoder.model} ({encoder.pretrained})" if encoder.pretrained else encoder.model
    return TableIdentity(encoder.fingerprint, model, encoder.dimension)


def table_schema(
    identity: TableIdentity,
    fields: Mapping[str, FieldType] = MappingProxyType({}),
    vectors: VectorType = VectorType.FLOAT32,
) -> pa.Schema:
    """The Arrow schema of ARCHITECTURE §3, with the identity in its metadata. `id` comes first: it is the key.

    `vectors`: how they are kept; rows on their way in or out have them in float32.
    """
    columns = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("text", pa.string()),
        pa.field("vector", pa.list_(_NUMBERS[vectors], identity.dimension), nullable=False),
        pa.field("content_sha256", pa.string(), nullable=False),
        # Null where there is none: LanceDB reads a column that says {} everywhere at three times the price of a varied one.
        pa.field("metadata", pa.string()),
        pa.field("created_at", INSTANT, nullable=False),
        pa.field("updated_at", INSTANT, nullable=False),
        *late_columns(),
        *field_columns(fields),
    ]
    metadata = {
        _FORMAT_KEY: FORMAT.encode(),
        _FINGERPRINT_KEY: identity.fingerprint.encode(),
        _MODEL_KEY: identity.model.encode(),
        _DIMENSION_KEY: str(identity.dimension).encode(),
    }
    return pa.schema(columns, metadata=metadata)


def identity_of(schema: pa.Schema) -> TableIdentity:
    """The identity that a schema carries. Raises FingerprintMismatch if it carries none, or one of another format."""
    metadata = schema.metadata or {}
    if _FINGERPRINT_KEY not in metadata:
        raise FingerprintMismatch(
            "the table was not made by crossmodal: its schema names no encoder; name another table"
        )
    found = metadata.get(_FORMAT_KEY, b"").decode()
    if found != FORMAT:
        raise FingerprintMismatch(
            f"the table has format {found!r} and this version of crossmodal reads {FORMAT!r} only"
        )
    return TableIdentity(
        fingerprint=metadata[_FINGERPRINT_KEY].decode(),
        model=metadata[_MODEL_KEY].decode(),
        dimension=int(metadata[_DIMENSION_KEY]),
    )


def check_vectors(vectors: FloatMatrix, dimension: int) -> None:
    """Raise InvalidVector unless every row of [n, dimension] is finite, float32 and of unit length (within 1e-3)."""
    if vectors.ndim != 2:
        raise InvalidVector(f"vectors come as rows of a matrix, not in the shape {vectors.shape}")
    if vectors.dtype == np.float32 and vectors.shape[1] == dimension and len(vectors):
        # All at once where nothing is near the limit: one by one takes as long as writing them.
        lengths = np.linalg.norm(vectors, axis=1)
        if (np.abs(lengths - 1.0) < UNIT_TOLERANCE / 2).all():
            return
    for vector in vectors:
        check_unit(vector, dimension)


def check_ids(ids: Sequence[str]) -> None:
    """Raise InvalidDocumentId if an id cannot be written as UTF-8 (lone surrogates, which JSON lets through)."""
    try:
        for document_id in ids:
            document_id.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocumentId("a document id is not valid Unicode") from error


def check_rows(rows: pa.Table, dimension: int) -> None:
    """Raise for rows that nobody may write as they are: see check_vectors and check_ids, and InvalidRequest for an id twice."""
    ids = rows.column("id").to_pylist()
    check_ids(ids)
    if len(set(ids)) != len(ids):
        raise InvalidRequest("one write holds the same document id twice")
    if rows.schema.field("vector").type != pa.list_(pa.float32(), dimension) or rows.column("vector").null_count:
        raise InvalidVector(f"the vectors are not of {dimension} numbers in float32, as the table wants them")
    check_vectors(vectors_of(rows), dimension)


def metadata_to_json(metadata: Mapping[str, Any]) -> str:
    """Canonical JSON: keys sorted, no spaces. Raises InvalidRequest for what JSON cannot say, NaN and infinity included."""
    try:
        text = json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            "the metadata is not JSON: only finite numbers, valid Unicode, lists and objects"
        ) from error
    return text


def records_to_rows(
    records: Sequence[Record],
    identity: TableIdentity,
    created_at: Mapping[str, datetime],
    now: datetime,
    fields: Mapping[str, FieldType] = MappingProxyType({}),
) -> pa.Table:
    """Rows to write, in the order given; `created_at` of ids that are not in the mapping is `now`, unless a record has its own.

    Raises InvalidVector, InvalidDocumentId, InvalidField for one that the table has not, and InvalidRequest for an id that
    is there twice: a store that matches by id would insert both.
    """
    ids = [record.id for record in records]
    check_ids(ids)
    if len(set(ids)) != len(ids):
        raise InvalidRequest("one write holds the same document id twice")
    stamp = utc(now)
    columns: dict[str, Any] = {
        "id": ids,
        "modality": [record.modality.value for record in records],
        "uri": [record.uri for record in records],
        "text": [record.text for record in records],
        "vector": _vector_column(records, identity.dimension),
        "content_sha256": [record.content_sha256 for record in records],
        "metadata": [metadata_to_json(record.metadata) if record.metadata else None for record in records],
        "created_at": [utc(record.created_at or created_at.get(record.id, stamp)) for record in records],
        "updated_at": [utc(record.updated_at or stamp) for record in records],
        "offset_s": [record.offset_s for record in records],
        "thumbnail_uri": [record.thumbnail_uri for record in records],
        **{name: [record.fields.get(name) for record in records] for name in fields},
    }
    if unknown := {name for record in records for name in record.fields} - fields.keys():
        raise InvalidField(
            f"the table has no field {', '.join(map(shown, sorted(unknown)))}: the service has to be restarted"
        )
    try:
        return pa.table(columns, schema=table_schema(identity, fields))
    except UnicodeEncodeError as error:
        raise InvalidRequest("a text, a URI or a field is not valid Unicode") from error


def rows_to_documents(rows: pa.Table) -> list[StoredDocument]:
    """Rows as read, in their order; the fingerprint comes from the schema that came with them."""
    fingerprint = identity_of(rows.schema).fingerprint
    vectors = vectors_of(rows)
    columns = zip(*(_values(rows, name) for name in COLUMNS if name != "vector"), fields_in(rows), strict=True)
    documents = [
        Document(
            id=document_id,
            modality=Modality(modality),
            uri=uri,
            text=text,
            content_sha256=content,
            metadata=json.loads(metadata) if metadata else {},
            created_at=utc(created),
            updated_at=utc(updated),
            fields=fields,
            offset_s=offset_s,
            thumbnail_uri=thumbnail,
        )
        for document_id, modality, uri, text, content, metadata, created, updated, offset_s, thumbnail, fields in columns
    ]
    return [StoredDocument(document, vector, fingerprint) for document, vector in zip(documents, vectors, strict=True)]


def pointed_to(row: Document | Record) -> list[str]:
    """The URIs of a row: where its picture or video lies, and the kept picture of a frame."""
    return [uri for uri in (row.uri, row.thumbnail_uri) if uri is not None]


def vectors_of(rows: pa.Table) -> FloatMatrix:
    """The vector column as [n, dimension] float32."""
    column = rows.column("vector")
    dimension = column.type.list_size
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, dimension)


def with_vectors(rows: pa.Table, kept: VectorType) -> pa.Table:
    """The same rows, their vectors rounded to, or widened from, what a table keeps."""
    at = rows.schema.get_field_index("vector")
    field = rows.schema.field(at)
    if field.type.value_type == _NUMBERS[kept]:
        return rows
    numbers = pa.array(vectors_of(rows).astype(kept.value).ravel())
    column = pa.FixedSizeListArray.from_arrays(numbers, field.type.list_size)
    return rows.set_column(at, field.with_type(column.type), column)


def vectors_in(schema: pa.Schema) -> VectorType:
    """How the vectors of a table with this schema are kept."""
    kept = schema.field("vector").type.value_type
    return next(each for each, numbers in _NUMBERS.items() if numbers == kept)


def spread(count: int, limit: int) -> npt.NDArray[np.int64]:
    """Up to `limit` of the positions 0..count-1, distinct, ascending and evenly spaced; the same for the same numbers."""
    taken = max(0, min(count, limit))
    return np.arange(taken, dtype=np.int64) * count // max(taken, 1)


def calibration_to_json(calibration: Calibration) -> str:
    """A calibration as one string for the metadata of a table; the means as base64 of little-endian float32, bit for bit."""
    means = {
        modality.value: base64.b64encode(mean.astype("<f4").tobytes()).decode()
        for modality, mean in calibration.means.items()
    }
    pairs = [[query.value, of.value, score.mean, score.std] for (query, of), score in calibration.pair_scores.items()]
    counts = {modality.value: count for modality, count in calibration.row_counts.items()}
    content = {"version": calibration.version, "row_counts": counts, "means": means, "pair_scores": pairs}
    return json.dumps(content, sort_keys=True, allow_nan=False)


def calibration_from_json(text: str | None) -> Calibration:
    """What `calibration_to_json` wrote; the empty calibration where nothing was written."""
    if text is None:
        return empty_calibration()
    content = json.loads(text)
    return Calibration(
        version=content["version"],
        row_counts={Modality(modality): count for modality, count in content["row_counts"].items()},
        means={
            Modality(modality): np.frombuffer(base64.b64decode(mean), "<f4").astype(np.float32)
            for modality, mean in content["means"].items()
        },
        pair_scores={
            (Modality(query), Modality(of)): PairScores(mean, std) for query, of, mean, std in content["pair_scores"]
        },
    )


def index_to_json(state: IndexState) -> str:
    """The figures of the vector index as one string for the metadata of a table, without what is true at present only."""
    content = {**asdict(state), "measured_at": utc(state.measured_at).isoformat()}
    del content["unindexed_rows"]
    return json.dumps(content, sort_keys=True, allow_nan=False)


def index_from_json(text: str | None) -> IndexState | None:
    """What `index_to_json` wrote; None where nothing was written, or what is of no use any more."""
    if text is None:
        return None
    content = json.loads(text)
    if "readings" not in content:
        return None  # an earlier version's, which says too little: the index is measured anew
    readings = content.pop("readings")
    return IndexState(
        **{
            **content,
            "kind": IndexKind(content["kind"]),
            "measured_at": datetime.fromisoformat(content["measured_at"]),
            "readings": readings and {Reach(reach): IndexReading(**told) for reach, told in readings.items()},
        }
    )


def _values(rows: pa.Table, column: str) -> list[Any]:
    """Of a column that an old table may lack."""
    absent = column in LATE_COLUMNS and column not in rows.column_names
    return [None] * len(rows) if absent else list(rows.column(column).to_pylist())


def _vector_column(records: Sequence[Record], dimension: int) -> pa.FixedSizeListArray:
    for record in records:
        check_unit(record.vector, dimension)
    matrix = np.stack([record.vector for record in records]) if records else np.empty((0, dimension), np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), dimension)
