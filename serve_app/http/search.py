"""The operations of searching. Parses, asks the service, renders; knows no ranking."""

import time
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import (
    BodyTooLarge,
    CrossmodalError,
    DocumentNotFound,
    FingerprintMismatch,
    InvalidRequest,
    PictureNotFound,
    SnapshotNotFound,
    Unavailable,
)
from serve_app.http.answers import Addresses, SearchesOut, SearchOut, json_of, search_out, searches_out
from serve_app.http.bodies import (
    file_parts,
    json_part,
    media_type_of,
    open_form,
    picture_of,
    read_json,
    require_json,
)
from serve_app.http.error_table import error_of_failure
from serve_app.http.limits import HttpLimits
from serve_app.http.operations import Answer, FormPart, Operation
from serve_app.http.search_wire import SearchModels
from serve_app.services.search import SearchService
from serve_app.types import ItemFailure, PictureQuery, SearchAnswer, SearchRequest

ERRORS = (
    InvalidRequest,
    BodyTooLarge,
    DocumentNotFound,
    PictureNotFound,
    SnapshotNotFound,
    FingerprintMismatch,
    Unavailable,
)


class SearchRoutes:
    """Handlers over one SearchService."""

    def __init__(self, search: SearchService, models: SearchModels, limits: HttpLimits) -> None:
        self._search = search
        self._models = models
        self._limits = limits

    async def search(self, request: Request) -> Response:
        """POST /v1/search."""
        began = time.perf_counter()
        if media_type_of(request) == "application/json":
            body = await read_json(request, self._models.search)
            asked = body.to_request(body.query.to_query(self._limits.max_picture_bytes))
        else:
            asked = await self._read_form(request)
        answer = await self._search.search(asked)
        addresses = Addresses(request.scope.get("root_path", ""))
        return json_of(search_out(answer, addresses, (time.perf_counter() - began) * 1e3))

    async def search_batch(self, request: Request) -> Response:
        """POST /v1/search:batch. Each search has its own answer or error."""
        began = time.perf_counter()
        require_json(request)
        body = await read_json(request, self._models.batch)
        asked = [each.parsed(self._limits.max_picture_bytes) for each in body.searches]
        answers = await self._answers(asked)
        addresses = Addresses(request.scope.get("root_path", ""))
        return json_of(searches_out(answers, addresses, (time.perf_counter() - began) * 1e3))

    async def _answers(self, asked: Sequence[SearchRequest | CrossmodalError]) -> list[SearchAnswer | CrossmodalError]:
        whole = [each for each in asked if isinstance(each, SearchRequest)]
        found = iter(await self._search.search_many(whole) if whole else [])
        answers = [each if isinstance(each, CrossmodalError) else next(found) for each in asked]
        return [error_of_failure(each) if isinstance(each, ItemFailure) else each for each in answers]

    async def _read_form(self, request: Request) -> SearchRequest:
        async with open_form(request, max_files=1, max_field_bytes=self._limits.max_body_bytes) as form:
            options = json_part(form, "request", self._models.options) or self._models.options()
            files = file_parts(form)
            if [name for name, _ in files] != ["image"]:
                raise InvalidRequest("The form needs exactly one file, called `image`.")
            return options.to_request(PictureQuery(await picture_of(files[0][1], self._limits.max_picture_bytes)))


def search_operations(search: SearchService, limits: HttpLimits) -> list[Operation]:
    """The operations of searching, for routes and openapi.json."""
    models = SearchModels(limits)
    routes = SearchRoutes(search, models, limits)
    return [
        Operation(
            "POST",
            "/v1/search",
            routes.search,
            "search",
            "Search texts and pictures by words, a picture, a document, a vector, or several of them",
            {200: Answer("What was found, best first.", SearchOut)},
            errors=ERRORS,
            body=models.search,
            form=(
                FormPart("image", "The picture file to search by.", required=True),
                FormPart("request", "The other fields of a search.", models.options),
            ),
        ),
        Operation(
            "POST",
            "/v1/search:batch",
            routes.search_batch,
            "search",
            "Several searches in one round trip",
            {200: Answer("An answer or an error for each search, in order.", SearchesOut)},
            errors=ERRORS,
            body=models.batch,
        ),
    ]
