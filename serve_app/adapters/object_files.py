"""Files that lie in a local folder or in a bucket, read only: listed lazily in order, opened to read and to seek. Blocking.

Knows no meaning of any file. Raises SourceNotFound where nothing lies, StorageUnavailable when the storage fails.
"""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from serve_app.adapters.object_store import ObjectReader, place_of, translated_errors
from serve_app.errors import PictureNotFound, SourceNotFound

LISTED_AT_ONCE = 1000
# A request for each: large ones, so that a file read from its beginning to its end costs few.
BUFFER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`path`: from the folder that was listed. `tag` changes with the content, as far as the storage can tell."""

    uri: str
    path: str
    size: int
    tag: str

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]


class ObjectFiles:
    """`options` are those of the object store of `uri`, and hold for every URI of its scheme. Picklable until used."""

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        self._reader = ObjectReader(uri, options)

    def below(self, uri: str) -> Iterator[StoredFile]:
        """Every file below a folder or prefix, in the order of their paths. Those whose names begin with a dot are not."""
        place = place_of(uri)
        if place.scheme == "file":
            # LocalStore promises no order.
            for path, state in _walk(place.key, ""):
                yield _local_file(place.key, path, state)
            return
        prefix = f"{place.key.strip('/')}/".lstrip("/")
        root = f"{place.scheme}://{place.bucket}/"
        with _translated(uri):
            for portion in self._reader.store_of(place).list(prefix or None, chunk_size=LISTED_AT_ONCE):
                for each in portion:
                    path = each["path"].removeprefix(prefix)
                    if path and not any(part.startswith(".") for part in path.split("/")):
                        yield StoredFile(root + each["path"], path, each["size"], _tag(each))

    def find(self, uri: str) -> StoredFile | None:
        """The file of this very URI, None where there is none."""
        place = place_of(uri)
        name = place.key.rpartition("/")[2]
        if place.scheme == "file":
            path = Path(place.key)
            return _local_file(str(path.parent), name, path.stat()) if path.is_file() else None
        if not place.key:
            return None
        try:
            with translated_errors():
                found = self._reader.store_of(place).head(place.key)
        except PictureNotFound:
            return None
        return StoredFile(f"{place.scheme}://{place.bucket}/{place.key}", name, found["size"], _tag(found))

    def open(self, uri: str, buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        """The file, to read and to seek. What fails while it is read is one of our errors, too. Raises SourceNotFound."""
        place = place_of(uri)
        if place.scheme == "file":
            with _translated(uri):
                return Path(place.key).open("rb")
        with _translated(uri):
            store = self._reader.store_of(place)
            size = store.head(place.key)["size"]
        return cast(BinaryIO, io.BufferedReader(_RangeReader(store, place.key, size, uri), buffer_bytes))

    def read(self, uri: str, max_bytes: int) -> bytes | None:
        """The first bytes of a small file, None where there is none."""
        try:
            with self.open(uri, max_bytes) as file:
                return file.read(max_bytes)
        except SourceNotFound:
            return None


class _RangeReader(io.RawIOBase):
    """An object as a file: each read is a request of its own."""

    def __init__(self, store: Any, key: str, size: int, uri: str) -> None:
        self._store, self._key, self._size, self._uri = store, key, size, uri
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._next(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        """In one request: Python's own way makes one for every 8 KiB."""
        return self._next(self._size)

    def _next(self, most: int) -> bytes:
        length = min(most, self._size - self._at)
        if length <= 0:
            return b""
        with _translated(self._uri):
            found = bytes(self._store.get_range(self._key, start=self._at, length=length))
        self._at += len(found)
        return found


def _walk(root: str, inside: str) -> Iterator[tuple[str, os.stat_result]]:
    """Paths below a folder, in the order in which a bucket lists the same; one folder's names are held at a time.

    Links to files are followed, links to folders are not: they may lead in a circle.
    """
    with _translated(inside or root), os.scandir(os.path.join(root, inside)) as found:
        entries = [each for each in found if not each.name.startswith(".")]
    names = sorted((f"{each.name}/" if each.is_dir(follow_symlinks=False) else each.name, each) for each in entries)
    for name, entry in names:
        if name.endswith("/"):
            yield from _walk(root, f"{inside}{name}")
        elif entry.is_file():
            yield f"{inside}{name}", entry.stat()


def _local_file(folder: str, path: str, state: os.stat_result) -> StoredFile:
    return StoredFile(Path(folder, path).as_uri(), path, state.st_size, str(state.st_mtime_ns))


def _tag(found: Any) -> str:
    return str(found["e_tag"] or found["last_modified"])


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        with translated_errors():
            yield
    except PictureNotFound as error:
        raise SourceNotFound(f"nothing lies under {uri}") from error
