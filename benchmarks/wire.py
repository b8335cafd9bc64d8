"""The requests that are sent, as bytes, and what their answers have to look like: OpenAI's embeddings, and our searches."""

import base64
import itertools
import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load import check_embedding, check_search, http_request, json_request

BOUNDARY = "benchmark-part"


@dataclass(frozen=True, slots=True)
class Question:
    """A kind of request: endless bytes, and the check of an answer."""

    name: str
    requests: Iterator[bytes]
    check: Callable[[Any], None]


def picture_embeddings(url: str, path: str, model: str, files: Sequence[bytes], dimension: int) -> Question:
    """One picture a request as a data URI, in the form that infinity takes too. The bytes are built beforehand."""
    built = [
        json_request(url, path, {"model": model, "modality": "image", "input": [data_uri(file)]}) for file in files
    ]
    return Question(f"picture {path}", itertools.cycle(built), check_embedding(dimension))


def text_embeddings(url: str, path: str, model: str, texts: Iterator[str], dimension: int) -> Question:
    """One text a request."""
    requests = (json_request(url, path, {"model": model, "input": [text]}) for text in texts)
    return Question(f"text {path}", requests, check_embedding(dimension))


def picture_searches(url: str, files: Sequence[bytes]) -> Question:
    """One picture a request, as a form."""
    built = [_form(url, file) for file in files]
    return Question("picture /v1/search", itertools.cycle(built), check_search)


def text_searches(url: str, texts: Iterator[str]) -> Question:
    """One text a request."""
    requests = (json_request(url, "/v1/search", {"query": {"text": text}}) for text in texts)
    return Question("text /v1/search", requests, check_search)


def product_questions(url: str, files: Sequence[bytes], texts: Iterator[str]) -> tuple[list[Question], list[Question]]:
    """What the service is asked about pictures, and about texts."""
    dimension, model = encoder_of(url)["dimension"], encoder_of(url)["id"]
    pictures, words = [picture_searches(url, files)], [text_searches(url, texts)]
    if "/v1/embeddings" in get_json(url, "/openapi.json")["paths"]:
        pictures.insert(0, picture_embeddings(url, "/v1/embeddings", model, files, dimension))
        words.append(text_embeddings(url, "/v1/embeddings", model, texts, dimension))
    return pictures, words


def encoder_of(url: str) -> dict[str, Any]:
    """What GET /v1/models says of the encoder: dimension, precision, device and more."""
    described: dict[str, Any] = get_json(url, "/v1/models")["data"][0]
    return described


def get_json(url: str, path: str) -> Any:
    """The parsed answer of a GET."""
    with urllib.request.urlopen(url + path, timeout=60) as answer:
        return json.load(answer)


def data_uri(file: bytes) -> str:
    """A JPEG as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(file).decode()


def _form(url: str, file: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
    body = head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + file + f"\r\n--{BOUNDARY}--\r\n".encode()
    return http_request(url, "POST", "/v1/search", body, f"multipart/form-data; boundary={BOUNDARY}")
