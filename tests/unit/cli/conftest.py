"""A small service that speaks the HTTP contract over a real socket, and a runner for the commands against it."""

import hashlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import Result
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from serve_app.cli import app


def error_body(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "request_id": "r-1"}}


class FakeService:
    """Stores documents in a dict; what does not begin like a PNG is not a picture; a search finds equal words."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, bytes] = {}
        self.searches: list[dict[str, Any]] = []
        self.deletions: list[dict[str, Any]] = []
        self.fields: dict[str, str] = {}
        self.not_ready: str | None = None
        routes = [
            Route("/readyz", self.readyz),
            Route("/v1/table", self.table),
            Route("/v1/models", self.models),
            Route("/v1/documents", self.add, methods=["POST"]),
            Route("/v1/documents:delete", self.delete, methods=["POST"]),
            Route("/v1/search", self.search, methods=["POST"]),
            Route("/v1/search:batch", self.search_batch, methods=["POST"]),
            Route("/v1/documents/{id}/thumbnail", self.thumbnail),
        ]
        self.asgi = Starlette(routes=routes)

    async def readyz(self, request: Request) -> Response:
        if self.not_ready:
            return JSONResponse(error_body("not_ready", self.not_ready), status_code=503)
        return JSONResponse({"status": "ready"})

    async def table(self, request: Request) -> Response:
        counts: dict[str, int] = {}
        for document in self.documents.values():
            counts[document["modality"]] = counts.get(document["modality"], 0) + 1
        facts = {"model": "demo (local)", "fingerprint": "f00d" * 16, "dimension": 8, "calibration_version": 2}
        return JSONResponse({"version": 7, "counts": counts, "fields": self.fields, **facts})

    async def models(self, request: Request) -> Response:
        return JSONResponse({"data": [{"id": "demo", "fingerprint": "f00d" * 16}]})

    async def add(self, request: Request) -> Response:
        async with request.form() as form:
            items = [await self._store(item, form) for item in json.loads(str(form["documents"]))]
        return JSONResponse({"items": items, "table_version": 7})

    async def _store(self, item: dict[str, Any], form: Any) -> dict[str, Any]:
        part = (item.get("image") or {}).get("part")
        picture = await form[part].read() if part else None
        text = item.get("text")
        if picture is not None and not picture.startswith(b"\x89PNG"):
            return error_body("not_a_picture", "The file is no picture that can be read.")
        if picture is None and not text and not item.get("image"):
            return error_body("empty_text", "The text is empty.")
        content = hashlib.sha256(picture or (text or str(item)).encode()).hexdigest()[:32]
        identity = item.get("id") or content
        status = "unchanged" if identity in self.documents else "stored"
        modality = "text" if "image" not in item else "image_text" if text else "image"
        uri = f"file:///pictures/{content}.png" if "image" in item else None
        metadata = item.get("metadata", {})
        self.documents[identity] = {"modality": modality, "text": text, "uri": uri, "metadata": metadata}
        if "fields" in item:
            self.documents[identity]["fields"] = item["fields"]
        if picture is not None:
            self.pictures[identity] = picture
        return {"id": identity, "status": status, "truncated": False}

    async def search(self, request: Request) -> Response:
        if request.headers["content-type"].startswith("multipart"):
            async with request.form() as form:
                upload: Any = form["image"]
                asked = {**json.loads(str(form["request"])), "picture_bytes": len(await upload.read())}
        else:
            asked = await request.json()
        self.searches.append(asked)
        found = [{"id": key, "score": 0.5, "confidence": 0.875, **each} for key, each in self.documents.items()]
        facts = {"ranking": "calibrated", "calibration_version": 2, "table_version": 7, "truncated": False}
        return JSONResponse({"results": found[: asked["limit"]], "took_ms": {"encode": 1.0}, **facts})

    async def delete(self, request: Request) -> Response:
        self.deletions.append(await request.json())
        return JSONResponse({"deleted": 2, "table_version": 8})

    async def search_batch(self, request: Request) -> Response:
        """Answers each text with the documents whose text begins with it, each less sure than the one before."""
        return JSONResponse({"answers": [self._found(each) for each in (await request.json())["searches"]]})

    def _found(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.searches.append(asked)
        words = asked["query"]["text"]
        if not words:
            return {"error": {"code": "empty_text", "message": "The text is empty."}}
        found = [(key, each) for key, each in self.documents.items() if (each["text"] or "").startswith(words)]
        results = [
            {"id": key, "modality": each["modality"], "score": 5.0 - at, "confidence": 0.99 - 0.3 * at}
            for at, (key, each) in enumerate(found)
        ]
        return {"results": results, "ranking": asked["ranking"], "table_version": 7}

    async def thumbnail(self, request: Request) -> Response:
        picture = self.pictures.get(request.path_params["id"])
        if picture is None:
            return JSONResponse(error_body("picture_not_found", "The picture is gone."), status_code=404)
        return Response(picture, media_type="image/png")


@pytest.fixture(scope="session")
def listening() -> Iterator[tuple[str, Callable[[FakeService], None]]]:
    """An address, and a way to say which service answers there: one server for the session, one service for each test."""
    current: list[FakeService] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await current[-1].asgi(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(answer, port=0, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", current.append
    server.should_exit = True
    thread.join()


@pytest.fixture
def service(listening: tuple[str, Callable[[FakeService], None]], monkeypatch: pytest.MonkeyPatch) -> FakeService:
    url, answer_with = listening
    fake = FakeService()
    answer_with(fake)
    monkeypatch.setenv("CROSSMODAL_URL", url)
    return fake


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in a terminal wide enough for its tables."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a small PNG of one colour at a path below the test's folder."""

    def write(name: str, colour: str = "red") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.new("RGB", (40, 30), colour).save(buffer, "PNG")
        path.write_bytes(buffer.getvalue())
        return path

    return write
