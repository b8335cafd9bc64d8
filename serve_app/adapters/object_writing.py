"""Large files, written from their beginning to their end below one URI: a local folder or a bucket. Blocking.

A file appears whole or not at all, and what was written of it is counted and hashed on the way. Knows no meaning of any file.
Raises StorageUnavailable when the storage fails.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import obstore

from serve_app.adapters.object_folder import ObjectFolder
from serve_app.adapters.object_store import connect, place_of, translated_errors

# S3 takes 10,000 parts: files of up to 160 GB.
PART_BYTES = 16 * 1024 * 1024
PARTS_UNDER_WAY = 3


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """`name`: from the folder; `sha256`: of its bytes, as hex digits."""

    name: str
    size: int
    sha256: str


class NewFile(io.RawIOBase):
    """A file under way, as libraries want to write to it."""

    def __init__(self, writer: Any, name: str) -> None:
        self._writer, self._name, self._size = writer, name, 0
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        with translated_errors():
            self._writer.write(view)
        self._hash.update(view)
        self._size += len(view)
        return len(view)

    def give_up(self) -> None:
        self._writer = None

    def written(self) -> WrittenFile:
        """What is there by now."""
        return WrittenFile(self._name, self._size, self._hash.hexdigest())


class ObjectWriting:
    """`options` are those of the object store, by the names that storage.options and table.options have."""

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        self._folder = ObjectFolder(uri, options)
        self.uri = self._folder.uri
        place = place_of(self.uri)
        self._prefix = f"{place.key.strip('/')}/".lstrip("/")
        self._store = connect(place, options or {})
        self.files: list[WrittenFile] = []

    def is_empty(self) -> bool:
        """Whether nothing lies there yet."""
        return not self._folder.names()

    @contextmanager
    def create(self, name: str) -> Iterator[NewFile]:
        """A new file, there once the block ends well; after an error there is nothing."""
        writer = obstore.open_writer(
            self._store, self._prefix + name, buffer_size=PART_BYTES, max_concurrency=PARTS_UNDER_WAY
        )
        file = NewFile(writer, name)
        try:
            yield file
        except BaseException:
            # obstore removes what it has of a file once nobody can write to it any more.
            file.give_up()
            del writer
            raise
        with translated_errors():
            writer.close()
        self.files.append(file.written())

    def put(self, name: str, data: bytes) -> None:
        """A small file, or another in its place; it is not among `files`."""
        self._folder.put(name, data)
