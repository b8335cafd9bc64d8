"""What a browser is shown: the search page, the reference, and their files, read once. Knows the folder, not what is in it."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import RouteNotFound
from serve_app.http.operations import Answer, Operation, Parameter

PAGE_HEADERS = {
    # Everything the pages need comes from here; pictures and videos may also lie at signed addresses of object storage.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: https:; media-src 'self' https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def _files() -> dict[str, _File]:
    """The files of the folder by name; what is not among them does not exist, so no path can lead out of it."""
    folder = files("serve_app.http") / "static"
    known = [each for each in folder.iterdir() if each.name.rpartition(".")[2] in MEDIA_TYPES]
    return {each.name: _file(each.name, each.read_bytes()) for each in known}


def _file(name: str, content: bytes) -> _File:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _File(content, MEDIA_TYPES[name.rpartition(".")[2]], etag)


class PageRoutes:
    """Handlers over the files of the pages."""

    def __init__(self) -> None:
        self._files = _files()

    async def search_page(self, request: Request) -> Response:
        return self._show(request, "index.html")

    async def reference(self, request: Request) -> Response:
        return self._show(request, "docs.html")

    async def static(self, request: Request) -> Response:
        return self._show(request, request.path_params["name"])

    def _show(self, request: Request, name: str) -> Response:
        if name not in self._files:
            raise RouteNotFound("There is no such file.")
        file = self._files[name]
        headers = {**PAGE_HEADERS, "ETag": file.etag}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)


def page_operations() -> list[Operation]:
    """`/`, `/docs` and `/static/...`."""
    routes = PageRoutes()
    html = Answer("The page.", media_types=("text/html",))
    known = Answer("The file is that of the ETag in If-None-Match.")
    return [
        Operation("GET", "/", routes.search_page, "pages", "The search page", {200: html, 304: known}),
        Operation("GET", "/docs", routes.reference, "pages", "This contract, to read", {200: html, 304: known}),
        Operation(
            "GET",
            "/static/{name}",
            routes.static,
            "pages",
            "A file of the pages",
            {200: Answer("The file.", media_types=tuple(MEDIA_TYPES.values())), 304: known},
            errors=(RouteNotFound,),
            parameters=(Parameter("name", "path", "The file's name."),),
        ),
    ]
