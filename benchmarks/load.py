"""A light load generator: raw HTTP/1.1 with keep-alive over asyncio streams, requests built beforehand.

It shares the machine's cores with the service it measures, so it does as little as can be done: no parsing of bodies but for a
sample of the answers, no header objects. Closed loop: so many connections, each asks again as soon as it has its answer.
Open loop: requests start at given times whether or not earlier ones are answered, and latency counts from the time that was
due, so that a slow service cannot slow down its own measurement (Schroeder et al., "Open Versus Closed", NSDI 2006).
"""

import asyncio
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks.reporting import milliseconds

CHECK_ONE_IN = 20
TIMEOUT_S = 120.0
READ_LIMIT_BYTES = 2**20


class WrongAnswer(AssertionError):
    """The service answered with something else than what was asked for: its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request. `latency_s` ends with the last byte of the body."""

    status: int
    body: bytes
    latency_s: float


@dataclass(slots=True)
class Load:
    """The answers of one measurement. `seconds`: from the end of the warm-up to the end of the measurement.

    Throughput counts what was answered in that time, whenever it was asked: a backlog from the warm-up is work too. Latencies,
    statuses and checks are of what was asked in that time.
    """

    seconds: float
    good_answers: int = 0
    latencies_s: list[float] = field(default_factory=list)  # of answers with status 200
    refusal_latencies_s: list[float] = field(default_factory=list)  # of 503
    statuses: Counter[int] = field(default_factory=Counter)
    answers: list[Any] = field(default_factory=list)  # parsed bodies of the sample that was checked
    bodies_seen: int = 0

    @classmethod
    def joined(cls, loads: Sequence["Load"]) -> "Load":
        """What several measurements found, as if they were one."""
        found = cls(sum(each.seconds for each in loads))
        for each in loads:
            found.good_answers += each.good_answers
            found.latencies_s += each.latencies_s
            found.refusal_latencies_s += each.refusal_latencies_s
            found.statuses += each.statuses
            found.answers += each.answers
            found.bodies_seen += each.bodies_seen
        return found

    @property
    def rate_per_s(self) -> float:
        """Good answers a second."""
        return self.good_answers / self.seconds

    def figures(self) -> dict[str, Any]:
        """Rate of good answers, latencies, and how many answers were not 200."""
        failed = {str(status): count for status, count in sorted(self.statuses.items()) if status != 200}
        return {
            "requests_per_s": self.rate_per_s,
            **milliseconds(self.latencies_s),
            "not_200": ", ".join(f"{count}x {status}" for status, count in failed.items()) or "none",
        }

    def take(self, answer: Answer, check: Callable[[Any], None] | None) -> None:
        """Count an answer; of every so many good ones the body is parsed and checked. Raises WrongAnswer."""
        self.statuses[answer.status] += 1
        if answer.status == 503:
            self.refusal_latencies_s.append(answer.latency_s)
        if answer.status != 200:
            return
        self.latencies_s.append(answer.latency_s)
        if check is not None and self.bodies_seen % CHECK_ONE_IN == 0:
            parsed = json.loads(answer.body)
            check(parsed)
            self.answers.append(parsed)
        self.bodies_seen += 1


def http_request(url: str, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Length: {len(body)}\r\n"
    if body:
        head += f"Content-Type: {content_type}\r\n"
    return head.encode() + b"\r\n" + body


def json_request(url: str, path: str, content: Mapping[str, Any]) -> bytes:
    """The bytes of a POST of JSON."""
    return http_request(url, "POST", path, json.dumps(content).encode())


class Connection:
    """One keep-alive connection, opened when it is first used and again after the server closed it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Status 0: the connection was refused or broke, or the time ran out."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._exchange(request)
        except (OSError, EOFError, TimeoutError):
            self.close()
            return 0, b""

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=READ_LIMIT_BYTES)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await _read_body(reader, head)
        if b"\r\nconnection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The body after a lower-cased head: by its length, or in chunks. Without either there is none."""
    _, length_given, rest = head.partition(b"\r\ncontent-length:")
    if length_given:
        return await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    if b"\r\ntransfer-encoding: chunked" not in head:
        return b""
    chunks = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        chunks.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return b"".join(chunks)


async def closed_loop(
    url: str,
    requests: Iterator[bytes],
    *,
    connections: int,
    seconds: float,
    warm_up_s: float = 2.0,
    check: Callable[[Any], None] | None = None,
) -> Load:
    """Load by so many connections for so long, after a warm-up that does not count. Raises WrongAnswer."""
    load = Load(seconds)
    counts_from = time.perf_counter() + warm_up_s
    ends_at = counts_from + seconds

    async def ask_on_and_on() -> None:
        connection = Connection(url)
        try:
            while (began := time.perf_counter()) < ends_at:
                status, body = await connection.exchange(next(requests))
                done = time.perf_counter()
                # An answer counts where it came: work begun in the warm-up balances work that the end cuts off.
                if counts_from <= done < ends_at:
                    load.good_answers += status == 200
                    load.take(Answer(status, body, done - began), check)
                if status == 0:
                    await asyncio.sleep(0.05)  # A service that is not there is not to be hammered.
        finally:
            connection.close()

    await asyncio.gather(*(ask_on_and_on() for _ in range(connections)))
    return load


async def open_loop(
    url: str,
    requests: Iterator[bytes],
    *,
    rate_per_s: float,
    seconds: float,
    warm_up_s: float = 2.0,
    check: Callable[[Any], None] | None = None,
    seed: int = 0,
) -> Load:
    """Load by Poisson arrivals at a rate for so long, after a warm-up; the last answers are waited for. Raises WrongAnswer."""
    load = Load(seconds)
    chance = random.Random(seed)
    idle: list[Connection] = []
    began = time.perf_counter()
    counts_from = began + warm_up_s
    ends_at = counts_from + seconds

    async def ask(due: float) -> None:
        connection = idle.pop() if idle else Connection(url)
        status, body = await connection.exchange(next(requests))
        done = time.perf_counter()
        idle.append(connection)
        load.good_answers += status == 200 and counts_from <= done < ends_at
        if due >= counts_from:
            load.take(Answer(status, body, done - due), check)

    due = began
    try:
        async with asyncio.TaskGroup() as group:
            while (due := due + chance.expovariate(rate_per_s)) < ends_at:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(ask(due))
    finally:
        for connection in idle:
            connection.close()
    return load


def check_embedding(dimension: int) -> Callable[[Any], None]:
    """A check of an OpenAI-shaped answer: one finite vector of unit length and the right dimension."""

    def check(answer: Any) -> None:
        vector = answer["data"][0]["embedding"]
        norm = math.sqrt(sum(value * value for value in vector))
        if len(vector) != dimension or not abs(norm - 1) < 0.01:
            raise WrongAnswer(f"expected a unit vector of {dimension} numbers, got {len(vector)} of norm {norm}")

    return check


def check_search(answer: Any) -> None:
    """A check of a search's answer: it has a list of results."""
    if not isinstance(answer.get("results"), list):
        raise WrongAnswer(f"expected results, got {str(answer)[:200]}")
