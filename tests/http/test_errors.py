import logging
import re

import httpx
import pytest
from starlette.types import ASGIApp

from serve_app.errors import CrossmodalError, InternalError, InvalidConfig, Overloaded, every_error
from serve_app.http.error_table import GENERIC, STATUS, error_of_failure, status_of
from serve_app.types import ItemFailure, SearchAnswer, SearchRequest
from tests.http.conftest import app_of, client_of, error_of
from tests.unit.services.conftest import System

STATUSES = {
    "error": 500,
    "internal": 500,
    "invalid_config": 500,
    "body_too_large": 413,
    "invalid_range": 416,
    "not_found": 404,
    "document_not_found": 404,
    "model_not_found": 404,
    "picture_not_found": 404,
    "route_not_found": 404,
    "table_not_found": 404,
    "snapshot_not_found": 404,
    "source_not_found": 404,
    "job_not_found": 404,
    "job_failed": 500,
    "conflict": 409,
    "snapshot_exists": 409,
    "table_conflict": 409,
    "destination_conflict": 409,
    "method_not_allowed": 405,
    "unavailable": 503,
    "overloaded": 503,
    "not_ready": 503,
    "stale_table": 503,
    "storage_unavailable": 503,
    "cluster_unavailable": 503,
    "fingerprint_mismatch": 503,
    "model_unavailable": 503,
    "deadline_exceeded": 504,
}
SEARCH = {"query": {"text": "red boat"}}


def failing(monkeypatch: pytest.MonkeyPatch, system: System, error: Exception) -> None:
    async def search(request: SearchRequest) -> SearchAnswer:
        raise error

    monkeypatch.setattr(system.search, "search", search)


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_every_error_has_its_status(error: type[CrossmodalError]) -> None:
    assert status_of(error) == STATUSES.get(error.code, 422)
    assert any(ancestor in STATUS for ancestor in error.__mro__)


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
async def test_every_error_of_a_service_reaches_the_client_in_one_form(
    client: httpx.AsyncClient, system: System, monkeypatch: pytest.MonkeyPatch, error: type[CrossmodalError]
) -> None:
    failing(monkeypatch, system, error("the sentence"))
    answer = await client.post("/v1/search", json=SEARCH)
    own_fault = status_of(error) == 500
    expected = (500, "internal", GENERIC) if own_fault else (status_of(error), error.code, "the sentence")
    assert error_of(answer) == expected
    assert answer.headers["cache-control"] == "no-store"


async def test_what_may_be_repeated_says_when(
    client: httpx.AsyncClient, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, system, Overloaded("the queue is full"))
    assert (await client.post("/v1/search", json=SEARCH)).headers["retry-after"] == "1"


@pytest.mark.parametrize("error", [RuntimeError("secret /srv/key"), InternalError("secret"), InvalidConfig("secret")])
async def test_what_is_our_own_fault_is_logged_with_the_request_id_and_says_nothing_of_its_insides(
    client: httpx.AsyncClient,
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    failing(monkeypatch, system, error)
    with caplog.at_level(logging.ERROR, logger="crossmodal.http"):
        answer = await client.post("/v1/search", json=SEARCH, headers={"X-Request-ID": "abc-1"})
    assert error_of(answer) == (500, "internal", GENERIC)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "abc-1" in caplog.text
    assert "secret" in caplog.text


def test_a_failed_item_that_is_our_own_fault_says_nothing_of_its_insides() -> None:
    assert error_of_failure(ItemFailure("internal", "secret")).message == GENERIC
    assert error_of_failure(ItemFailure("no such code", "secret")).message == GENERIC
    assert error_of_failure(ItemFailure("not_a_picture", "it is a poem")).message == "it is a poem"


@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1", "/v1/documents/", "/v1/search/", "/static/nothing.js", "/static/../app.py", "/%00"]
)
async def test_an_address_where_nothing_is_answers_in_the_same_form(client: httpx.AsyncClient, path: str) -> None:
    assert error_of(await client.get(path))[:2] == (404, "route_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/search", "POST"),
        ("PUT", "/v1/documents", "GET, HEAD, POST"),
        ("POST", "/v1/documents/a", "DELETE, GET, HEAD"),
        ("DELETE", "/v1/documents/a/thumbnail", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
    ],
)
async def test_a_method_that_an_address_does_not_take_names_those_it_takes(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    status, code, message = error_of(answer)
    assert (status, code) == (405, "method_not_allowed")
    assert allowed in message
    assert ", ".join(sorted(answer.headers["allow"].split(", "))) == allowed


@pytest.mark.parametrize("given", ["abc-1", "a" * 128, "0af7651916cd43dd8448eb211c80319c"])
async def test_a_sane_request_id_is_kept(client: httpx.AsyncClient, given: str) -> None:
    assert (await client.get("/healthz", headers={"X-Request-ID": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "<script>", "a\tb"])
async def test_any_other_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    made = (await client.get("/healthz", headers={"X-Request-ID": given})).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


async def test_an_id_that_is_said_outside_is_not_said_twice(system: System) -> None:
    async with client_of(app_of(system, request_id_said_outside=True)) as client:
        kept = await client.get("/nowhere", headers={"X-Request-ID": "abc-1"})
        replaced = await client.get("/nowhere", headers={"X-Request-ID": "<script>"})
    assert "x-request-id" not in kept.headers
    assert kept.json()["error"]["request_id"] == "abc-1"
    assert replaced.json()["error"]["request_id"] == replaced.headers["x-request-id"]


async def test_two_requests_have_two_ids(app: ASGIApp) -> None:
    async with client_of(app) as client:
        first, second = [(await client.get("/healthz")).headers["x-request-id"] for _ in range(2)]
    assert first != second
