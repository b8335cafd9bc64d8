"""The load generator, against a small server of asyncio."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.load import (
    Connection,
    WrongAnswer,
    check_embedding,
    check_search,
    closed_loop,
    http_request,
    json_request,
    open_loop,
)

Answering = Callable[[bytes], bytes]


def answer(body: bytes = b"{}", status: int = 200, head: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), head) + body


@asynccontextmanager
async def serving(answering: Answering) -> AsyncIterator[str]:
    """A server that reads whole requests and answers them; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                writer.write(answering(await reader.readexactly(length)))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_closed_loop_counts_good_answers_and_their_latencies():
    async with serving(lambda _: answer()) as url:
        load = await closed_loop(url, ask(url), connections=4, seconds=0.2, warm_up_s=0.02)
    assert load.rate_per_s == len(load.latencies_s) / 0.2
    assert load.statuses[200] == len(load.latencies_s) > 0
    assert load.figures()["not_200"] == "none"


async def test_a_closed_loop_never_has_more_requests_under_way_than_connections():
    bodies = []
    async with serving(lambda body: bodies.append(body) or answer()) as url:
        await closed_loop(url, ask(url), connections=1, seconds=0.05, warm_up_s=0)
    assert [json.loads(body)["n"] for body in bodies] == list(range(len(bodies)))


async def test_refusals_are_counted_by_themselves_and_are_no_throughput():
    async with serving(lambda body: answer(status=503 if json.loads(body)["n"] % 2 else 200)) as url:
        load = await closed_loop(url, ask(url), connections=1, seconds=0.1, warm_up_s=0)
    assert len(load.refusal_latencies_s) == load.statuses[503] > 0
    assert load.rate_per_s == load.statuses[200] / 0.1
    assert load.figures()["not_200"] == f"{load.statuses[503]}x 503"


async def test_an_open_loop_offers_its_rate_however_slow_the_service_is():
    async with serving(lambda _: answer()) as url:
        load = await open_loop(url, ask(url), rate_per_s=500, seconds=0.4, warm_up_s=0.05)
    assert 100 < load.statuses.total() < 300


async def test_throughput_counts_what_was_answered_in_the_time_whenever_it_was_asked():
    """A server of 20 answers a second, offered 100: the backlog of the warm-up is answered first, and is throughput too."""
    turn = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        async with turn:
            await asyncio.sleep(0.05)
        writer.write(answer(head=b"Connection: close\r\n"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    load = await open_loop(url, ask(url), rate_per_s=100, seconds=0.3, warm_up_s=0.1)
    server.close()
    assert load.good_answers <= 7, "at most one each 50 ms"
    assert load.statuses[200] > load.good_answers
    assert load.rate_per_s == load.good_answers / 0.3


async def test_a_wrong_answer_ends_the_measurement():
    async with serving(lambda _: answer(b'{"data": [{"embedding": [1.0, 0.0]}]}')) as url:
        with pytest.raises(WrongAnswer, match="a unit vector of 3 numbers, got 2"):
            await closed_loop(url, ask(url), connections=1, seconds=1, warm_up_s=0, check=check_embedding(3))


async def test_chunked_answers_are_read_whole():
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x=y\r\n": 1\r\n1\r\n}\r\n0\r\n\r\n'
    async with serving(lambda _: chunked) as url:
        connection = Connection(url)
        assert await connection.exchange(next(ask(url))) == (200, b'{"a": 1}')
        assert await connection.exchange(next(ask(url))) == (200, b'{"a": 1}')
        connection.close()


async def test_a_connection_that_the_server_closes_is_opened_again():
    async with serving(lambda _: answer(head=b"Connection: close\r\n")) as url:
        connection = Connection(url)
        statuses = [(await connection.exchange(next(ask(url))))[0] for _ in range(3)]
        connection.close()
    assert statuses == [200, 200, 200]


async def test_a_service_that_is_not_there_is_status_0():
    async with serving(lambda _: answer()) as url:
        pass
    assert await Connection(url).exchange(next(ask(url))) == (0, b"")


def test_a_request_says_how_long_it_is():
    assert http_request("http://host:1", "GET", "/healthz") == (
        b"GET /healthz HTTP/1.1\r\nHost: host:1\r\nContent-Length: 0\r\n\r\n"
    )


def test_vectors_have_to_be_finite_and_of_unit_length():
    check_embedding(2)({"data": [{"embedding": [0.6, 0.8]}]})
    for wrong in ([0.6, 0.9], [float("nan"), 1.0], [1.0]):
        with pytest.raises(WrongAnswer):
            check_embedding(2)({"data": [{"embedding": wrong}]})


def test_a_search_has_to_have_results():
    check_search({"results": []})
    with pytest.raises(WrongAnswer):
        check_search({"error": {}})


def ask(url: str):
    """Endless numbered requests."""
    numbers = itertools.count()
    return (json_request(url, "/", {"n": number}) for number in numbers)
