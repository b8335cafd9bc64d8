"""Pictures kept in a dictionary. Holds the same promises as the real store; the contract suite runs on both."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from serve_app.adapters.object_store import EXTENSIONS, OWN_KEY
from serve_app.errors import PictureNotFound, PictureTooLarge


class MemoryObjectStore:
    def __init__(self, root: str = "memory://pictures/") -> None:
        self.root = root
        self.objects: dict[str, bytes] = {}
        self._put_at: dict[str, datetime] = {}

    async def put(self, content_sha256: str, media_type: str, data: bytes) -> str:
        name = f"{content_sha256}.{EXTENSIONS.get(media_type, 'bin')}"
        uri = f"{self.root}{content_sha256[:2]}/{content_sha256[2:4]}/{name}"
        self.objects[uri] = data
        self._put_at[uri] = datetime.now(UTC)
        return uri

    def owns(self, uri: str) -> bool:
        return uri.startswith(self.root) and OWN_KEY.fullmatch(uri.removeprefix(self.root)) is not None

    async def signed_url(self, uri: str) -> str | None:
        return None

    async def remove(self, uri: str, older_than: timedelta) -> int:
        if uri not in self.objects or not self._is_old(uri, older_than):
            return 0
        return len(self.objects.pop(uri))

    async def stored(self, older_than: timedelta, part: str) -> AsyncIterator[dict[str, int]]:
        found = {uri: len(data) for uri, data in self.objects.items() if uri.startswith(f"{self.root}{part}/")}
        yield {uri: size for uri, size in found.items() if self._is_old(uri, older_than)}

    async def read(self, uri: str, max_bytes: int) -> bytes:
        if uri not in self.objects:
            raise PictureNotFound("there is no object under this address")
        if len(self.objects[uri]) > max_bytes:
            raise PictureTooLarge(f"the object has {len(self.objects[uri])} bytes; at most {max_bytes} are taken")
        return self.objects[uri]

    def _is_old(self, uri: str, older_than: timedelta) -> bool:
        return datetime.now(UTC) - self._put_at[uri] >= older_than
