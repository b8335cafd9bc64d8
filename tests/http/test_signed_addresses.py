"""`include: url`: results and documents with addresses of pictures that a browser can fetch."""

import base64

import httpx

from tests.fakes.parts import picture_of
from tests.http.conftest import error_of


async def store(client: httpx.AsyncClient) -> None:
    picture = base64.b64encode(picture_of("red boat").data).decode()
    documents = [{"id": "picture", "image": {"base64": picture}}, {"id": "text", "text": "a red boat"}]
    assert (await client.post("/v1/documents", json={"documents": documents})).status_code == 200


async def test_results_have_signed_addresses_where_they_are_asked_for(client: httpx.AsyncClient) -> None:
    await store(client)
    search = {"query": {"text": "red boat"}}
    plain = (await client.post("/v1/search", json=search)).json()["results"]
    assert {each["url"] for each in plain} == {None}
    results = (await client.post("/v1/search", json={**search, "include": ["url"]})).json()["results"]
    urls = {each["id"]: each["url"] for each in results}
    assert urls["text"] is None
    assert urls["picture"].startswith("https://signed.test/")


async def test_a_document_has_a_signed_address_where_it_is_asked_for(client: httpx.AsyncClient) -> None:
    await store(client)
    assert (await client.get("/v1/documents/picture")).json()["url"] is None
    assert (await client.get("/v1/documents/picture?include=url")).json()["url"].startswith("https://signed.test/")
    assert (await client.get("/v1/documents/text?include=url")).json()["url"] is None


async def test_what_cannot_be_included_is_said(client: httpx.AsyncClient) -> None:
    await store(client)
    assert error_of(await client.get("/v1/documents/picture?include=everything"))[:2] == (422, "invalid_request")
    answer = await client.post("/v1/search", json={"query": {"text": "boat"}, "include": ["everything"]})
    assert error_of(answer)[:2] == (422, "invalid_request")
