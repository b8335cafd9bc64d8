"""Reads files by URI under allowed roots only, over https with httpx. Knows nothing of pictures, tables or object stores.

A URI is under a root if it has the same scheme and host and its path begins with all segments of the root's path. Of a file the
real path counts, links followed. A host's name must not lead to a private address: an allowed root on the internet is no way into
the network of the service. Answers never name a path that the user did not send.
"""

import asyncio
import ipaddress
import os
import re
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Protocol, TypeAlias
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from serve_app.core.failures import failure_of
from serve_app.errors import (
    CrossmodalError,
    InvalidConfig,
    InvalidRange,
    PictureNotFound,
    PictureTooLarge,
    StorageUnavailable,
    UriNotAllowed,
    VideoTooLarge,
)
from serve_app.types import FilePart, ItemFailure

ReadObject: TypeAlias = Callable[[str, int], Awaitable[bytes]]
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to IP addresses."""

OBJECT_SCHEMES = frozenset({"s3", "gs", "az"})
WEB_SCHEMES = frozenset({"http", "https"})
DEFAULT_PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
MAX_REDIRECTS = 3
# Of what is fetched together, so much at once. Local files are opened so many at a time and read by one thread: to change threads
# for each costs more than most files do.
MAX_FETCHES = 16
FILES_AHEAD = 64
MAX_URI_CHARACTERS = 4096
CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class Address:
    """A URI taken apart. `segments`: of the path, percent-decoded but for object keys, which are taken as they stand."""

    scheme: str
    host: str  # host:port, bucket, or empty for files
    segments: tuple[str, ...]

    @property
    def path(self) -> str:
        """Of a file."""
        return "/" + "/".join(self.segments)

    def is_under(self, root: "Address") -> bool:
        return (self.scheme, self.host) == (root.scheme, root.host) and (
            self.segments[: len(root.segments)] == root.segments
        )


class Objects(Protocol):
    """What object storage has to offer for files that are too large for memory."""

    def stream(self, uri: str, max_bytes: int) -> AsyncIterator[bytes]: ...

    async def read_part(self, uri: str, start: int, length: int) -> tuple[bytes, int]: ...


class UriImageSource:
    """Implements ports.ImageSource, and ports.FileSource where it is given `objects`.

    `read_object` reads s3://, gs:// and az:// with a limit of bytes. `file_timeout_s`: to fetch a file that is large.
    """

    def __init__(
        self,
        allowed_roots: Sequence[str],
        *,
        read_object: ReadObject,
        max_bytes: int,
        timeout_s: float,
        resolve: Resolve | None = None,
        objects: Objects | None = None,
        file_timeout_s: float = 300.0,
    ) -> None:
        self._objects = objects
        self._file_timeout_s = file_timeout_s
        self._roots = [_root(root) for root in allowed_roots]
        self._read_object = read_object
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._resolve = resolve or _resolved
        # Made once: loading the certificates takes longer than most fetches. Without a root on https none is ever asked for.
        needs_tls = any(root.scheme == "https" for root in self._roots)
        self._tls = httpx.create_ssl_context() if needs_tls else False

    async def fetch(self, uri: str) -> bytes:
        """The bytes behind a URI. Raises UriNotAllowed, PictureNotFound, PictureTooLarge, StorageUnavailable."""
        address = parse(uri)
        try:
            async with asyncio.timeout(self._timeout_s):
                if address.scheme == "file":
                    return await asyncio.to_thread(self._read_file, address.path)
                self._check(address)
                if address.scheme in OBJECT_SCHEMES:
                    return await self._read_object(uri, self._max_bytes)
                return b"".join([chunk async for chunk in self._read_web(uri, self._max_bytes)])
        except TimeoutError as error:
            raise StorageUnavailable(f"the picture could not be fetched within {self._timeout_s:g} seconds") from error

    async def fetch_all(self, uris: Sequence[str]) -> list[bytes | ItemFailure]:
        """What `fetch` gives for each, or its failure."""
        local = [uri.lower().startswith("file:") for uri in uris]
        read, fetched = await asyncio.gather(
            self._read_files([uri for uri, here in zip(uris, local, strict=True) if here]),
            self._fetch_side_by_side([uri for uri, here in zip(uris, local, strict=True) if not here]),
        )
        from_here, from_elsewhere = iter(read), iter(fetched)
        return [next(from_here) if here else next(from_elsewhere) for here in local]

    async def _fetch_side_by_side(self, uris: Sequence[str]) -> list[bytes | ItemFailure]:
        fetches = asyncio.Semaphore(MAX_FETCHES)

        async def fetched(uri: str) -> bytes | ItemFailure:
            async with fetches:
                try:
                    return await self.fetch(uri)
                except CrossmodalError as error:
                    return failure_of(error)

        return await asyncio.gather(*map(fetched, uris))

    async def _read_files(self, uris: Sequence[str]) -> list[bytes | ItemFailure]:
        results: list[bytes | ItemFailure] = []
        for start in range(0, len(uris), FILES_AHEAD):
            some = uris[start : start + FILES_AHEAD]
            limit_s = self._timeout_s * len(some)
            try:
                async with asyncio.timeout(limit_s):
                    results += await asyncio.to_thread(self._read_together, some)
            except TimeoutError:
                stuck = StorageUnavailable(f"{len(some)} files were not read within {limit_s:g} seconds")
                results += [failure_of(stuck)] * len(some)
        return results

    def _read_together(self, uris: Sequence[str]) -> list[bytes | ItemFailure]:
        """One after the other, while the system reads ahead in all of them."""
        results: list[bytes | ItemFailure] = []
        folders: dict[str, str] = {}
        with ExitStack() as opened:
            files: list[IO[bytes] | ItemFailure] = []
            for uri in uris:
                try:
                    file = opened.enter_context(self._open_checked(parse(uri).path, folders))
                    with suppress(AttributeError, OSError):  # a hint, which not every system or storage takes
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
                    files.append(file)
                except CrossmodalError as error:
                    files.append(failure_of(error))
            for each in files:
                try:
                    results.append(each if isinstance(each, ItemFailure) else self._whole(each))
                except CrossmodalError as error:
                    results.append(failure_of(error))
        return results

    @asynccontextmanager
    async def open_file(self, uri: str, max_bytes: int) -> AsyncIterator[IO[bytes]]:
        """A large file to read and seek in: the local one itself, or a copy of what lies elsewhere, which goes afterwards.

        Raises UriNotAllowed, PictureNotFound, VideoTooLarge, StorageUnavailable.
        """
        address = parse(uri)
        if address.scheme == "file":
            with await asyncio.to_thread(self._open_checked, address.path) as file:
                yield file
            return
        self._check(address)
        with TemporaryFile() as copy:
            try:
                async with asyncio.timeout(self._file_timeout_s):
                    async for chunk in self._chunks(uri, address, max_bytes):
                        await asyncio.to_thread(copy.write, chunk)
            except PictureTooLarge as error:
                raise VideoTooLarge(f"the video file has more than {max_bytes} bytes") from error
            except TimeoutError as error:
                raise StorageUnavailable(
                    f"the video could not be fetched within {self._file_timeout_s:g} seconds"
                ) from error
            copy.seek(0)
            yield copy

    async def read_part(self, uri: str, start: int, length: int) -> FilePart:
        """Up to `length` bytes of a local file or an object. Raises InvalidRange beyond its end, and as `open_file` does."""
        address = parse(uri)
        if address.scheme == "file":
            data, total = await asyncio.to_thread(self._read_file_part, address.path, start, length)
        else:
            self._check(address)
            if self._objects is None or address.scheme not in OBJECT_SCHEMES:
                raise UriNotAllowed("this file is read in one piece, where it lies")
            data, total = await self._objects.read_part(uri, start, length)
        if start >= total:
            raise InvalidRange(f"the file has {total} bytes, and the first one asked for is number {start}")
        return FilePart(data, start, total)

    def _chunks(self, uri: str, address: Address, max_bytes: int) -> AsyncIterator[bytes]:
        if address.scheme not in OBJECT_SCHEMES:
            return self._read_web(uri, max_bytes)
        if self._objects is None:
            raise UriNotAllowed("the service does not read large files from object storage")
        return self._objects.stream(uri, max_bytes)

    def _check(self, address: Address) -> Address:
        """The root that the address is under."""
        for root in self._roots:
            if address.is_under(root):
                return root
        raise UriNotAllowed("the service does not read pictures from this address")

    def _read_file(self, path: str) -> bytes:
        with self._open_checked(path) as file:
            return self._whole(file)

    def _whole(self, file: IO[bytes]) -> bytes:
        size = os.fstat(file.fileno()).st_size
        self._check_size(size, self._max_bytes)
        try:
            data = file.read(size + 1)
            if len(data) > size:  # it grows, or does not tell its size; to ask for so much of every file is slow
                data += file.read(self._max_bytes)
        except OSError as error:
            raise StorageUnavailable("the file of the picture cannot be read just now") from error
        self._check_size(len(data), self._max_bytes)
        return data

    def _read_file_part(self, path: str, start: int, length: int) -> tuple[bytes, int]:
        with self._open_checked(path) as file:
            file.seek(start)
            return file.read(length), os.fstat(file.fileno()).st_size

    def _open_checked(self, path: str, folders: dict[str, str] | None = None) -> IO[bytes]:
        """A file under an allowed root, and no other. `folders`: the real paths of folders that have just been looked up.

        Raises UriNotAllowed, PictureNotFound.
        """
        real = _real_path(path, {} if folders is None else folders)
        self._check(Address("file", "", _segments(real)))
        try:
            # The checked file itself, no link put in its place meanwhile; and never waiting for a named pipe.
            handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise PictureNotFound("there is no readable file under this address") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise PictureNotFound("there is no file under this address")
        return open(handle, "rb")

    async def _read_web(self, uri: str, max_bytes: int) -> AsyncIterator[bytes]:
        # No environment: a proxy named there would resolve names by itself.
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=self._timeout_s) as client:
            for _ in range(MAX_REDIRECTS + 1):
                request = await self._request(client, uri)
                try:
                    answer = await client.send(request, stream=True)
                    try:
                        if not answer.has_redirect_location:
                            async for chunk in self._body(answer, max_bytes):
                                yield chunk
                            return
                        uri = _redirected(uri, answer.headers["location"])
                    finally:
                        await answer.aclose()
                except httpx.HTTPError as error:
                    raise StorageUnavailable("the server of the picture does not answer as it should") from error
        raise StorageUnavailable(f"the server of the picture redirects more than {MAX_REDIRECTS} times")

    async def _request(self, client: httpx.AsyncClient, uri: str) -> httpx.Request:
        """Checks the address, also that of a redirect, and names the checked IP: the name might lead elsewhere a moment later."""
        address = parse(uri)
        root = self._check(address)
        try:
            url = httpx.URL(uri)
            port = url.port or DEFAULT_PORTS[url.scheme]
        except (httpx.InvalidURL, KeyError) as error:
            raise UriNotAllowed("the address of the picture is malformed") from error
        if f"{url.host}:{port}" != address.host:  # two parsers that disagree are how such checks are passed by
            raise UriNotAllowed("the address of the picture is malformed")
        ip = await self._public_ip(url.host, port, root)
        return client.build_request(
            "GET",
            url.copy_with(host=ip, fragment=None),
            # Identity: what unpacks on the way could be larger than what was counted.
            headers={"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity", "User-Agent": "crossmodal"},
            extensions={"sni_hostname": url.host},
        )

    async def _public_ip(self, host: str, port: int, root: Address) -> str:
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise StorageUnavailable("the server of the picture has no address") from error
        if not found:
            raise StorageUnavailable("the server of the picture has no address")
        if not _is_local_by_name(root.host) and not all(is_public(ip) for ip in found):
            raise UriNotAllowed("the service does not read pictures from this address")
        return min(found, key=lambda ip: ":" in ip)  # IPv4 first: not every machine can reach the other

    async def _body(self, answer: httpx.Response, max_bytes: int) -> AsyncIterator[bytes]:
        if answer.status_code >= 500 or answer.status_code == 429:
            raise StorageUnavailable(f"the server of the picture answers with status {answer.status_code}")
        if answer.status_code != 200:
            raise PictureNotFound(f"the server of the picture answers with status {answer.status_code}")
        if answer.headers.get("content-length", "").isdecimal():
            self._check_size(int(answer.headers["content-length"]), max_bytes)
        size = 0
        async for chunk in answer.aiter_raw():
            size += len(chunk)
            self._check_size(size, max_bytes)
            yield chunk

    @staticmethod
    def _check_size(size: int, max_bytes: int) -> None:
        if size > max_bytes:
            raise PictureTooLarge(f"the picture file has more than {max_bytes} bytes")


def parse(uri: str) -> Address:
    """A user's URI, refused if it is malformed or tries to climb. Raises UriNotAllowed."""
    if len(uri) > MAX_URI_CHARACTERS or CONTROL.search(uri) or _has_surrogates(uri):
        raise UriNotAllowed("the address of the picture is malformed")
    scheme, separator, rest = uri.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in OBJECT_SCHEMES | WEB_SCHEMES | {"file"}:
        raise UriNotAllowed("the address of a picture begins with file://, s3://, gs://, az://, https:// or http://")
    if scheme in OBJECT_SCHEMES:
        host, _, path = rest.partition("/")
    else:
        host, path = _host_and_path(uri, scheme)
    # An empty part, which the two sides might read differently.
    if scheme != "file" and "//" in "/" + path.removeprefix("/" if scheme in WEB_SCHEMES else ""):
        raise UriNotAllowed("the address of the picture has an empty part")
    # Decoded once more than anybody will: neither here nor behind a lenient server may ".." mean its parent.
    if CONTROL.search(unquote(path)) or any(unquote(part) in (".", "..") for part in path.split("/")):
        raise UriNotAllowed("the address of the picture climbs through folders")
    return Address(scheme, host, _segments(path))


def _host_and_path(uri: str, scheme: str) -> tuple[str, str]:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UriNotAllowed("the address of the picture is malformed") from error
    path = unquote(parts.path)
    if scheme == "file":
        if host not in ("", "localhost") or parts.query or parts.fragment:
            raise UriNotAllowed("a file:// address names no host, query or fragment")
        return "", path
    if not host or parts.username is not None or parts.password is not None:
        raise UriNotAllowed("an https:// address names a host and no password")
    return f"{host}:{port or DEFAULT_PORTS[scheme]}", path


def _root(root: str) -> Address:
    """A root of the configuration: a URI, or the path of a folder. Raises InvalidConfig."""
    uri = root if "://" in root else "file://" + root.replace("%", "%25")
    try:
        address = parse(uri)
    except UriNotAllowed as error:
        raise InvalidConfig(f"{root!r} cannot be an allowed root: {error.message}") from error
    if address.scheme == "file":
        return Address("file", "", _segments(os.path.realpath(address.path)))
    return address


def _real_path(path: str, folders: dict[str, str]) -> str:
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    place = os.path.join(folders[folder], name)
    return os.path.realpath(place) if os.path.islink(place) else place


def _segments(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _redirected(uri: str, location: str) -> str:
    try:
        return urljoin(uri, location)
    except ValueError as error:
        raise StorageUnavailable("the server of the picture redirects to a malformed address") from error


def is_public(ip: str) -> bool:
    """Whether an IP address lies on the internet: not private, loopback, link-local, multicast, nor one of these as IPv6."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        address = inner or address
    return address.is_global and not address.is_multicast


def _is_local_by_name(host: str) -> bool:
    """Whether a root names a private address itself; then it is meant."""
    name = host.rpartition(":")[0]
    if name == "localhost":
        return True
    try:
        return not is_public(name)
    except ValueError:
        return False


async def _resolved(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]
