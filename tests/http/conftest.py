"""The whole HTTP border in process, over the real services and the fakes of the parts beyond them."""

from collections.abc import AsyncIterator

import httpx
import pyarrow as pa
import pytest
from starlette.types import ASGIApp

from serve_app.http.app import HttpLimits, create_app
from tests.unit.services.conftest import System, make_system

# Where pandas is installed, pyarrow imports it with the first value: a second that no request is to pay for.
pa.array(["warm"])

LIMITS = HttpLimits(
    max_body_bytes=100_000,
    max_documents=4,
    max_limit=20,
    max_embeddings=12,
    max_embedded_pictures=3,
    max_thumbnail_px=512,
    max_picture_bytes=1_000,
    request_timeout_s=0.5,
)


def client_of(app: ASGIApp, root_path: str = "") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, root_path=root_path), base_url="http://test")


def app_of(system: System, limits: HttpLimits = LIMITS, *, request_id_said_outside: bool = False) -> ASGIApp:
    return create_app(
        system.search,
        system.documents,
        system.embeddings,
        system.classify,
        system.status,
        system.keeping,
        system.jobs,
        limits,
        request_id_said_outside=request_id_said_outside,
    )


@pytest.fixture
def system() -> System:
    return make_system()


@pytest.fixture
def app(system: System) -> ASGIApp:
    return app_of(system)


@pytest.fixture
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of an error answer, whose form is checked on the way."""
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message", "request_id"]
    assert body["error"]["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, body["error"]["code"], body["error"]["message"]
