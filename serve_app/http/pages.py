"""What a browser is shown: the search page, the reference, and their files. Knows the folder, not what is in it."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
PAGE_HEADERS = {
    # Everything the pages need comes from here; pictures may also lie at signed addresses of object storage.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes(contract: dict[str, Any]) -> list[BaseRoute]:
    """`/`, `/docs`, `/static/...` and `/openapi.json`."""

    async def search_page(request: Request) -> Response:  # noqa: ARG001
        return FileResponse(STATIC / "index.html", media_type="text/html", headers=PAGE_HEADERS)

    async def reference(request: Request) -> Response:  # noqa: ARG001
        return HTMLResponse((STATIC / "docs.html").read_text(encoding="utf-8"), headers=PAGE_HEADERS)

    async def openapi_json(request: Request) -> Response:  # noqa: ARG001
        return JSONResponse(contract)

    return [
        Route("/", search_page),
        Route("/docs", reference),
        Route("/openapi.json", openapi_json),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
