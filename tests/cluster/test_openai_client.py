"""OpenAI's own Python client against the real graph: real replicas, the demo model."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from benchmarks.metrics import exported
from serve_app.demo.corpus import demo_pictures
from serve_app.local_graph import LocalGraph
from tests.openai_client import client_of, data_uri, embed_picture_as_vllm_does, matrix_of

PICTURES = list(demo_pictures(count=50))
URIS = [data_uri(picture.encoded()) for picture in PICTURES]
CAPTIONS = [picture.caption for picture in PICTURES]


@pytest.fixture(scope="module")
def openai_client(graph: LocalGraph) -> Iterator[openai.OpenAI]:
    with client_of(graph.url) as client:
        yield client


@pytest.fixture(scope="module")
def model(openai_client: openai.OpenAI) -> str:
    return openai_client.models.list().data[0].id


def test_a_batch_of_a_hundred_texts_and_pictures_lies_in_one_space(openai_client: openai.OpenAI, model: str) -> None:
    items = list(itertools.chain.from_iterable(zip(CAPTIONS, URIS, strict=True)))
    vectors = matrix_of(openai_client.embeddings.create(model=model, input=items))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    nearest = (vectors[0::2] @ vectors[1::2].T).argmax(axis=1)
    assert (nearest == np.arange(50)).mean() > 0.9


def test_floats_and_base64_are_the_same_numbers(openai_client: openai.OpenAI, model: str) -> None:
    items = [CAPTIONS[0], URIS[0]]
    floats = openai_client.embeddings.create(model=model, input=items, encoding_format="float")
    base64 = openai_client.embeddings.create(model=model, input=items)
    assert floats.usage.prompt_tokens == floats.usage.total_tokens
    np.testing.assert_allclose(matrix_of(floats), matrix_of(base64), atol=1e-6)


def test_pictures_come_as_users_of_infinity_and_vllm_send_them(openai_client: openai.OpenAI, model: str) -> None:
    plain = matrix_of(openai_client.embeddings.create(model=model, input=URIS[:1]))
    infinity = openai_client.embeddings.create(model=model, input=URIS[:1], extra_body={"modality": "image"})
    vllm = embed_picture_as_vllm_does(openai_client, model, URIS[0])
    np.testing.assert_allclose(matrix_of(infinity), plain, atol=1e-5)
    np.testing.assert_allclose(matrix_of(vllm), plain, atol=1e-5)


def test_errors_of_the_parts_become_exceptions_of_the_client(
    openai_client: openai.OpenAI, model: str, tmp_path: Path
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as unprocessable:
        openai_client.embeddings.create(model=model, input=["fine", data_uri(PICTURES[0].encoded()[:200])])
    assert unprocessable.value.code in {"picture_truncated", "invalid_picture"}
    assert "input[1]: " in str(unprocessable.value)
    with pytest.raises(openai.UnprocessableEntityError) as forbidden:
        embed_picture_as_vllm_does(openai_client, model, tmp_path.as_uri())
    assert forbidden.value.code == "uri_not_allowed"
    with pytest.raises(openai.NotFoundError) as missing:
        openai_client.embeddings.create(model="text-embedding-3-small", input="a boat")
    assert missing.value.code == "model_not_found"


def test_labels_find_the_picture_that_they_describe(http: httpx.Client) -> None:
    images = [{"base64": uri.partition(",")[2]} for uri in URIS[:10]]
    body = {"images": images, "labels": CAPTIONS[:10], "templates": ["{}"]}
    answer = http.post("/v1/classify", json=body).raise_for_status().json()
    assert answer["activation"] == "softmax"
    best = [result["labels"][0]["label"] for result in answer["results"]]
    assert sum(given == caption for given, caption in zip(best, CAPTIONS[:10], strict=True)) >= 9


def test_the_cache_of_query_vectors_and_the_batches_count_in_the_metrics_of_ray(
    http: httpx.Client, graph: LocalGraph
) -> None:
    for _ in range(3):
        http.post("/v1/search", json={"query": {"text": "a boat that nobody asked for"}}).raise_for_status()
    deadline = time.monotonic() + 60  # replicas report every few seconds
    names = {f"crossmodal_query_cache_{kind}_total" for kind in ("hits", "misses")}
    while not names | {"crossmodal_batched_items_total"} <= (counted := exported(graph)).keys():
        assert time.monotonic() < deadline, counted
        time.sleep(1)
    assert counted["crossmodal_query_cache_hits_total"] >= 2
    assert counted["crossmodal_query_cache_misses_total"] >= 1
