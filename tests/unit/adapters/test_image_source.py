"""Pictures are read under the allowed roots and nowhere else, whatever the address tries."""

import asyncio
import errno
import io
import os
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from serve_app.adapters.image_source import UriImageSource, is_public
from serve_app.errors import InvalidConfig, PictureNotFound, PictureTooLarge, StorageUnavailable, UriNotAllowed
from serve_app.types import ItemFailure

DATA = b"the bytes of a picture"


async def no_objects(uri: str, max_bytes: int) -> bytes:
    raise AssertionError(f"{uri} must not be read")


def source(*roots: str, read_object: object = no_objects, **options: object) -> UriImageSource:
    settings = {"max_bytes": 1000, "timeout_s": 5.0, "read_object": read_object, **options}
    return UriImageSource(roots, **settings)  # type: ignore[arg-type]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """pics/ is allowed; pics-secret/ and passwd beside it are not."""
    for name in ("pics/sub dir", "pics-secret"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("pics/a.png", "pics/sub dir/50% ü#?.png", "pics-secret/b.png", "passwd"):
        (tmp_path / name).write_bytes(DATA)
    (tmp_path / "pics/large.png").write_bytes(bytes(1001))
    (tmp_path / "pics/inside.png").symlink_to(tmp_path / "pics/a.png")
    (tmp_path / "pics/outside.png").symlink_to(tmp_path / "passwd")
    (tmp_path / "pics/elsewhere").symlink_to(tmp_path / "pics-secret")
    (tmp_path / "alias").symlink_to(tmp_path / "pics")
    return tmp_path


async def test_a_file_under_the_root_is_read(folders: Path) -> None:
    for root in (f"file://{folders}/pics/", f"file://{folders}/pics", str(folders / "pics"), str(folders / "alias")):
        assert await source(root).fetch(f"file://{folders}/pics/a.png") == DATA
        assert await source(root).fetch(f"file://localhost{folders}/pics/a.png") == DATA


async def test_a_name_with_spaces_and_signs_is_percent_encoded(folders: Path) -> None:
    path = quote(f"{folders}/pics/sub dir/50% ü#?.png")
    assert await source(f"file://{folders}/pics").fetch(f"file://{path}") == DATA


async def test_links_count_by_where_they_lead(folders: Path) -> None:
    pictures = source(f"file://{folders}/pics")
    assert await pictures.fetch(f"file://{folders}/pics/inside.png") == DATA
    assert await pictures.fetch(f"file://{folders}/alias/a.png") == DATA
    for name in ("outside.png", "elsewhere/b.png"):
        with pytest.raises(UriNotAllowed):
            await pictures.fetch(f"file://{folders}/pics/{name}")


@pytest.mark.parametrize(
    "path",
    [
        "/pics-secret/b.png",
        "/pics/../passwd",
        "/pics/%2e%2e/passwd",
        "/pics/%252e%252e/passwd",
        "/pics/..%2fpasswd",
        "/pics/a.png%00.jpg",
        "/pics\\..\\passwd",
        "/pics/a.png?x",
        "/passwd",
        "/nothing-here",
        "",
    ],
)
async def test_a_path_outside_the_root_is_refused_whether_it_exists_or_not(folders: Path, path: str) -> None:
    with pytest.raises(UriNotAllowed) as caught:
        await source(f"file://{folders}/pics").fetch(f"file://{folders}{path}")
    assert str(folders) not in caught.value.message


@pytest.mark.parametrize(
    "uri",
    [
        "a.png",
        "/etc/passwd",
        "ftp://host/a.png",
        "data:image/png;base64,aaaa",
        "",
        "file://other-host/pics/a.png",
        "s3://b/\ud800",
    ],
)
async def test_what_is_no_address_of_ours_is_refused(uri: str) -> None:
    with pytest.raises(UriNotAllowed):
        await source("file:///", "s3://b").fetch(uri)


async def test_without_roots_nothing_is_read(folders: Path) -> None:
    for uri in (f"file://{folders}/pics/a.png", "s3://bucket/a.png", "https://example.com/a.png"):
        with pytest.raises(UriNotAllowed):
            await source().fetch(uri)


async def test_missing_files_folders_and_pipes_are_no_pictures(folders: Path) -> None:
    os.mkfifo(folders / "pics/pipe")
    begin = time.monotonic()
    for name in ("nothing.png", "", "sub dir", "pipe"):
        with pytest.raises(PictureNotFound):
            await source(f"file://{folders}/pics").fetch(f"file://{folders}/pics/{name}")
    assert time.monotonic() - begin < 2


async def test_a_large_file_is_refused(folders: Path) -> None:
    with pytest.raises(PictureTooLarge):
        await source(f"file://{folders}/pics").fetch(f"file://{folders}/pics/large.png")


def test_a_root_that_is_no_address_is_an_error_of_the_configuration() -> None:
    with pytest.raises(InvalidConfig, match="gopher"):
        source("gopher://host/")


async def test_many_are_read_in_order_and_what_cannot_be_read_fails_alone(folders: Path) -> None:
    async def read_object(uri: str, max_bytes: int) -> bytes:
        return uri.encode()

    pics = f"file://{folders}/pics"
    for number in range(150):
        (folders / f"pics/{number}.png").write_bytes(b"%d" % number)
    asked = [f"{pics}/{number}.png" for number in range(150)]
    bad = {
        3: (f"{pics}/outside.png", UriNotAllowed),
        70: (f"{pics}/elsewhere/b.png", UriNotAllowed),
        71: (f"{pics}/gone.png", PictureNotFound),
        90: (f"{pics}/large.png", PictureTooLarge),
        91: ("s3://another/a.png", UriNotAllowed),
        149: ("file://host/a.png", UriNotAllowed),
    }
    expected: list[bytes | str] = [b"%d" % number for number in range(150)]
    for at, (uri, error) in bad.items():
        asked[at], expected[at] = uri, error.code
    asked[100], expected[100] = "s3://bucket/a.png", b"s3://bucket/a.png"
    asked[101], expected[101] = f"{pics}/inside.png", DATA
    found = await source(pics, "s3://bucket", read_object=read_object).fetch_all(asked)
    assert [each.code if isinstance(each, ItemFailure) else each for each in found] == expected
    assert await source(pics).fetch_all([]) == []


async def test_files_that_are_not_read_in_time_are_failures(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, uri = source(f"file://{folders}/pics", timeout_s=0.05), f"file://{folders}/pics/a.png"
    go_on = threading.Event()
    monkeypatch.setattr(pictures, "_whole", lambda _: go_on.wait(10))
    found = await pictures.fetch_all([uri, uri])
    go_on.set()
    assert [each.code for each in found if isinstance(each, ItemFailure)] == [StorageUnavailable.code] * 2


async def test_a_disk_that_fails_is_a_failure_of_the_file(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        def fileno(self) -> int:
            return 0

    pictures = source(f"file://{folders}/pics")
    monkeypatch.setattr(pictures, "_open_checked", lambda *_: Broken())
    (found,) = await pictures.fetch_all([f"file://{folders}/pics/a.png"])
    assert isinstance(found, ItemFailure)
    assert found.code == StorageUnavailable.code
    with pytest.raises(StorageUnavailable):
        await pictures.fetch(f"file://{folders}/pics/a.png")


async def test_a_file_that_does_not_tell_its_size_is_read_whole_and_bounded(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, told = source(f"file://{folders}/pics"), os.fstat
    monkeypatch.setattr(os, "fstat", lambda handle: os.stat_result((*told(handle)[:6], 0, *told(handle)[7:])))
    assert await pictures.fetch(f"file://{folders}/pics/a.png") == DATA
    with pytest.raises(PictureTooLarge):
        await pictures.fetch(f"file://{folders}/pics/large.png")


# --- object storage ---------------------------------------------------------------------------------------------------


async def test_objects_under_the_root_are_read_with_the_limit() -> None:
    asked: list[tuple[str, int]] = []

    async def read_object(uri: str, max_bytes: int) -> bytes:
        asked.append((uri, max_bytes))
        return DATA

    pictures = source("s3://bucket/prefix", "gs://other", read_object=read_object)
    assert await pictures.fetch("s3://bucket/prefix/a b%20.png") == DATA
    assert await pictures.fetch("gs://other/x/y.png") == DATA
    assert asked == [("s3://bucket/prefix/a b%20.png", 1000), ("gs://other/x/y.png", 1000)]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/prefix-other/a.png",
        "s3://bucket/a.png",
        "s3://bucket-two/prefix/a.png",
        "gs://bucket/prefix/a.png",
        "s3://bucket/prefix/../a.png",
        "s3://bucket/prefix/%2E%2E/a.png",
        "s3://bucket//prefix/a.png",
    ],
)
async def test_objects_outside_the_root_are_refused(uri: str) -> None:
    with pytest.raises(UriNotAllowed):
        await source("s3://bucket/prefix/").fetch(uri)


async def test_an_object_that_takes_too_long_is_unavailable() -> None:
    async def read_object(uri: str, max_bytes: int) -> bytes:
        await asyncio.sleep(60)
        return DATA

    with pytest.raises(StorageUnavailable, match=r"0\.05 seconds"):
        await source("s3://bucket", read_object=read_object, timeout_s=0.05).fetch("s3://bucket/a.png")


# --- the web ----------------------------------------------------------------------------------------------------------


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/pics/a.png":
            self._answer(200, DATA, {"Content-Length": str(len(DATA))})
        elif path == "/pics/host":
            self._answer(200, self.headers["Host"].encode())
        elif path == "/pics/redirect":
            self._answer(302, b"", {"Location": query})
        elif path == "/pics/claims-much":
            self._answer(200, b"", {"Content-Length": "100000000"})
        elif path == "/pics/sends-much":
            self._answer(200, bytes(100_000))
        elif path == "/pics/slow":
            time.sleep(1)
            self._answer(200, DATA)
        elif path == "/pics/broken":
            self._answer(503, b"")
        elif path == "/pics/dies":
            self.close_connection = True
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that has read enough hangs up


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = QuietServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


async def leads_to_loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_a_picture_is_read_from_an_allowed_server(port: int) -> None:
    pictures = source(f"http://127.0.0.1:{port}/pics/")
    assert await pictures.fetch(f"http://127.0.0.1:{port}/pics/a.png") == DATA
    assert await pictures.fetch(f"http://127.0.0.1:{port}/pics/a.png?size=1#part") == DATA


async def test_the_server_is_asked_by_its_name(port: int) -> None:
    pictures = source(f"http://localhost:{port}/pics/", resolve=leads_to_loopback)
    assert await pictures.fetch(f"http://LocalHost:{port}/pics/host") == f"localhost:{port}".encode()


@pytest.mark.parametrize(
    "path", ["/other/a.png", "/pics-secret/a.png", "/pics/../a.png", "/pics/%2e%2e/a.png", "/pics%2f..%2fa.png"]
)
async def test_other_paths_of_the_server_are_refused(port: int, path: str) -> None:
    with pytest.raises(UriNotAllowed):
        await source(f"http://127.0.0.1:{port}/pics/").fetch(f"http://127.0.0.1:{port}{path}")


async def test_another_host_port_scheme_or_a_password_is_refused(port: int) -> None:
    pictures = source(f"http://127.0.0.1:{port}/pics/")
    for origin in ("http://127.0.0.1:1", "http://127.0.0.1", f"http://127.0.0.2:{port}", f"https://127.0.0.1:{port}"):
        with pytest.raises(UriNotAllowed):
            await pictures.fetch(f"{origin}/pics/a.png")
    for trick in (f"http://user:word@127.0.0.1:{port}/pics/a.png", f"http://127.0.0.1:{port}@evil.example/pics/a.png"):
        with pytest.raises(UriNotAllowed):
            await pictures.fetch(trick)


async def test_an_allowed_name_that_leads_to_a_private_address_is_refused(port: int) -> None:
    pictures = source(f"http://pictures.example.com:{port}/pics/", resolve=leads_to_loopback)
    with pytest.raises(UriNotAllowed):
        await pictures.fetch(f"http://pictures.example.com:{port}/pics/a.png")


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["93.184.216.34", "169.254.169.254"]

    with pytest.raises(UriNotAllowed):
        await source("http://pictures.example.com/", resolve=resolve).fetch("http://pictures.example.com/a.png")


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "::1",
        "fd00::1",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
def test_addresses_inside_are_not_public_in_any_clothes(ip: str) -> None:
    assert not is_public(ip)


def test_addresses_of_the_internet_are_public() -> None:
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")


async def test_redirects_are_followed_within_the_roots_only(port: int) -> None:
    base = f"http://127.0.0.1:{port}"
    pictures = source(f"{base}/pics/")
    assert await pictures.fetch(f"{base}/pics/redirect?/pics/a.png") == DATA
    for target in ("/other/a.png", "http://127.0.0.1:1/pics/a.png", "file:///etc/passwd", "https://[bad/"):
        with pytest.raises((UriNotAllowed, StorageUnavailable)):
            await pictures.fetch(f"{base}/pics/redirect?{target}")
    with pytest.raises(StorageUnavailable, match="more than 3 times"):
        await pictures.fetch(f"{base}/pics/redirect?/pics/redirect?/pics/redirect?/pics/redirect?/pics/redirect")


@pytest.mark.parametrize("page", ["claims-much", "sends-much"])
async def test_a_large_answer_is_refused_while_it_comes(port: int, page: str) -> None:
    with pytest.raises(PictureTooLarge):
        await source(f"http://127.0.0.1:{port}/").fetch(f"http://127.0.0.1:{port}/pics/{page}")


async def test_failures_of_the_server_are_told_apart(port: int) -> None:
    pictures = source(f"http://127.0.0.1:{port}/", timeout_s=0.3)
    with pytest.raises(PictureNotFound):
        await pictures.fetch(f"http://127.0.0.1:{port}/pics/none.png")
    for page in ("broken", "dies", "slow"):
        with pytest.raises(StorageUnavailable):
            await pictures.fetch(f"http://127.0.0.1:{port}/pics/{page}")
    with pytest.raises(StorageUnavailable):
        await source("http://127.0.0.1:9/").fetch("http://127.0.0.1:9/a.png")


async def test_a_name_without_an_address_is_unavailable() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("no such host")

    with pytest.raises(StorageUnavailable):
        await source("https://nowhere.example/", resolve=resolve).fetch("https://nowhere.example/a.png")
