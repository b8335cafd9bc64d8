"""Objects in a local folder, S3, Google Cloud Storage or Azure, chosen by URI alone, with obstore. Knows no pictures.

Pictures are kept under `ab/cd/<sha256>.<ext>`: the content names the key, so a write may be repeated and never collides.
obstore's errors become ours here and nowhere else.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store, from_url

from serve_app.errors import InvalidConfig, PictureNotFound, PictureTooLarge, StorageUnavailable

Store: TypeAlias = LocalStore | S3Store | GCSStore | AzureStore
Check: TypeAlias = Callable[[Path], object]
"""Raises for a folder that must not be kept."""

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/bmp": "bmp",
    "image/tiff": "tiff",
    "image/avif": "avif",
    "image/heic": "heic",
}
OWN_KEY = re.compile(r"([0-9a-f]{2})/([0-9a-f]{2})/\1\2[0-9a-f]{60}\.[a-z0-9]{1,8}")
CLOUD_SCHEMES = frozenset({"s3", "gs", "az"})
# Options of the connection, not of the store; one dict in the configuration holds both, as LanceDB's does.
CLIENT_OPTIONS = frozenset(
    {"allow_http", "allow_invalid_certificates", "connect_timeout", "timeout", "proxy_url", "root_certificate"}
)
# obstore alone would try for three minutes; whoever waits for a picture has given up by then.
RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
FETCHING = ".fetching-"
CHUNK_BYTES = 8 * 1024 * 1024
# A picture that comes again is stored again once it is older than this, so that nobody takes it for abandoned.
RENEWED_AFTER = timedelta(minutes=10)


class ObjectPlace(NamedTuple):
    """Where an object lies: `bucket` is empty for a local file, whose `key` is its absolute path."""

    scheme: str
    bucket: str
    key: str


def place_of(uri: str) -> ObjectPlace:
    """The parts of a file://, s3://, gs:// or az:// URI, or of a plain path. Cloud keys are taken as they stand."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return ObjectPlace("file", "", str(Path(uri).absolute()))
    if scheme.lower() == "file":
        return ObjectPlace("file", "", str(Path(unquote(urlsplit(uri).path)).absolute()))
    if scheme.lower() not in CLOUD_SCHEMES:
        raise InvalidConfig(f"no object storage has the scheme {scheme!r}; there are file, s3, gs and az")
    bucket, _, key = rest.partition("/")
    return ObjectPlace(scheme.lower(), bucket, key.strip("/"))


class ObjectReader:
    """Reads whole objects by URI. `options` hold for every URI of the scheme of `storage_uri`; others use the environment."""

    def __init__(self, storage_uri: str, options: Mapping[str, str] | None = None) -> None:
        self._scheme = place_of(storage_uri).scheme
        self._options = dict(options or {})
        self._stores: dict[tuple[str, str], Store] = {}

    async def read(self, uri: str, max_bytes: int) -> bytes:
        """The bytes of an object. Raises PictureNotFound, PictureTooLarge (before reading on), StorageUnavailable."""
        place = place_of(uri)
        with translated_errors():
            answer = await self.store_of(place).get_async(place.key.lstrip("/"))
            if answer.meta["size"] > max_bytes:
                raise PictureTooLarge(f"the object has {answer.meta['size']} bytes; at most {max_bytes} are taken")
            return bytes(await answer.bytes_async())

    async def stream(self, uri: str, max_bytes: int) -> AsyncIterator[bytes]:
        """An object in chunks. Raises as `read` does."""
        place = place_of(uri)
        with translated_errors():
            answer = await self.store_of(place).get_async(place.key.lstrip("/"))
            if answer.meta["size"] > max_bytes:
                raise PictureTooLarge(f"the object has {answer.meta['size']} bytes; at most {max_bytes} are taken")
            async for chunk in answer.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    async def read_part(self, uri: str, start: int, length: int) -> tuple[bytes, int]:
        """Up to `length` bytes from `start` on, and how many the object has; no bytes beyond its end."""
        place = place_of(uri)
        with translated_errors():
            total = (await self.store_of(place).head_async(place.key.lstrip("/")))["size"]
            length = min(length, total - start)
            if length <= 0:
                return b"", total
            part = await self.store_of(place).get_range_async(place.key.lstrip("/"), start=start, length=length)
            return bytes(part), total

    def store_of(self, place: ObjectPlace) -> Store:
        """The connection to a bucket, kept for the next read. Raises InvalidConfig for options that do not exist."""
        known = self._stores.get(place[:2])
        if known is None:
            options = self._options if place.scheme == self._scheme else {}
            known = self._stores[place[:2]] = connect(place, options)
        return known


class ObstoreObjectStore:
    """Implements ports.ObjectStore. `root`: the URI under which everything lies that this store writes."""

    def __init__(self, uri: str, options: Mapping[str, str] | None = None, *, signed_url_s: int = 900) -> None:
        self._base = place_of(uri)
        self._signed_url_s = signed_url_s
        self._reader = ObjectReader(uri, options)
        self._store = self._reader.store_of(self._base)
        if self._base.scheme == "file":
            with translated_errors():
                Path(self._base.key).mkdir(parents=True, exist_ok=True)
            self.root = Path(self._base.key).as_uri() + "/"
        else:
            self.root = f"{self._base.scheme}://{self._base.bucket}/" + (f"{self._base.key}/" if self._base.key else "")

    async def put(self, content_sha256: str, media_type: str, data: bytes) -> str:
        """Store under the content's own name, unless it was stored lately; returns the URI. Raises StorageUnavailable.

        What lies there for longer is stored anew: `remove` spares what is young, so a picture of a document under way stays.
        """
        name = f"{content_sha256}.{EXTENSIONS.get(media_type, 'bin')}"
        key = f"{content_sha256[:2]}/{content_sha256[2:4]}/{name}"
        path = self._path_of(key)
        if not await self._holds_young(path, len(data)):
            # A local folder has no place for a type; there the extension tells.
            attributes: Any = None if self._base.scheme == "file" else {"Content-Type": media_type}
            with translated_errors():
                try:
                    await self._store.put_async(path, data, attributes=attributes, use_multipart=False)
                except FileNotFoundError as error:
                    raise StorageUnavailable("the bucket that pictures are kept in does not exist") from error
        return self.root + key

    def owns(self, uri: str) -> bool:
        """Whether the URI has the form of those that this store writes."""
        return uri.startswith(self.root) and OWN_KEY.fullmatch(uri.removeprefix(self.root)) is not None

    async def signed_url(self, uri: str) -> str | None:
        """An https address that is good for `signed_url_s`; None for a local folder and for URIs of others."""
        if isinstance(self._store, LocalStore) or not self.owns(uri):
            return None
        path = self._path_of(uri.removeprefix(self.root))
        with translated_errors():
            return await obstore.sign_async(self._store, "GET", path, timedelta(seconds=self._signed_url_s))

    async def remove(self, uri: str, older_than: timedelta) -> int:
        """Delete an object of this store that was stored so long ago, at least; returns its bytes, 0 where it stays.

        `older_than` has to be longer than RENEWED_AFTER by what a document takes from its picture to its commit.
        """
        path = self._path_of(uri.removeprefix(self.root))
        with translated_errors():
            try:
                found = await self._store.head_async(path)
                if not self.owns(uri) or datetime.now(UTC) - found["last_modified"] < older_than:
                    return 0
                await self._store.delete_async(path)
            except FileNotFoundError:
                return 0
        return found["size"]

    async def stored(self, older_than: timedelta, part: str) -> AsyncIterator[dict[str, int]]:
        """URI and bytes of the objects under `<part>/` that were stored so long ago, in portions."""
        prefix = self._path_of("")
        with translated_errors():
            async for portion in self._store.list_async(f"{prefix}{part}/"):
                limit = datetime.now(UTC) - older_than
                old = {each["path"].removeprefix(prefix): each for each in portion if each["last_modified"] < limit}
                yield {self.root + key: each["size"] for key, each in old.items() if OWN_KEY.fullmatch(key)}

    async def read(self, uri: str, max_bytes: int) -> bytes:
        """The bytes of any object, also of other buckets; see ObjectReader.read."""
        return await self._reader.read(uri, max_bytes)

    def stream(self, uri: str, max_bytes: int) -> AsyncIterator[bytes]:
        """Any object in chunks; see ObjectReader.stream."""
        return self._reader.stream(uri, max_bytes)

    async def read_part(self, uri: str, start: int, length: int) -> tuple[bytes, int]:
        """Some bytes of any object; see ObjectReader.read_part."""
        return await self._reader.read_part(uri, start, length)

    def _path_of(self, key: str) -> str:
        return f"{self._base.key.strip('/')}/{key}".lstrip("/")

    async def _holds_young(self, path: str, size: int) -> bool:
        try:
            with translated_errors():
                found = await self._store.head_async(path)
        except PictureNotFound:
            return False
        return found["size"] == size and datetime.now(UTC) - found["last_modified"] < RENEWED_AFTER


def fetch_folder(
    uri: str, cache_dir: str, options: Mapping[str, str] | None = None, *, check: Check | None = None
) -> str:
    """Copy the objects under a URI into a folder of `cache_dir`, once; returns its path. Blocking.

    The folder is named after what lies there (names, sizes, tags), so a checkpoint that was replaced is fetched anew. It appears
    whole or not at all: a copy that breaks off, or that `check` raises for, leaves nothing. Of several processes that fetch at
    once, one fetches and the others wait. Raises PictureNotFound, StorageUnavailable.
    """
    place = place_of(uri)
    return str(_fetch(uri, place, lambda _: True, Path(cache_dir), options or {}, check))


def fetch_file(
    uri: str,
    cache_dir: str,
    options: Mapping[str, str] | None = None,
    *,
    beside: Sequence[str] = (),
    check: Check | None = None,
) -> str:
    """As fetch_folder, of one object and of those whose names match a pattern of `beside`. Returns the object's path."""
    parent, _, name = uri.rpartition("/")

    def chosen(path: str) -> bool:
        return path == name or ("/" not in path and any(fnmatchcase(path, pattern) for pattern in beside))

    folder = _fetch(uri, place_of(parent), chosen, Path(cache_dir), options or {}, check, needed=name)
    return str(folder / name)


def _fetch(
    uri: str,
    place: ObjectPlace,
    chosen: Callable[[str], bool],
    cache_dir: Path,
    options: Mapping[str, str],
    check: Check | None,
    needed: str | None = None,
) -> Path:
    store = connect(place, options)
    prefix = f"{place.key.strip('/')}/".lstrip("/")
    with translated_errors():
        found = {each["path"].removeprefix(prefix): each for batch in store.list(prefix or None) for each in batch}
        found = {path: found[path] for path in sorted(found) if chosen(path)}
        if not found or (needed is not None and needed not in found):
            raise PictureNotFound(f"nothing lies under {uri}")
        tags = "\n".join(f"{each['path']} {each['size']} {each['e_tag']}" for each in found.values())
        digest = hashlib.sha256(f"{uri}\n{tags}".encode()).hexdigest()[:16]
        target = cache_dir / f"{uri.rstrip('/').rpartition('/')[2]}-{digest}"
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _locked(cache_dir):
            if not target.is_dir():
                for broken_off in cache_dir.glob(f"{FETCHING}*"):  # nobody else fetches now, so its process has died
                    shutil.rmtree(broken_off)
                with tempfile.TemporaryDirectory(dir=cache_dir, prefix=FETCHING) as beginning:
                    whole = Path(beginning) / "whole"
                    for path, each in found.items():
                        _copy(store, each["path"], each["size"], whole / path)
                    if check is not None:
                        check(whole)
                    os.rename(whole, target)
    return target


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds the folder. The lock ends with its process, whatever happens."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _copy(store: Store, path: str, size: int, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as copy:
        for chunk in store.get(path).stream(min_chunk_size=CHUNK_BYTES):
            copy.write(chunk)
    if file.stat().st_size != size:
        raise StorageUnavailable("an object of the checkpoint came with another size than was listed")


@contextmanager
def translated_errors() -> Iterator[None]:
    """obstore's and the file system's errors as ours; addresses and keys of the storage stay in the cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise PictureNotFound("there is no object under this address") from error
    # NotImplementedError is obstore's, for what a kind of storage cannot do.
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        raise StorageUnavailable("the object storage refuses or does not answer") from error


def connect(place: ObjectPlace, options: Mapping[str, str]) -> Store:
    if place.scheme == "file":
        return LocalStore()  # of the whole file system: the caller decides what may be read
    client: Any = {key: _parsed(value) for key, value in options.items() if key in CLIENT_OPTIONS}
    config: Any = {key: value for key, value in options.items() if key not in CLIENT_OPTIONS}
    try:
        store: Any = from_url(
            f"{place.scheme}://{place.bucket}", config=config, client_options=client or None, retry_config=RETRIES
        )
    except (BaseError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidConfig(f"the object storage {place.scheme}://{place.bucket} cannot be used: {reason}") from error
    else:
        connection: Store = store
        return connection


def _parsed(value: str) -> bool | str:
    return {"true": True, "false": False}.get(str(value).lower(), value)
