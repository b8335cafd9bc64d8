"""A document on its way in: checked, named and hashed before anything is encoded, and made a row of once it is.

What comes by HTTP and what a job reads go through here, so both give the same row. Knows no model, table or picture file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.core.fields import check_fields
from serve_app.core.ids import check_document_id, content_sha256, document_id
from serve_app.core.records import metadata_to_json
from serve_app.core.texts import check_text
from serve_app.core.vectors import fuse
from serve_app.errors import FingerprintMismatch, InternalError, InvalidRequest
from serve_app.types import Embedding, FieldSpec, FieldValue, Modality, Record, StoredDocument


@dataclass(frozen=True, slots=True)
class DocumentPlan:
    """What is known of a document before it is encoded. `uri`: of a picture that stays where it lies."""

    id: str
    modality: Modality
    text: str | None
    uri: str | None
    content_sha256: str
    metadata: Mapping[str, Any]
    fields: Mapping[str, FieldValue]

    def describes(self, row: StoredDocument) -> bool:
        """Whether the row was made of this content, so that its vector is the right one."""
        return (row.document.content_sha256, row.document.modality) == (self.content_sha256, self.modality)


def plan_document(
    *,
    given_id: str | None,
    text: str | None,
    picture_sha256: str | None,
    uri: str | None,
    metadata: Mapping[str, Any],
    fields: Mapping[str, Any],
    declared: Mapping[str, FieldSpec],
    max_characters: int,
) -> DocumentPlan:
    """The plan of a document. `picture_sha256` is None without a picture, `uri` also for one that is given as bytes.

    Raises InvalidRequest and its children for what cannot be stored.
    """
    if text is None and picture_sha256 is None:
        raise InvalidRequest("a document needs a text, an image or both")
    if text is not None:
        check_text(text, max_characters)
    metadata_to_json(metadata)
    checked = check_fields(fields, declared)
    content = content_sha256(text, picture_sha256)
    if given_id is not None:
        check_document_id(given_id)
    modality = Modality.TEXT if picture_sha256 is None else Modality.IMAGE if text is None else Modality.IMAGE_TEXT
    return DocumentPlan(given_id or document_id(content), modality, text, uri, content, metadata, checked)


def record_of_known(plan: DocumentPlan, known: StoredDocument) -> Record:
    """The row as it is, with the metadata, the fields, and the place of the picture, that came with the document."""
    return Record(
        id=plan.id,
        modality=plan.modality,
        uri=plan.uri or known.document.uri,
        text=plan.text,
        content_sha256=plan.content_sha256,
        metadata=plan.metadata,
        vector=known.vector,
        fingerprint=known.fingerprint,
        fields=plan.fields,
    )


def record_of(
    plan: DocumentPlan,
    words: Embedding | None,
    seen: Embedding | None,
    *,
    uri: str | None,
    picture_sha256: str | None,
    image_weight: float,
) -> Record:
    """The row of what was encoded; text and picture become one vector.

    `picture_sha256` is that of the bytes that were encoded: what lies behind a URI may have changed since it was planned.
    """
    embedding = words or seen
    if embedding is None:
        raise InternalError("a document without content was planned")
    if words and seen and words.fingerprint != seen.fingerprint:
        raise FingerprintMismatch(
            f"the text came from the encoder {words.fingerprint[:12]}, the picture from {seen.fingerprint[:12]}"
        )
    return Record(
        id=plan.id,
        modality=plan.modality,
        uri=uri,
        text=plan.text,
        content_sha256=content_sha256(plan.text, picture_sha256),
        metadata=plan.metadata,
        vector=fuse(seen.vector, words.vector, image_weight) if words and seen else embedding.vector,
        fingerprint=embedding.fingerprint,
        fields=plan.fields,
    )


def same_row(record: Record, row: StoredDocument | None) -> bool:
    """Whether the row says already what the record says; a vector follows from the content."""
    if row is not None and record.updated_at not in (None, row.document.updated_at):
        return False
    return row is not None and (
        row.document.content_sha256,
        row.document.modality,
        row.document.uri,
        row.document.text,
        row.document.metadata,
        row.document.fields,
        row.document.offset_s,
        row.document.thumbnail_uri,
    ) == (
        *(record.content_sha256, record.modality, record.uri, record.text, record.metadata, record.fields),
        *(record.offset_s, record.thumbnail_uri),
    )
