"""Small files by name under one URI: a local folder, S3, Google Cloud Storage or Azure. Blocking. Knows no meaning of any file.

A file appears whole or not at all. Raises StorageUnavailable when the storage fails, InvalidConfig for options it has not.
"""

from collections.abc import Mapping
from pathlib import Path

from serve_app.adapters.object_store import connect, place_of, translated_errors


class ObjectFolder:
    """`options` are those of the object store, by the names that storage.options and table.options have."""

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        self.uri = uri.rstrip("/")
        self._place = place_of(self.uri)
        self._prefix = f"{self._place.key.strip('/')}/".lstrip("/")
        self._store = connect(self._place, options or {})

    def put(self, name: str, data: bytes) -> None:
        """Write or replace."""
        with translated_errors():
            self._store.put(self._prefix + name, data, use_multipart=False)

    def get(self, name: str) -> bytes | None:
        """The bytes of a file, None where there is none."""
        with translated_errors():
            try:
                return bytes(self._store.get(self._prefix + name).bytes())
            except FileNotFoundError:
                return None

    def names(self, under: str = "") -> list[str]:
        """The names of all files below `under`, in order."""
        # LocalStore refuses to list a folder that is not there.
        if self._place.scheme == "file" and not Path("/", self._prefix, under).is_dir():
            return []
        with translated_errors():
            found = [each["path"] for part in self._store.list(f"{self._prefix}{under}".rstrip("/")) for each in part]
        return sorted(path.removeprefix(self._prefix) for path in found)

    def folders(self) -> list[str]:
        """The names of what lies directly below, and holds files, in order."""
        if self._place.scheme == "file" and not Path("/", self._prefix).is_dir():
            return []
        with translated_errors():
            found = self._store.list_with_delimiter(self._prefix.rstrip("/"))["common_prefixes"]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)
