"""Bodies and deadlines, in process and over a real socket, where a client that still sends has to receive its answer."""

import asyncio
import json
import resource
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from serve_app.http.app import HttpLimits
from serve_app.http.middleware import BodyLimit
from serve_app.types import SearchAnswer, SearchRequest
from tests.http.conftest import LIMITS, app_of, client_of, error_of
from tests.http.serving import serving
from tests.unit.services.conftest import System, make_system

JSON = {"Content-Type": "application/json"}
TOO_LARGE = (413, "body_too_large", f"The body of a request may have at most {LIMITS.max_body_bytes} bytes.")


FORM_HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


async def pieces(count: int, size: int = 65_536, head: bytes = b"") -> AsyncIterator[bytes]:
    yield head
    for _ in range(count):
        yield b" " * size


def blocks(count: int, size: int = 65_536) -> Iterator[bytes]:
    yield from (b" " * size for _ in range(count))


@pytest.mark.parametrize("path", ["/v1/search", "/v1/documents", "/nowhere", "/healthz"])
async def test_a_body_over_the_limit_is_refused_by_its_announced_length(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=b" " * (LIMITS.max_body_bytes + 1), headers=JSON)
    assert error_of(answer) == TOO_LARGE


@pytest.mark.parametrize(
    ("media_type", "head"), [("application/json", b""), ("multipart/form-data; boundary=x", FORM_HEAD)]
)
async def test_a_body_of_unknown_length_is_refused_when_it_grows_over_the_limit(
    client: httpx.AsyncClient, media_type: str, head: bytes
) -> None:
    content = pieces(3, head=head)
    answer = await client.post("/v1/documents", content=content, headers={"Content-Type": media_type})
    assert error_of(answer) == TOO_LARGE


async def test_a_body_of_exactly_the_limit_is_read(client: httpx.AsyncClient) -> None:
    body = json.dumps({"query": {"text": "cat"}}).encode().ljust(LIMITS.max_body_bytes)
    assert (await client.post("/v1/search", content=body, headers=JSON)).status_code == 200


async def test_a_refused_body_is_never_held_in_memory() -> None:
    held: list[int] = []

    async def reader(scope: object, receive: object, send: object) -> None:
        assert callable(receive)
        while True:
            message = await receive()
            held.append(len(message["body"]))

    client = client_of(BodyLimit(reader, max_body_bytes=100_000))
    with pytest.raises(Exception, match="at most 100000 bytes"):
        await client.post("/", content=pieces(1_000))
    assert sum(held) <= 100_000


async def test_a_request_that_is_not_answered_in_time_is_cancelled_and_answers_504(
    client: httpx.AsyncClient, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = asyncio.Event()

    async def never(request: SearchRequest) -> SearchAnswer:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    monkeypatch.setattr(system.search, "search", never)
    answer = await client.post("/v1/search", json={"query": {"text": "cat"}})
    assert error_of(answer) == (504, "deadline_exceeded", "The request was not answered within 0.5 seconds.")
    assert cancelled.is_set()
    assert "retry-after" not in answer.headers


async def test_a_timeout_inside_a_service_is_not_taken_for_the_deadline(
    client: httpx.AsyncClient, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def impatient(request: SearchRequest) -> SearchAnswer:
        raise TimeoutError

    monkeypatch.setattr(system.search, "search", impatient)
    assert error_of(await client.post("/v1/search", json={"query": {"text": "cat"}}))[:2] == (500, "internal")


# --- over a real socket ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(app_of(make_system(), HttpLimits(max_body_bytes=1_000_000, request_timeout_s=5))) as address:
        yield address


@pytest.mark.parametrize("announced", [True, False])
def test_a_client_that_sends_a_hundred_megabytes_receives_its_answer(address: str, announced: bool) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size, count = 1_000_000, 100
    headers = {**JSON, **({"Content-Length": str(size * count)} if announced else {})}
    answer = httpx.post(f"{address}/v1/search", content=blocks(count, size), headers=headers, timeout=20)
    assert error_of(answer)[:2] == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 50_000


def test_a_client_that_waits_to_be_asked_is_told_before_it_sends(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
        )
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    assert received.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in received
    assert b"100 Continue" not in received


def test_a_body_that_nobody_reads_does_not_cost_its_sender_the_answer(address: str) -> None:
    answer = httpx.post(f"{address}/nowhere", content=blocks(10, 90_000), timeout=10)
    assert error_of(answer)[:2] == (404, "route_not_found")


def test_a_connection_is_kept_after_an_ordinary_request(address: str) -> None:
    with httpx.Client(base_url=address) as client:
        for _ in range(3):
            answer = client.post("/v1/search", json={"query": {"text": "cat"}})
            assert answer.status_code == 200
            assert "connection" not in answer.headers
