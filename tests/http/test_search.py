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
        ({"query": {}}, "query: expected an object with exactly one of text, image, document_id, vector or all_of"),
        ({"query": {"text": "a", "document_id": "b"}}, "exactly one of"),
        ({"query": "red boat"}, "exactly one of"),
        ({"query": {"text": 7}}, "query.text: expected a valid string"),
        ({"query": {"text": "a", "weight": 1}}, "query.weight: there is no such field"),
        ({"query": {"image": {"url": "x"}}}, "query.image: expected an object with exactly one of uri or base64"),
        ({"query": {"image": {"uri": ""}}}, "query.image.uri: "),
        ({"query": {"vector": [1.0]}}, "query.modality: this field is required"),
        (
            {"query": {"vector": [1.0], "modality": "smell"}},
            "query.modality: expected 'text', 'image', 'image_text' or 'video_frame'",
        ),
        ({"query": {"text": "a"}, "limit": 0}, "limit: expected greater than or equal to 1"),
        ({"query": {"text": "a"}, "limit": 21}, "limit: expected less than or equal to 20"),
        ({"query": {"text": "a"}, "limit": "3"}, "limit: expected a valid integer"),
        ({"query": {"text": "a"}, "modalities": []}, "modalities: expected at least 1 items"),
        ({"query": {"text": "a"}, "modalities": ["video"]}, "modalities[0]: expected 'text'"),
        ({"query": {"text": "a"}, "ranking": "best"}, "ranking: expected 'calibrated', 'cosine' or 'hybrid'"),
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


# --- several queries, pages, thresholds -----------------------------------------------------------------------------


async def test_a_composed_query_adds_and_takes_away(filled: httpx.AsyncClient) -> None:
    parts = [{"text": "red boat"}, {"text": "blue cat"}, {"text": "red", "weight": -1}, {"document_id": "t/cat"}]
    answer = ids(await search(filled, {"all_of": parts}))
    assert answer[0] == "p/cat"
    assert "t/cat" not in answer
    image = {"image": {"base64": base64.b64encode(BOAT).decode()}, "weight": 2}
    assert set(ids(await search(filled, {"all_of": [image, {"text": "boat"}]}, limit=2))) == {"p/boat", "t/boat"}


@pytest.mark.parametrize(
    ("parts", "code", "says"),
    [
        ([], "invalid_request", "query.all_of: expected at least 1 items"),
        ([{"text": "a"}] * 17, "invalid_request", "query.all_of: expected at most 16 items"),
        ([{"weight": 1}], "invalid_request", "query.all_of[0]: expected an object with exactly one of text, image"),
        ([{"text": "red", "weight": 0}], "invalid_request", "not all of them 0"),
        ([{"text": "red"}, {"text": "red", "weight": -1}], "invalid_vector", "cancel each other out"),
        ([{"text": "red"}, {"text": " "}], "empty_text", "empty"),
        ([{"all_of": [{"text": "a"}]}], "invalid_request", "exactly one of"),
    ],
)
async def test_a_composed_query_that_means_nothing_is_told_why(
    filled: httpx.AsyncClient, parts: list[object], code: str, says: str
) -> None:
    status, given, message = error_of(await search(filled, {"all_of": parts}))
    assert (status, given) == (422, code)
    assert says in message


async def test_pages_put_together_are_one_long_page(filled: httpx.AsyncClient) -> None:
    whole = ids(await search(filled, {"text": "red boat"}, limit=4))
    pages = [ids(await search(filled, {"text": "red boat"}, limit=1, offset=at)) for at in range(5)]
    assert [each for page in pages for each in page] == whole
    assert pages[4] == []


async def test_a_page_that_is_too_deep_is_refused_with_the_bound(filled: httpx.AsyncClient) -> None:
    status, code, message = error_of(await search(filled, {"text": "boat"}, limit=20, offset=781))
    assert (status, code) == (422, "invalid_request")
    assert "together at most 800" in message


async def test_scores_confidences_and_vectors_are_as_asked(filled: httpx.AsyncClient) -> None:
    results = (await search(filled, {"text": "red boat"}, include=["vector"])).json()["results"]
    assert len(results[0]["vector"]) == DIMENSION
    least = results[1]["score"]
    assert len(ids(await search(filled, {"text": "red boat"}, min_score=least))) == 2
    sure = (await search(filled, {"text": "red boat"}, min_confidence=0.5)).json()
    assert sure["ranking"] == "calibrated"
    assert all(result["confidence"] >= 0.5 for result in sure["results"])
    assert {result["vector"] for result in sure["results"]} <= {None}


async def test_confidence_that_cannot_be_known_is_not_asked_for_in_vain(client: httpx.AsyncClient) -> None:
    picture = {"id": "p", "image": {"base64": base64.b64encode(BOAT).decode()}}
    await client.post("/v1/documents", json={"documents": [picture]})
    status, code, message = error_of(await search(client, {"text": "red boat"}, min_confidence=0.5))
    assert (status, code) == (422, "invalid_request")
    assert "holds no documents of that kind (text)" in message


async def test_hybrid_brings_the_words_of_the_query_in(filled: httpx.AsyncClient) -> None:
    answer = (await search(filled, {"text": "red boat"}, ranking="hybrid", limit=2)).json()
    assert answer["ranking"] == "hybrid"
    assert {result["id"] for result in answer["results"]} == {"t/boat", "p/boat"}


async def test_a_search_sees_the_write_that_it_names_or_says_that_it_cannot(filled: httpx.AsyncClient) -> None:
    added = (await filled.post("/v1/documents", json={"documents": [{"id": "new", "text": "snow tree"}]})).json()
    answer = await search(filled, {"text": "snow tree"}, min_table_version=added["table_version"])
    assert "new" in ids(answer)
    far = await search(filled, {"text": "snow tree"}, min_table_version=10**6)
    assert error_of(far)[:2] == (503, "stale_table")
    both = await search(filled, {"text": "snow tree"}, min_table_version=1, as_of="yesterday")
    assert "give one of them" in error_of(both)[2]


async def test_a_search_of_the_past_finds_what_was_there(filled: httpx.AsyncClient, system: System) -> None:
    system.table.snapshots["before"] = system.table.version
    await filled.delete("/v1/documents/t%2Fboat")
    assert "t/boat" not in ids(await search(filled, {"text": "red boat"}))
    assert "t/boat" in ids(await search(filled, {"text": "red boat"}, as_of="before"))
    assert error_of(await search(filled, {"text": "red boat"}, as_of="never"))[:2] == (404, "snapshot_not_found")


async def test_a_batch_answers_each_search_by_itself(filled: httpx.AsyncClient) -> None:
    searches = [
        {"query": {"text": "red boat"}, "limit": 2},
        {"query": {"text": " "}},
        {"query": {"document_id": "nobody"}},
        {"query": {"image": {"base64": "@@"}}},
        {"query": {"document_id": "p/cat"}, "limit": 1, "modalities": ["text"], "ranking": "cosine"},
        {"query": {"text": "red boat"}, "limit": 1, "offset": 1},
    ]
    answer = await filled.post("/v1/search:batch", json={"searches": searches})
    assert answer.status_code == 200, answer.text
    found = answer.json()["answers"]
    assert [each.get("error", {}).get("code") for each in found] == [
        None, "empty_text", "document_not_found", "invalid_picture", None, None,
    ]  # fmt: skip
    alone = ids(await search(filled, {"text": "red boat"}, limit=2))
    assert [result["id"] for result in found[0]["results"]] == alone
    assert [result["id"] for result in found[4]["results"]] == ["t/cat"]
    assert [result["id"] for result in found[5]["results"]] == alone[1:]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"searches": []}, "searches: expected at least 1 items"),
        ({"searches": [{"query": {"text": "a"}}] * 65}, "searches: expected at most 64 items"),
        ({"searches": [{"query": {"text": "a"}}, {"query": {"text": 1}}]}, "searches[1].query.text: expected a valid"),
    ],
)
async def test_a_batch_of_the_wrong_shape_is_refused(client: httpx.AsyncClient, body: object, says: str) -> None:
    status, code, message = error_of(await client.post("/v1/search:batch", json=body))
    assert (status, code) == (422, "invalid_request")
    assert says in message
