"""Adds any number of documents: reads pictures, packs batches, keeps several in flight, tells of each in order.

A document that cannot be stored fails alone. What is wrong with the service, not with a document, is raised: to run the
same again is safe, and what was acknowledged comes back as `unchanged`.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from serve_app.client.answers import Added, NewDocument
from serve_app.client.transport import Transport
from serve_app.errors import (
    BodyTooLarge,
    CrossmodalError,
    InternalError,
    InvalidRequest,
    NotReady,
    PictureNotFound,
    Unavailable,
    error_of,
)

PATH = "/v1/documents"
# What the form itself costs for each document: boundary, headers, JSON keys.
OVERHEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """A document ready to travel, or the reason why it cannot. `item` is its JSON text without the picture's bytes."""

    index: int
    document: NewDocument
    item: str = ""
    picture: bytes | None = None
    error: CrossmodalError | None = None

    @property
    def size_bytes(self) -> int:
        return 0 if self.error else len(self.item.encode()) + len(self.picture or b"") + OVERHEAD_BYTES

    @property
    def part(self) -> str:
        return f"picture-{self.index}"


class Adder:
    """`max_documents` and `max_bytes` bound one request, `in_flight` the requests under way at once."""

    def __init__(self, transport: Transport, max_documents: int, max_bytes: int, in_flight: int) -> None:
        self._transport = transport
        self._max_documents = max_documents
        self._max_bytes = max_bytes
        self._in_flight = in_flight

    def add(self, documents: Iterable[NewDocument]) -> Iterator[Added]:
        """Outcomes in the order of `documents`, each as soon as it and all before it are known."""
        waiting: deque[Future[list[Added]]] = deque()
        with ThreadPoolExecutor(self._in_flight, thread_name_prefix="crossmodal-add") as pool:
            try:
                for batch in pack(read(documents, self._max_bytes), self._max_documents, self._max_bytes):
                    waiting.append(pool.submit(self._store, batch))
                    while waiting and (waiting[0].done() or len(waiting) > self._in_flight):
                        yield from waiting.popleft().result()
                while waiting:
                    yield from waiting.popleft().result()
            finally:
                for unsent in waiting:
                    unsent.cancel()

    def _store(self, entries: Sequence[Entry]) -> list[Added]:
        outcomes = {each.index: Added(each.index, each.document, error=each.error) for each in entries}
        pending = [each for each in entries if each.error is None]
        for attempt in range(self._transport.retries + 1):
            outcomes.update((each.index, each) for each in self._post(pending))
            # A full queue refuses some items of a batch: only those are sent again.
            pending = [each for each in pending if isinstance(outcomes[each.index].error, Unavailable)]
            if not pending or attempt == self._transport.retries:
                break
            self._transport.pause(attempt)
        return [outcomes[each.index] for each in entries]

    def _post(self, entries: Sequence[Entry]) -> list[Added]:
        if not entries:
            return []
        try:
            answer = self._transport.json("POST", PATH, files=form(entries))
        except CrossmodalError as error:
            if type(error) in (Unavailable, NotReady):
                raise
            if len(entries) == 1 or isinstance(error, Unavailable):
                return [Added(each.index, each.document, error=error) for each in entries]
            # The request as a whole was refused: halves find the documents that are at fault.
            middle = len(entries) // 2
            return self._post(entries[:middle]) + self._post(entries[middle:])
        items = answer.get("items", [])
        if len(items) != len(entries):
            raise InternalError(f"the service answered {len(items)} items to {len(entries)} documents")
        version = answer.get("table_version")
        return [outcome(entry, item, version) for entry, item in zip(entries, items, strict=True)]


def read(documents: Iterable[NewDocument], max_bytes: int) -> Iterator[Entry]:
    """Each document with its picture in memory. What cannot be read or is too large becomes an entry with an error."""
    for index, document in enumerate(documents):
        try:
            entry = _entry(index, document)
            if entry.size_bytes > max_bytes:
                raise BodyTooLarge(f"the document has {entry.size_bytes:,} bytes; one request takes {max_bytes:,}")
        except CrossmodalError as error:
            entry = Entry(index, document, error=error)
        yield entry


def pack(entries: Iterable[Entry], max_documents: int, max_bytes: int) -> Iterator[list[Entry]]:
    """Batches of at most `max_documents` entries and `max_bytes` bytes, in order, as large as these bounds allow."""
    batch: list[Entry] = []
    size_bytes = 0
    for entry in entries:
        if batch and (len(batch) == max_documents or size_bytes + entry.size_bytes > max_bytes):
            yield batch
            batch, size_bytes = [], 0
        batch.append(entry)
        size_bytes += entry.size_bytes
    if batch:
        yield batch


def form(entries: Sequence[Entry]) -> list[tuple[str, tuple[str | None, bytes, str]]]:
    """The multipart form: the list of documents as JSON, and a file part for each picture, so that none grows by base64."""
    items = ", ".join(each.item for each in entries)
    documents = (None, f"[{items}]".encode(), "application/json")
    pictures = [
        (each.part, (each.part, each.picture, "application/octet-stream"))
        for each in entries
        if each.picture is not None
    ]
    return [("documents", documents), *pictures]


def outcome(entry: Entry, item: Any, table_version: int | None) -> Added:
    """What the service says of one document."""
    if "error" in item:
        error = error_of(str(item["error"]["code"]), str(item["error"]["message"]))
        return Added(entry.index, entry.document, error=error)
    truncated = bool(item.get("truncated", False))
    document_id, status, frames = str(item["id"]), str(item["status"]), item.get("frames")
    return Added(entry.index, entry.document, document_id, status, truncated, table_version, frames=frames)


def picture_bytes(source: Path | bytes) -> bytes:
    """The bytes of a picture file. Raises PictureNotFound."""
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise PictureNotFound(f"{source} cannot be read: {error.strerror}") from error


def _entry(index: int, document: NewDocument) -> Entry:
    item: dict[str, Any] = {"metadata": dict(document.metadata)} if document.metadata else {}
    if document.fields:
        item["fields"] = {name: _field(value) for name, value in document.fields.items()}
    if document.id is not None:
        item["id"] = document.id
    if document.text is not None:
        item["text"] = document.text
    if document.video is not None:
        given = asdict(document.video).items()
        item["video"] = {name: value for name, value in given if value not in (None, False)}
    picture = None
    if isinstance(document.image, str):
        item["image"] = {"uri": document.image}
    elif document.image is not None:
        picture = picture_bytes(document.image)
        item["image"] = {"part": f"picture-{index}"}
    try:
        text = json.dumps(item, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"the metadata or fields of {document.label} are not JSON: {error}") from error
    return Entry(index, document, text, picture)


def _field(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
