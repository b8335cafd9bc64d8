"""Ids and content hashes. Ids come from the caller or from the content, never from a counter."""

import hashlib
import unicodedata

from serve_app.errors import InvalidDocumentId

MAX_ID_CHARACTERS = 512


def sha256_of(data: bytes) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def content_sha256(text: str | None, picture_sha256: str | None) -> str:
    """The hash by which content is told to be unchanged: of the bytes, of the text, or of both."""
    if picture_sha256 is None:
        return sha256_of((text or "").encode())
    if text is None:
        return picture_sha256
    return sha256_of(f"{picture_sha256}\n{text}".encode())


def document_id(content: str) -> str:
    """The id of a document that came without one."""
    return content[:32]


def check_document_id(value: str) -> None:
    """Raises InvalidDocumentId unless the id is 1 to 512 printable characters without white space at its ends."""
    if not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise InvalidDocumentId(f"an id has 1 to {MAX_ID_CHARACTERS} characters, this one has {len(value)}")
    if value != value.strip() or any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in value):
        raise InvalidDocumentId("an id has no control characters and no white space at its ends")
