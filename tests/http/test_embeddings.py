"""POST /v1/embeddings: every form that a text or a picture may come in, and what is wrong with the others."""

import base64
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from serve_app.errors import Overloaded
from serve_app.http.encoder_answers import embeddings_json, embeddings_out
from serve_app.types import Embedding, ItemFailure, Modality
from tests.fakes.parts import CARD, OTHER_CARD, FakeTextEncoding, vector_of
from tests.http.conftest import LIMITS, app_of, client_of, error_of
from tests.unit.services.conftest import System, make_system

BOAT = base64.b64encode(b"picture: red boat").decode()
CAT = base64.b64encode(b"picture: blue cat").decode()
BOAT_URI = f"data:image/png;base64,{BOAT}"
CAT_URI = f"data:image/png;base64,{CAT}"
BOAT_VECTOR = vector_of("red boat", Modality.IMAGE).tolist()
CAT_VECTOR = vector_of("blue cat", Modality.IMAGE).tolist()
BOAT_WORDS = vector_of("red boat", Modality.TEXT).tolist()
CAT_WORDS = vector_of("blue cat", Modality.TEXT).tolist()


async def embed(client: httpx.AsyncClient, **body: object) -> httpx.Response:
    return await client.post("/v1/embeddings", json=body)


def chat(*parts: dict[str, object]) -> list[dict[str, object]]:
    return [{"role": "user", "content": list(parts)}]


def vectors(answer: httpx.Response) -> list[list[float]]:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [each["index"] for each in data] == list(range(len(data)))
    return [numbers(each) for each in data]


def numbers(item: dict[str, Any]) -> list[float]:
    """The vector as float32; a string stays one."""
    found = item["embedding"]
    return found if isinstance(found, str) else np.asarray(found, dtype=np.float32).tolist()


async def test_the_answer_has_the_form_of_openai_and_says_what_was_cut(client: httpx.AsyncClient) -> None:
    answer = await embed(client, input=["red boat", "cat " * 30])
    body = answer.json()
    assert set(body) == {"object", "data", "model", "usage"}
    assert (body["object"], body["model"]) == ("list", "fake")
    assert body["usage"] == {"prompt_tokens": 4 + 16, "total_tokens": 4 + 16}
    assert [each["truncated"] for each in body["data"]] == [False, True]
    first = body["data"][0]
    assert numbers(first) == BOAT_WORDS
    assert {**first, "embedding": None} == {"object": "embedding", "index": 0, "embedding": None, "truncated": False}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": "red boat"}, [BOAT_WORDS]),
        ({"input": ["red boat", "blue cat", "red boat"]}, [BOAT_WORDS, CAT_WORDS, BOAT_WORDS]),
        ({"input": BOAT_URI}, [BOAT_VECTOR]),
        ({"input": ["blue cat", BOAT_URI]}, [CAT_WORDS, BOAT_VECTOR]),
        ({"input": [BOAT_URI.replace("data:image/png", "DATA:IMAGE/PNG"), "blue cat"]}, [BOAT_VECTOR, CAT_WORDS]),
        ({"input": [CAT_URI, "memory://boat"], "modality": "image"}, [CAT_VECTOR, BOAT_VECTOR]),
        ({"input": "memory://boat", "modality": "image"}, [BOAT_VECTOR]),
        ({"input": ["red boat"], "modality": "text"}, [BOAT_WORDS]),
        (
            {"input": [{"text": "red boat"}, {"image": {"base64": CAT}}, "blue cat"]},
            [BOAT_WORDS, CAT_VECTOR, CAT_WORDS],
        ),
        ({"input": [{"image": {"uri": "memory://boat"}}]}, [BOAT_VECTOR]),
        ({"messages": chat({"type": "image_url", "image_url": {"url": BOAT_URI}})}, [BOAT_VECTOR]),
        (
            {"messages": chat({"type": "image_url", "image_url": {"url": "memory://boat", "detail": "low"}})},
            [BOAT_VECTOR],
        ),
        ({"messages": chat({"type": "text", "text": "red boat"})}, [BOAT_WORDS]),
        ({"messages": [{"role": "user", "content": "red boat"}]}, [BOAT_WORDS]),
        ({"input": "red boat", "model": "fake", "dimensions": 10, "user": "somebody"}, [BOAT_WORDS]),
    ],
)
async def test_texts_and_pictures_come_in_every_form(
    client: httpx.AsyncClient, system: System, body: dict[str, object], expected: list[list[float]]
) -> None:
    system.pictures.files["memory://boat"] = b"picture: red boat"
    assert vectors(await embed(client, **body)) == expected


async def test_a_text_that_looks_like_a_picture_is_one_where_it_says_so(client: httpx.AsyncClient) -> None:
    answer = await embed(client, input=[{"text": "data:image/png;base64, a red boat "}])
    assert vectors(answer) == [vector_of("red boat", Modality.TEXT).tolist()]


async def test_numbers_have_no_more_digits_than_float32_needs(client: httpx.AsyncClient) -> None:
    answer = await embed(client, input="red boat")
    written = answer.json(parse_float=str)["data"][0]["embedding"]
    assert written == [str(np.float32(each)) for each in BOAT_WORDS]


def test_a_vector_that_is_a_column_of_a_matrix_is_written_too() -> None:
    column = Embedding(np.array([[0.6, 9.0], [0.8, 9.0]], np.float32)[:, 0], "fingerprint")
    assert b'"embedding":[0.6,0.8]' in embeddings_json(embeddings_out([column], "fake", "float")).body


async def test_base64_holds_the_very_same_numbers_as_little_endian_float32(client: httpx.AsyncClient) -> None:
    items = ["red boat", CAT_URI]
    encoded = vectors(await embed(client, input=items, encoding_format="base64"))
    plain = vectors(await embed(client, input=items, encoding_format="float"))
    assert [np.frombuffer(base64.b64decode(str(each)), "<f4").tolist() for each in encoded] == plain


async def test_pictures_that_are_only_embedded_are_not_kept(client: httpx.AsyncClient, system: System) -> None:
    await embed(client, input=[BOAT_URI])
    assert system.pictures.files == {}


async def test_texts_travel_as_one_call_and_a_text_that_was_asked_before_does_not(
    client: httpx.AsyncClient, system: System
) -> None:
    await embed(client, input=["red boat", "blue cat"])
    await embed(client, input=["blue cat", "green tree"])
    assert system.texts.encoded == ["red boat", "blue cat", "green tree"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "The body: expected exactly one of input and messages."),
        ({"input": "a", "messages": chat({"type": "text", "text": "a"})}, "exactly one of input and messages"),
        ({"input": []}, "input: expected at least 1 items."),
        ({"input": ["a"] * 13}, "input: expected at most 12 items."),
        ({"input": [BOAT_URI] * 4}, "input: expected at most 3 pictures, 4 were found."),
        ({"input": [1, 2, 3]}, "input[0]: expected a string, {text} or {image}; token ids are not taken"),
        ({"input": [[1, 2, 3]]}, "input[0]: expected a string, {text} or {image}; token ids are not taken"),
        ({"input": 7}, "input: expected a string or a list"),
        ({"input": {"text": "a"}}, "input: expected a string or a list"),
        ({"input": [{"text": "a", "image": {"uri": "b"}}]}, "input[0]: expected a string, {text} or {image}"),
        ({"input": [{"text": "a", "weight": 1}]}, "input[0].weight: there is no such field"),
        ({"input": [{"image": {}}]}, "input[0].image: expected an object with exactly one of uri or base64"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format: expected 'float' or 'base64'."),
        ({"input": "a", "modality": "audio"}, "modality: expected 'text' or 'image'."),
        (
            {"input": "a", "dimensions": 4},
            "dimensions: the vectors of this model have 10 numbers and cannot be cut to 4",
        ),
        ({"input": "a", "dimensions": 0}, "dimensions: expected greater than or equal to 1."),
        ({"input": "a", "on_error": "ignore"}, "on_error: expected 'fail' or 'report'."),
        ({"input": "a", "normalise": False}, "normalise: there is no such field."),
        ({"messages": []}, "messages: expected at least 1 items."),
        ({"messages": [{"role": "user", "content": []}]}, "messages: expected one text or one picture in all, 0 were"),
        ({"messages": chat({"type": "text", "text": "a"}, {"type": "text", "text": "b"})}, "in all, 2 were found"),
        ({"messages": chat({"type": "video_url"})}, "messages[0].content[0]: expected an object of the type text or"),
        ({"messages": chat({"type": "text"})}, "messages[0].content[0].text: this field is required"),
        ({"messages": [{"role": "user"}]}, "messages[0].content: this field is required"),
        ({"input": "x" * 5_000, "modality": "image"}, "input: The URI of a picture has 1 to 4096 characters."),
    ],
)
async def test_a_request_of_the_wrong_shape_is_refused_by_the_name_of_the_field(
    client: httpx.AsyncClient, body: dict[str, object], says: str
) -> None:
    status, code, message = error_of(await embed(client, **body))
    assert (status, code) == (422, "invalid_request")
    assert says in message
    assert len(message) < 250


@pytest.mark.parametrize(
    ("item", "status", "code"),
    [
        ("  ", 422, "empty_text"),
        ("x" * 201, 422, "text_too_long"),
        ("data:image/png;base64,@@", 422, "invalid_picture"),
        ("data:image/png,abc", 422, "invalid_picture"),
        ("data:image/png;base64", 422, "invalid_picture"),
        ("data:image/png;base64," + base64.b64encode(b"no picture").decode(), 422, "not_a_picture"),
        ("data:image/png;base64," + "A" * 2_000, 422, "picture_too_large"),
        ({"image": {"base64": "@@"}}, 422, "invalid_picture"),
        ({"image": {"uri": "memory://nowhere"}}, 404, "picture_not_found"),
    ],
)
async def test_one_bad_item_fails_the_request_by_its_place_or_is_reported_alone(
    client: httpx.AsyncClient, item: object, status: int, code: str
) -> None:
    refused = error_of(await embed(client, input=["red boat", item, CAT_URI]))
    assert refused[:2] == (status, code)
    assert refused[2].startswith("input[1]: ")
    answer = await embed(client, input=["red boat", item, CAT_URI], on_error="report")
    good, bad, also_good = answer.json()["data"]
    assert (numbers(good), numbers(also_good)) == (BOAT_WORDS, CAT_VECTOR)
    assert list(bad) == ["object", "index", "embedding", "error"]
    assert (bad["object"], bad["index"], bad["embedding"], bad["error"]["code"]) == ("error", 1, None, code)
    assert bad["error"]["message"] == refused[2].removeprefix("input[1]: ")


async def test_nothing_is_encoded_for_a_request_that_is_refused_for_a_text(
    client: httpx.AsyncClient, system: System
) -> None:
    assert (await embed(client, input=["red boat", CAT_URI, " "])).status_code == 422
    assert (system.texts.encoded, system.pictures.encoded) == ([], [])


async def test_a_bad_item_that_came_alone_is_called_by_its_field(client: httpx.AsyncClient) -> None:
    assert error_of(await embed(client, input=" "))[2] == "input: the text is empty"
    url = {"url": "memory://nowhere"}
    answer = await embed(client, messages=chat({"type": "image_url", "image_url": url}))
    assert error_of(answer)[1:] == ("picture_not_found", "messages: there is nothing at memory://nowhere")


async def test_another_model_is_not_found_and_the_one_that_runs_is_named(client: httpx.AsyncClient) -> None:
    answer = error_of(await embed(client, input="a", model="text-embedding-3-small"))
    assert answer[:2] == (404, "model_not_found")
    assert "'text-embedding-3-small'" in answer[2]
    assert "'fake'" in answer[2]
    served = (await client.get("/v1/models")).json()["data"][0]["id"]
    assert (await embed(client, input="a", model=served)).status_code == 200


async def test_a_form_is_no_body_for_embeddings(client: httpx.AsyncClient) -> None:
    assert error_of(await client.post("/v1/embeddings", files={"input": b"a"}))[1] == "invalid_request"
    assert error_of(await client.post("/v1/embeddings", content=b'{"input": "a"}'))[1] == "invalid_request"


async def test_vectors_of_two_encoders_are_never_answered_together(system: System) -> None:
    mixed = make_system(system.table, FakeTextEncoding(OTHER_CARD))
    mixed.pictures.card = CARD
    async with client_of(app_of(mixed)) as client:
        assert (await embed(client, input="a")).status_code == 200
        assert error_of(await embed(client, input=["a", BOAT_URI]))[:2] == (503, "fingerprint_mismatch")


async def test_a_full_queue_is_said_at_once(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        raise Overloaded("too many requests are waiting")

    monkeypatch.setattr(system.texts, "encode_texts", full)
    async with client_of(app_of(system)) as client:
        answer = await embed(client, input=["a"])
    assert error_of(answer)[:2] == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"


async def test_what_broke_inside_is_not_told(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        return [ItemFailure("internal", "kernel 7 fell over") for _ in texts]

    monkeypatch.setattr(system.texts, "encode_texts", broken)
    async with client_of(app_of(system)) as client:
        failed = error_of(await embed(client, input=["a"]))
        reported = await embed(client, input=["a"], on_error="report")
    assert failed[:2] == (500, "internal")
    assert reported.json()["data"][0]["error"]["code"] == "internal"
    assert "kernel" not in failed[2] + reported.text


async def test_the_limits_of_the_service_stand_in_the_contract(client: httpx.AsyncClient) -> None:
    contract = (await client.get("/openapi.json")).json()
    schemas = contract["components"]["schemas"]
    assert schemas["ItemsIn"]["maxItems"] == LIMITS.max_embeddings
    assert schemas["ClassifyIn"]["properties"]["images"]["maxItems"] == LIMITS.max_embedded_pictures
    assert "`model_not_found`" in contract["paths"]["/v1/embeddings"]["post"]["responses"]["404"]["description"]
