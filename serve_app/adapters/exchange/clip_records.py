"""A row of clip-retrieval as a row of our table. Knows no file."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.core.fields import check_fields
from serve_app.core.ids import check_document_id, content_sha256, document_id, sha256_of
from serve_app.core.records import metadata_to_json
from serve_app.core.source_items import SourceItem
from serve_app.core.texts import check_text
from serve_app.core.vectors import fuse, unit
from serve_app.errors import InvalidRow
from serve_app.types import FieldSpec, FloatVector, Modality, Record


@dataclass(frozen=True, slots=True)
class ClipRow:
    """`address`: of the picture as the files have it; `item.uri` is None where nobody knows where that begins.

    Vectors are as they were read: neither of unit length nor finite, for all one knows.
    """

    item: SourceItem
    address: str | None
    image: FloatVector | None
    text: FloatVector | None


@dataclass(frozen=True, slots=True)
class ClipRules:
    """`take`: image, text, or image_text, which makes one vector of both. `declared`: the fields of the table."""

    take: Modality
    fingerprint: str
    declared: Mapping[str, FieldSpec] = field(default_factory=dict)
    max_characters: int = 100_000
    image_weight: float = 0.5


def record_of_row(row: ClipRow, rules: ClipRules) -> Record:
    """Raises InvalidRequest and its children for what cannot be stored."""
    item, take = row.item, rules.take
    vector = _vector(row, rules)
    text = None if take is Modality.IMAGE else item.text
    metadata = dict(item.metadata)
    if take is Modality.IMAGE:
        if item.text is not None:
            metadata.setdefault("caption", item.text)
    elif text is None:
        raise InvalidRow("the row has no caption")
    else:
        check_text(text, rules.max_characters)
    metadata_to_json(metadata)
    # The bytes of the picture are not here to be hashed. So this is no hash of any file, and the picture, when it comes by
    # itself, is encoded; that the same vector comes again is told.
    picture = None if take is Modality.TEXT else sha256_of(f"{row.address}\n".encode() + vector.tobytes())
    return Record(
        id=_id(row, take),
        modality=take,
        uri=None if take is Modality.TEXT else item.uri,
        text=text,
        content_sha256=content_sha256(text, picture),
        metadata=metadata,
        vector=vector,
        fingerprint=rules.fingerprint,
        fields=check_fields(item.fields, rules.declared),
    )


def _vector(row: ClipRow, rules: ClipRules) -> FloatVector:
    """clip-retrieval keeps 16 bits, whose lengths are off by a thousandth: they are made unit vectors again."""
    seen = None if row.image is None else unit(row.image)
    words = None if row.text is None else unit(row.text)
    if rules.take is Modality.IMAGE_TEXT and seen is not None and words is not None:
        return fuse(seen, words, rules.image_weight)
    found = words if rules.take is Modality.TEXT else seen
    if found is None:
        raise InvalidRow("the row has no vector of this kind")
    return found


def _id(row: ClipRow, take: Modality) -> str:
    """As given; else of a text the one that it gets everywhere, of a picture one by its address as it stood there."""
    if row.item.id is not None:
        check_document_id(row.item.id)
        return row.item.id
    if take is Modality.TEXT:
        return document_id(content_sha256(row.item.text, None))
    return document_id(sha256_of(f"{take.value}\n{row.address or row.item.key}".encode()))
