"""OpenAI's own Python client against the service: what it sends is understood, and what it reads is what it expects."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import openai
import pytest

from serve_app.errors import CrossmodalError, InternalError, Overloaded
from serve_app.http.limits import HttpLimits
from serve_app.types import Embedding, ItemFailure, Modality
from tests.fakes.parts import CONCEPTS, vector_of
from tests.http.conftest import app_of
from tests.http.serving import serving
from tests.openai_client import client_of, data_uri, embed_picture_as_vllm_does, matrix_of
from tests.unit.services.conftest import System, make_system

BOAT = data_uri(b"picture: red boat")
BOAT_VECTOR = vector_of("red boat", Modality.IMAGE)
PAIRS = [f"{one} {other}" for one, other in itertools.product(CONCEPTS, CONCEPTS)]


@pytest.fixture
def system() -> System:
    return make_system()


@pytest.fixture
def client(system: System) -> Iterator[openai.OpenAI]:
    limits = HttpLimits(max_body_bytes=1_000_000, max_embedded_pictures=100, request_timeout_s=5)
    with serving(app_of(system, limits)) as address, client_of(address) as client:
        yield client


def test_the_served_model_is_listed_and_can_be_asked_by_that_name(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    answer = client.embeddings.create(model=model.id, input="red boat")
    assert (answer.model, answer.object, answer.usage.prompt_tokens, answer.usage.total_tokens) == (
        "fake",
        "list",
        4,
        4,
    )
    np.testing.assert_array_equal(matrix_of(answer), [vector_of("red boat", Modality.TEXT)])


def test_by_default_vectors_come_as_base64_and_equal_the_floats(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="fake", input=["red boat", BOAT])
    assert b'"base64"' in raw.http_request.content
    floats = client.embeddings.create(model="fake", input=["red boat", BOAT], encoding_format="float")
    base64 = client.embeddings.create(model="fake", input=["red boat", BOAT], encoding_format="base64")
    assert isinstance(base64.data[0].embedding, str)
    np.testing.assert_array_equal(matrix_of(floats), matrix_of(raw.parse()))
    np.testing.assert_array_equal(matrix_of(floats)[1], BOAT_VECTOR)


def test_a_batch_of_a_hundred_texts_and_pictures_comes_back_in_order(client: openai.OpenAI) -> None:
    words = [PAIRS[at % len(PAIRS)] for at in range(100)]
    items = [text if at % 2 else data_uri(b"picture: " + text.encode()) for at, text in enumerate(words)]
    answer = client.embeddings.create(model="fake", input=items)
    expected = [vector_of(text, Modality.TEXT if at % 2 else Modality.IMAGE) for at, text in enumerate(words)]
    np.testing.assert_array_equal(matrix_of(answer), expected)


def test_pictures_come_as_users_of_infinity_and_vllm_send_them(client: openai.OpenAI, system: System) -> None:
    system.pictures.files["memory://boat"] = b"picture: red boat"
    for url in (BOAT, "memory://boat"):
        by_modality = client.embeddings.create(model="fake", input=[url], extra_body={"modality": "image"})
        np.testing.assert_array_equal(matrix_of(by_modality), [BOAT_VECTOR])
        np.testing.assert_array_equal(matrix_of(embed_picture_as_vllm_does(client, "fake", url)), [BOAT_VECTOR])


def test_dimensions_and_user_are_taken_as_far_as_they_mean_something(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="fake", input="red boat", dimensions=10, user="somebody")
    assert matrix_of(answer).shape == (1, 10)
    with pytest.raises(openai.UnprocessableEntityError, match="cannot be cut to 5"):
        client.embeddings.create(model="fake", input="red boat", dimensions=5)


def test_a_request_that_is_wrong_raises_with_the_code_and_the_place(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        client.embeddings.create(model="fake", input=["red boat", data_uri(b"no picture")])
    assert raised.value.code == "not_a_picture"
    assert raised.value.body["message"].startswith("input[1]: ")
    assert raised.value.request_id == raised.value.body["request_id"]
    with pytest.raises(openai.UnprocessableEntityError, match="token ids are not taken"):
        client.embeddings.create(model="fake", input=[15339, 1917])


def test_another_model_and_a_missing_picture_are_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.embeddings.create(model="text-embedding-3-small", input="red boat")
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as raised:
        embed_picture_as_vllm_does(client, "fake", "memory://nowhere")
    assert raised.value.code == "picture_not_found"


def test_a_body_that_is_too_large_raises_by_its_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.embeddings.create(model="fake", input=data_uri(b"picture: " + bytes(1_000_000)))
    assert (raised.value.status_code, raised.value.code) == (413, "body_too_large")


@pytest.mark.parametrize(("error", "status"), [(Overloaded("full"), 503), (InternalError("kernel 7"), 500)])
def test_trouble_of_the_service_is_an_internal_server_error_without_its_insides(
    client: openai.OpenAI, system: System, monkeypatch: pytest.MonkeyPatch, error: CrossmodalError, status: int
) -> None:
    async def fails(texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        raise error

    monkeypatch.setattr(system.texts, "encode_texts", fails)
    with pytest.raises(openai.InternalServerError) as raised:
        client.embeddings.create(model="fake", input="red boat")
    assert (raised.value.status_code, raised.value.code) == (status, error.code)
    assert "kernel" not in str(raised.value)


def test_a_full_queue_is_waited_out_by_the_retries_of_the_client(
    client: openai.OpenAI, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary, refusals = system.texts.encode_texts, [Overloaded("full")]

    async def once_full(texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        if refusals:
            raise refusals.pop()
        return await ordinary(texts)

    monkeypatch.setattr(system.texts, "encode_texts", once_full)
    answer = client.with_options(max_retries=1).embeddings.create(model="fake", input="red boat")
    assert len(answer.data) == 1


def test_reported_failures_stand_among_the_vectors(client: openai.OpenAI) -> None:
    items = ["red boat", data_uri(b"no picture"), BOAT]
    answer = client.embeddings.create(model="fake", input=items, extra_body={"on_error": "report"})
    assert [each.object for each in answer.data] == ["embedding", "error", "embedding"]
    assert answer.data[1].model_extra["error"]["code"] == "not_a_picture"
    np.testing.assert_array_equal(answer.data[2].embedding, BOAT_VECTOR)
