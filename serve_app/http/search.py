"""The operation of searching. Parses, asks the service, renders; knows no ranking."""

import time

from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import (
    BodyTooLarge,
    DocumentNotFound,
    FingerprintMismatch,
    InvalidRequest,
    PictureNotFound,
    SnapshotNotFound,
    Unavailable,
)
from serve_app.http.answers import Addresses, SearchOut, json_of, search_out
from serve_app.http.bodies import file_parts, json_part, media_type_of, open_form, picture_of, read_json
from serve_app.http.limits import HttpLimits
from serve_app.http.operations import Answer, FormPart, Operation
from serve_app.http.wire import RequestModels
from serve_app.services.search import SearchService
from serve_app.types import PictureQuery, SearchRequest


class SearchRoutes:
    """Handlers over one SearchService."""

    def __init__(self, search: SearchService, models: RequestModels, limits: HttpLimits) -> None:
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

    async def _read_form(self, request: Request) -> SearchRequest:
        async with open_form(request, max_files=1, max_field_bytes=self._limits.max_body_bytes) as form:
            options = json_part(form, "request", self._models.search_options) or self._models.search_options()
            files = file_parts(form)
            if [name for name, _ in files] != ["image"]:
                raise InvalidRequest("The form needs exactly one file, called `image`.")
            return options.to_request(PictureQuery(await picture_of(files[0][1], self._limits.max_picture_bytes)))


def search_operations(search: SearchService, models: RequestModels, limits: HttpLimits) -> list[Operation]:
    """The operation of searching, for routes and openapi.json."""
    return [
        Operation(
            "POST",
            "/v1/search",
            SearchRoutes(search, models, limits).search,
            "search",
            "Search texts and pictures by words, a picture, a document or a vector",
            {200: Answer("What was found, best first.", SearchOut)},
            errors=(
                InvalidRequest,
                BodyTooLarge,
                DocumentNotFound,
                PictureNotFound,
                SnapshotNotFound,
                FingerprintMismatch,
                Unavailable,
            ),
            body=models.search,
            form=(
                FormPart("image", "The picture file to search by.", required=True),
                FormPart("request", "The other fields of a search.", models.search_options),
            ),
        )
    ]
