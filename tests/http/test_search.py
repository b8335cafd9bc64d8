import base64
import json

import httpx
import pytest

from tests.fakes.parts import DIMENSION
from tests.http.conftest import app_of, client_of, error_of
from tests.unit.services.conftest import System

BOAT = b"picture: red boat"
CAT = b"picture: blue cat"


@pytest.fixture
async def filled(client: httpx.AsyncClient) -> httpx.AsyncClient:
    documents = [
        {"id": "p/boat", "image": {"base64": base64.b64encode(BOAT).decode()}, "metadata": {"n": 1}},
        {"id": "p/cat", "image": {"base64": base64.b64encode(CAT).decode()}},
        {"id": "t/boat", "text": "red boat"},
        {"id": "t/cat", "text": "blue cat"},
    ]
    assert (await client.post("/v1/documents", json={"documents": documents})).status_code == 200
    return client


async def search(client: httpx.AsyncClient, query: dict[str, object], **options: object) -> httpx.Response:
    return await client.post("/v1/search", json={"query": query, **options})


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [result["id"] for result in answer.json()["results"]]


async def test_a_search_in_words_finds_both_texts_and_pictures(filled: httpx.AsyncClient) -> None:
    answer = await search(filled, {"text": "red boat"}, limit=2)
    assert set(ids(answer)) == {"p/boat", "t/boat"}
    body = answer.json()
    assert set(body) == {"results", "ranking", "calibration_version", "table_version", "truncated", "took_ms"}
    assert (body["ranking"], body["truncated"]) == ("calibrated", False)
    assert set(body["took_ms"]) == {"encode", "retrieve", "total"}
    assert body["table_version"] >= 1
    by_id = {result["id"]: result for result in body["results"]}
    assert by_id["t/boat"]["text"] == "red boat"
    assert by_id["t/boat"]["content_url"] is by_id["t/boat"]["thumbnail_url"] is None
    assert by_id["p/boat"]["metadata"] == {"n": 1}
    assert (await filled.get(by_id["p/boat"]["content_url"])).content == BOAT
    assert (await filled.get(by_id["p/boat"]["thumbnail_url"])).headers["content-type"] == "image/jpeg"


async def test_every_kind_of_query_finds_its_nearest(filled: httpx.AsyncClient) -> None:
    image = {"image": {"base64": base64.b64encode(b"picture: blue cat").decode()}}
    assert ids(await search(filled, image, modalities=["image"], limit=1)) == ["p/cat"]
    assert "p/cat" not in ids(await search(filled, {"document_id": "p/cat"}))
    assert ids(await search(filled, {"document_id": "p/cat"}, limit=1)) == ["t/cat"]
    vector = [0.0] * DIMENSION
    vector[0] = vector[3] = 2.0
    raw = {"vector": vector, "modality": "text"}
    assert ids(await search(filled, raw, modalities=["text", "text"], limit=1)) == ["t/boat"]


async def test_modalities_and_ranking_are_obeyed(filled: httpx.AsyncClient) -> None:
    answer = await search(filled, {"text": "red boat"}, modalities=["text"], ranking="cosine")
    assert {result["modality"] for result in answer.json()["results"]} == {"text"}
    assert answer.json()["ranking"] == "cosine"
    assert answer.json()["results"][0]["confidence"] is None


async def test_a_form_searches_with_a_picture(filled: httpx.AsyncClient) -> None:
    data = {"request": json.dumps({"modalities": ["image"], "limit": 1})}
    answer = await filled.post("/v1/search", data=data, files={"image": ("any.png", CAT)})
    assert ids(answer) == ["p/cat"]
    assert len(ids(await filled.post("/v1/search", files={"image": ("any.png", CAT)}))) == 4


@pytest.mark.parametrize(
    ("data", "files", "code", "says"),
    [
        ({}, {"picture": CAT}, "invalid_request", "called `image`"),
        ({"request": "{}"}, {}, "invalid_request", "multipart/form-data"),
        ({"request": '{"query": {"text": "a"}}'}, {"image": CAT}, "invalid_request", "request.query: there is no such"),
        ({"options": "{}"}, {"image": CAT}, "invalid_request", "options: there is no such part"),
        ({}, {"image": b"." * 2_000}, "picture_too_large", "at most 1000 bytes"),
        ({}, {"image": b"no picture"}, "not_a_picture", "not a picture"),
        ({}, {"image": CAT, "more": CAT}, "invalid_request", "Too many files"),
    ],
)
async def test_a_form_of_the_wrong_shape_is_refused(
    client: httpx.AsyncClient, data: dict[str, str], files: dict[str, bytes], code: str, says: str
) -> None:
    parts = {name: ("f", content) for name, content in files.items()}
    status, given, message = error_of(await client.post("/v1/search", data=data, files=parts))
    assert (status, given) == (422, code)
    assert says in message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_vector_of_numbers_that_are_none_is_an_invalid_vector(client: httpx.AsyncClient, number: str) -> None:
    body = f'{{"query": {{"vector": [1, {number}, 3], "modality": "text"}}}}'
    answer = await client.post("/v1/search", content=body, headers={"Content-Type": "application/json"})
    assert error_of(answer) == (422, "invalid_vector", "query.vector[1]: expected a finite number.")


@pytest.mark.parametrize("vector", [[1.0, 2.0], [], [0.0] * DIMENSION, ["a"] * 5_000, [1.0] * 16_385, "x" * 9_000])
async def test_a_vector_of_another_size_or_of_no_direction_is_an_invalid_vector(
    client: httpx.AsyncClient, vector: object
) -> None:
    status, code, message = error_of(await search(client, {"vector": vector, "modality": "text"}))
    assert (status, code) == (422, "invalid_vector")
    assert len(message) < 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "query: this field is required"),
        ({"query": {}}, "query: expected an object with exactly one of text, image, document_id or vector"),
        ({"query": {"text": "a", "document_id": "b"}}, "exactly one of"),
        ({"query": "red boat"}, "exactly one of"),
        ({"query": {"text": 7}}, "query.text: expected a valid string"),
        ({"query": {"text": "a", "weight": 1}}, "query.weight: there is no such field"),
        ({"query": {"image": {"url": "x"}}}, "query.image: expected an object with exactly one of uri or base64"),
        ({"query": {"image": {"uri": ""}}}, "query.image.uri: "),
        ({"query": {"vector": [1.0]}}, "query.modality: this field is required"),
        ({"query": {"vector": [1.0], "modality": "smell"}}, "query.modality: expected 'text', 'image' or 'image_text'"),
        ({"query": {"text": "a"}, "limit": 0}, "limit: expected greater than or equal to 1"),
        ({"query": {"text": "a"}, "limit": 21}, "limit: expected less than or equal to 20"),
        ({"query": {"text": "a"}, "limit": "3"}, "limit: expected a valid integer"),
        ({"query": {"text": "a"}, "modalities": []}, "modalities: expected at least 1 items"),
        ({"query": {"text": "a"}, "modalities": ["video"]}, "modalities[0]: expected 'text'"),
        ({"query": {"text": "a"}, "ranking": "best"}, "ranking: expected 'calibrated' or 'cosine'"),
        ({"query": {"text": "a"}, "x" * 5_000: 1}, "x" * 64 + ": there is no such field"),
    ],
)
async def test_a_wrong_request_is_refused_by_the_name_of_the_field(
    client: httpx.AsyncClient, body: object, says: str
) -> None:
    status, code, message = error_of(await client.post("/v1/search", json=body))
    assert (status, code) == (422, "invalid_request")
    assert says in message
    assert len(message) < 250


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"text": ""}, 422, "empty_text"),
        ({"text": "x" * 201}, 422, "text_too_long"),
        ({"document_id": "nobody"}, 404, "document_not_found"),
        ({"image": {"uri": "memory://nowhere"}}, 404, "picture_not_found"),
        ({"image": {"base64": "@@"}}, 422, "invalid_picture"),
        ({"image": {"base64": base64.b64encode(b"no picture").decode()}}, 422, "not_a_picture"),
    ],
)
async def test_what_the_services_refuse_has_its_own_code(
    client: httpx.AsyncClient, query: dict[str, object], status: int, code: str
) -> None:
    assert error_of(await search(client, query))[:2] == (status, code)


async def test_addresses_of_pictures_stand_under_the_prefix_of_the_application(
    filled: httpx.AsyncClient, system: System
) -> None:
    async with client_of(app_of(system), root_path="/gallery") as mounted:
        answer = await mounted.post("/gallery/v1/search", json={"query": {"text": "red boat"}, "modalities": ["image"]})
        address = answer.json()["results"][0]["thumbnail_url"]
        assert address.startswith("/gallery/v1/documents/p%2F")
        assert (await mounted.get(address)).status_code == 200
