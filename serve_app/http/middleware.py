"""What every request passes through, as pure ASGI: its id, the bound of its body, its deadline, and the last net for errors.

Knows no route. From the outside in: RequestId, BodyLimit, Deadline, LastNet.
"""

import asyncio
import contextlib
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.errors import BodyTooLarge, DeadlineExceeded
from serve_app.http.error_table import error_response, log, request_id_of

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestId:
    """Takes a sane incoming `X-Request-ID` or makes one, and says it in the answer.

    `said_outside`: who calls this application says the incoming one already; twice, clients read "a, a".
    """

    def __init__(self, app: ASGIApp, *, said_outside: bool = False) -> None:
        self.app = app
        self.said_outside = said_outside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        state = {**scope.get("state", {}), "request_id": request_id}
        said = self.said_outside and request_id == given
        await self.app({**scope, "state": state}, receive, send if said else send_with_id)


class BodyLimit:
    """Refuses a body over the limit (413) at once by its Content-Length, or as soon as a chunked one grows over it.

    A client that is still sending reads no answer, and a connection closed on unread bytes is reset, answer and all. So whatever
    is left of a body when its answer is ready is read and thrown away, within bounds, before the answer ends.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, drain_s: float = 10.0) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.drain_s = drain_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _BoundedExchange(scope, receive, send, self.max_body_bytes, self.drain_s)
        if exchange.announced_bytes > self.max_body_bytes:
            await error_response(exchange.too_large(), scope)(scope, exchange.receive, exchange.send)
        else:
            await self.app(scope, exchange.receive, exchange.send)


class _BoundedExchange:
    """One request and its answer: counts what comes in, and drains what is left before the answer ends."""

    DRAIN_FACTOR = 8  # of the limit: more than that nobody sends by mistake

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int, drain_s: float) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        self.announced_bytes = int(length) if length.isascii() and length.isdigit() else 0
        self._receive, self._send = receive, send
        self._max_bytes, self._drain_s = max_bytes, drain_s
        self._received_bytes = 0
        self._body_read = self.announced_bytes == 0 and "transfer-encoding" not in headers
        # A client that asked "100-continue" has sent nothing until somebody reads; there is nothing to drain.
        self._waits_for_continue = headers.get("expect", "").lower() == "100-continue"

    def too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body of a request may have at most {self._max_bytes} bytes.")

    async def receive(self) -> Message:
        message = await self._next()
        if self._received_bytes > self._max_bytes:
            raise self.too_large()
        return message

    async def send(self, message: Message) -> None:
        if self._body_read:
            await self._send(message)
        elif message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
            await self._send(message)
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._send(message)

    async def _next(self) -> Message:
        self._waits_for_continue = False
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        self._body_read = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def _drain(self) -> None:
        if self._waits_for_continue:
            return
        # Too slow or too much: then closing early is all that is left, and the answer has been sent as well as it can be.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                while not self._body_read and self._received_bytes <= self._max_bytes * self.DRAIN_FACTOR:
                    await self._next()


class Deadline:
    """Answers 504 when the application has not begun its answer in time; the work is cancelled."""

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self.app = app
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = _StartedFlag(send)
        try:
            async with asyncio.timeout(self.timeout_s) as timeout:
                await self.app(scope, receive, started.send)
        except TimeoutError:
            if started.started or not timeout.expired():
                raise
            error = DeadlineExceeded(f"The request was not answered within {self.timeout_s:g} seconds.")
            await error_response(error, scope)(scope, receive, send)


class LastNet:
    """Whatever escapes the routes is logged with the request id and answered as `internal`, without a word of its insides."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = _StartedFlag(send)
        try:
            await self.app(scope, receive, started.send)
        except ClientDisconnect:
            log.info("request %s: the client left before its body was complete", request_id_of(scope))
        except Exception as error:
            if started.started:
                raise  # half an answer is out; the server closes the connection
            await error_response(error, scope)(scope, receive, send)


class _StartedFlag:
    """A `send` that remembers whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send

    async def send(self, message: Message) -> None:
        self.started = True
        await self._send(message)
