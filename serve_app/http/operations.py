"""What an operation of the HTTP contract is, and how operations become routes. Knows no operation and no service.

The routes and openapi.json are both made from the same list of operations, so that neither can know more than the other.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any
from urllib.parse import quote, unquote

from pydantic import BaseModel
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from serve_app.errors import CrossmodalError, DeadlineExceeded, InternalError

Handler = Callable[[Request], Awaitable[Response]]


class DocumentIdConvertor(Convertor[str]):
    """A document id as the last thing of a path. It may hold slashes; what ends in a sub-resource's name is that sub-resource."""

    regex = "(?!.*/(?:content|thumbnail)$).+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("document_id", DocumentIdConvertor())


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path, the query or a header; `schema` is JSON Schema."""

    name: str
    where: str  # "path" | "query" | "header"
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True)
class FormPart:
    """A part of a multipart body: a file, or JSON of a model."""

    name: str
    description: str
    json: type[BaseModel] | None = None  # None: a file
    repeated: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is not an error: JSON of a model, or another media type, or nothing."""

    description: str
    model: type[BaseModel] | None = None
    media_types: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `path` is Starlette's, with its convertors."""

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    errors: Sequence[type[CrossmodalError]] = ()
    parameters: Sequence[Parameter] = ()
    body: type[BaseModel] | None = None
    form: Sequence[FormPart] = ()

    @property
    def public_path(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r":\w+}", "}", self.path)

    @property
    def every_error(self) -> list[type[CrossmodalError]]:
        """The errors that this operation answers with, those of every operation among them."""
        return [*self.errors, DeadlineExceeded, InternalError]


class EncodedPathRoute(Route):
    """A route that splits the path before percent-decoding it, so that `%2F` inside a document id is not a separator."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        path = _encoded_path(scope.get("raw_path") or b"", scope["path"])
        match, child_scope = super().matches({**scope, "path": path})
        if match is not Match.NONE:
            parameters = {name: unquote(value) for name, value in child_scope["path_params"].items()}
            child_scope["path_params"] = parameters
        return match, child_scope


@lru_cache(maxsize=32)  # each route asks for it, of the same few requests
def _encoded_path(raw_path: bytes, path: str) -> str:
    raw = raw_path.decode("latin-1").partition("?")[0]
    # raw_path is optional in ASGI, and a middleware that rewrites `path` may leave it behind.
    return raw if unquote(raw) == path else quote(path)


def routes_of(operations: Iterable[Operation]) -> list[Route]:
    """One route for each path, in the order of the operations; the methods of a path must stand side by side."""
    return [_route(path, list(group)) for path, group in groupby(operations, key=lambda operation: operation.path)]


def _route(path: str, operations: list[Operation]) -> Route:
    handlers = {operation.method: operation.handler for operation in operations}

    async def dispatch(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return EncodedPathRoute(path, dispatch, methods=list(handlers), name=path)
