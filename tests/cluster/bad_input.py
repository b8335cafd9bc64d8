"""Requests that are wrong, each with the status and the code that it must be answered with. One list for test and table."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from PIL import Image

Send = Callable[[httpx.Client], httpx.Response]


@dataclass(frozen=True, slots=True)
class BadInput:
    """`code` None: it is taken, and the answer says `truncated`."""

    name: str
    send: Send
    status: int
    code: str | None


def upload(data: bytes) -> Send:
    return lambda client: client.post("/v1/documents", files={"file": ("it", data)})


def document(**fields: object) -> Send:
    return lambda client: client.post("/v1/documents", json={"documents": [fields]})


def search(query: object) -> Send:
    # By hand: httpx refuses NaN, a hostile client does not.
    body = json.dumps({"query": query})
    return lambda client: client.post("/v1/search", content=body, headers={"Content-Type": "application/json"})


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, and which holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 + 3 * min(width, 1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((256, 256), 80).convert("RGB").save(file, "JPEG")
    return file.getvalue()


BAD_INPUTS = [
    BadInput("not an image", upload(b"hello, this is no picture"), 422, "not_a_picture"),
    BadInput("a truncated JPEG", upload(jpeg()[:4000]), 422, "picture_truncated"),
    BadInput("a 60,000 x 60,000 PNG", upload(png(60_000, 60_000)), 422, "picture_too_large"),
    BadInput("a 30,000 x 2 PNG", upload(png(30_000, 2)), 422, "picture_too_elongated"),
    BadInput("a 40,000-letter word", document(text="a" * 40_000), 200, None),
    BadInput("10,000 words", document(text="boats " * 10_000), 200, None),
    BadInput("200,000 characters", document(text="a b " * 50_000), 422, "text_too_long"),
    BadInput("an empty text", document(text="  "), 422, "empty_text"),
    BadInput("an empty query", search({"text": ""}), 422, "empty_text"),
    BadInput(
        "a vector of the wrong dimension", search({"vector": [1.0, 2.0], "modality": "text"}), 422, "invalid_vector"
    ),
    BadInput("a vector with NaN", search({"vector": [float("nan")] * 192, "modality": "text"}), 422, "invalid_vector"),
    BadInput("a zero vector", search({"vector": [0.0] * 192, "modality": "text"}), 422, "invalid_vector"),
    BadInput("an unknown field", document(text="a boat", colour="red"), 422, "invalid_request"),
    BadInput("no document", document(), 422, "invalid_request"),
    BadInput("base64 that is none", document(image={"base64": "***"}), 422, "invalid_picture"),
    BadInput(
        "a body of 100 MB",
        lambda client: client.post("/v1/documents", content=bytes(100_000_000)),
        413,
        "body_too_large",
    ),
    BadInput("a file outside the allowed root", document(image={"uri": "file:///etc/passwd"}), 422, "uri_not_allowed"),
    BadInput(
        "a path out of the allowed root", document(image={"uri": "file:///tmp/../etc/passwd"}), 422, "uri_not_allowed"
    ),
    BadInput(
        "a document that is not there", lambda client: client.get("/v1/documents/nobody"), 404, "document_not_found"
    ),
    BadInput("an address that is not there", lambda client: client.get("/v2/search"), 404, "route_not_found"),
    BadInput("a method that is not there", lambda client: client.put("/v1/search"), 405, "method_not_allowed"),
]
