import re
from typing import Any

import httpx
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Route

from tests.http.conftest import LIMITS

CODES = {"200", "206", "304", "307", "404", "405", "409", "413", "416", "422", "500", "503", "504"}


@pytest.fixture
async def contract(client: httpx.AsyncClient) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get("/openapi.json")).json()
    return body


def operations_of(contract: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path, method.upper()): operation
        for path, methods in contract["paths"].items()
        for method, operation in methods.items()
    }


async def test_the_contract_is_valid_openapi(contract: dict[str, Any]) -> None:
    assert contract["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(contract).iter_errors()) == []


async def test_every_route_stands_in_the_contract_and_the_contract_has_no_other(
    app: Starlette, contract: dict[str, Any]
) -> None:
    assert all(isinstance(route, Route) for route in app.routes)
    routes = {
        (re.sub(r":\w+}", "}", route.path), method)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes == set(operations_of(contract))
    assert ("/v1/documents/{document_id}/thumbnail", "GET") in routes


async def test_every_operation_names_its_errors_in_the_one_form(contract: dict[str, Any]) -> None:
    for operation in operations_of(contract).values():
        assert {"500", "504"} <= set(operation["responses"]) <= CODES
        for status, answer in operation["responses"].items():
            assert "X-Request-ID" in answer["headers"]
            if status >= "400":
                assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorOut"}
    found = operations_of(contract)["/v1/search", "POST"]["responses"]
    assert "`invalid_vector`" in found["422"]["description"]
    assert "`overloaded`" in found["503"]["description"]
    assert "`body_too_large`" in found["413"]["description"]


async def test_ids_of_operations_are_unique(contract: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations_of(contract).values()]
    assert len(set(ids)) == len(ids)


async def test_the_limits_of_the_service_stand_in_the_contract(contract: dict[str, Any]) -> None:
    schemas = contract["components"]["schemas"]
    assert schemas["SearchIn"]["properties"]["limit"]["maximum"] == LIMITS.max_limit
    assert schemas["DocumentsIn"]["properties"]["documents"]["maxItems"] == LIMITS.max_documents
    sizes = operations_of(contract)["/v1/documents/{document_id}/thumbnail", "GET"]["parameters"]
    assert LIMITS.max_thumbnail_px in [each["schema"].get("maximum") for each in sizes]


async def test_forms_stand_in_the_contract(contract: dict[str, Any]) -> None:
    forms = {
        path: operations_of(contract)[path, "POST"]["requestBody"]["content"]["multipart/form-data"]
        for path in ("/v1/search", "/v1/documents")
    }
    assert set(forms["/v1/search"]["schema"]["properties"]) == {"image", "request"}
    assert forms["/v1/search"]["schema"]["required"] == ["image"]
    assert set(forms["/v1/documents"]["schema"]["properties"]) == {"file", "documents"}
    assert forms["/v1/documents"]["encoding"] == {"documents": {"contentType": "application/json"}}


@pytest.mark.parametrize("path", ["/v1/table", "/v1/models", "/healthz", "/readyz"])
async def test_answers_are_as_the_contract_says(client: httpx.AsyncClient, contract: dict[str, Any], path: str) -> None:
    schema = operations_of(contract)[path, "GET"]["responses"]["200"]["content"]["application/json"]["schema"]
    answer = (await client.get(path)).json()
    jsonschema.Draft202012Validator({**schema, "components": contract["components"]}).validate(answer)


async def test_a_search_and_its_answer_are_as_the_contract_says(
    client: httpx.AsyncClient, contract: dict[str, Any]
) -> None:
    await client.post(
        "/v1/documents", json={"documents": [{"text": "a cat"}, {"image": {"base64": "cGljdHVyZTogY2F0"}}]}
    )
    operation = operations_of(contract)["/v1/search", "POST"]
    asked = {"query": {"text": "cat"}, "limit": 5, "modalities": ["text", "image"], "ranking": "calibrated"}
    answer = (await client.post("/v1/search", json=asked)).json()
    assert len(answer["results"]) == 2
    for schema, value in (
        (operation["requestBody"]["content"]["application/json"]["schema"], asked),
        (operation["responses"]["200"]["content"]["application/json"]["schema"], answer),
    ):
        jsonschema.Draft202012Validator({**schema, "components": contract["components"]}).validate(value)


BOAT = "cGljdHVyZTogYm9hdA=="
ENCODER_CALLS = [
    ("/v1/embeddings", {"input": "a cat"}),
    ("/v1/embeddings", {"input": ["a cat", {"text": "a boat"}, {"image": {"base64": BOAT}}], "model": "fake"}),
    ("/v1/embeddings", {"input": ["a cat", " "], "on_error": "report", "encoding_format": "base64"}),
    ("/v1/embeddings", {"messages": [{"role": "user", "content": "a cat"}]}),
    ("/v1/embeddings", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a cat"}]}]}),
    ("/v1/classify", {"images": [{"base64": BOAT}, {"base64": "@"}], "labels": ["cat", "boat"], "limit": 1}),
]


@pytest.mark.parametrize(("path", "asked"), ENCODER_CALLS)
async def test_calls_of_the_encoder_and_their_answers_are_as_the_contract_says(
    client: httpx.AsyncClient, contract: dict[str, Any], path: str, asked: dict[str, Any]
) -> None:
    operation = operations_of(contract)[path, "POST"]
    answer = await client.post(path, json=asked)
    assert answer.status_code == 200, answer.text
    for schema, value in (
        (operation["requestBody"]["content"]["application/json"]["schema"], asked),
        (operation["responses"]["200"]["content"]["application/json"]["schema"], answer.json()),
    ):
        jsonschema.Draft202012Validator({**schema, "components": contract["components"]}).validate(value)


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js", "/static/page.css", "/static/icon.svg"])
async def test_pages_load_nothing_from_elsewhere_and_run_no_script_but_their_own(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    own = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in own
    assert "https://" not in own
    assert "innerHTML" not in own
    again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
