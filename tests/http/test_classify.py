"""POST /v1/classify over the fakes, whose vectors tell which label has to win."""

import base64
from dataclasses import replace

import httpx
import numpy as np
import pytest

from serve_app.types import Modality
from tests.fakes.parts import CARD, FakeTextEncoding, vector_of
from tests.http.conftest import app_of, client_of, error_of
from tests.unit.services.conftest import System, make_system

BOAT = {"base64": base64.b64encode(b"picture: red boat").decode()}
CAT = {"base64": base64.b64encode(b"picture: blue cat").decode()}
LABELS = ["cat", "boat", "house"]


async def classify(client: httpx.AsyncClient, **body: object) -> httpx.Response:
    return await client.post("/v1/classify", json=body)


def probabilities_of(result: dict[str, list[dict[str, object]]]) -> dict[object, object]:
    return {each["label"]: each["probability"] for each in result["labels"]}


async def test_each_picture_has_its_labels_the_most_probable_first(client: httpx.AsyncClient) -> None:
    answer = await classify(client, images=[BOAT, CAT], labels=LABELS)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"results", "activation", "model", "truncated_labels"}
    assert (body["activation"], body["model"], body["truncated_labels"]) == ("softmax", "fake", [])
    assert [result["labels"][0]["label"] for result in body["results"]] == ["boat", "cat"]
    for result in body["results"]:
        values = list(probabilities_of(result).values())
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1)


async def test_probabilities_are_the_softmax_of_the_scaled_cosines(client: httpx.AsyncClient) -> None:
    answer = await classify(client, images=[BOAT], labels=LABELS, templates=["{}", "red {}"])
    picture = vector_of("red boat", Modality.IMAGE)
    means = [vector_of(label, Modality.TEXT) + vector_of(f"red {label}", Modality.TEXT) for label in LABELS]
    logits = np.array([CARD.logit_scale * picture @ (mean / np.linalg.norm(mean)) for mean in means])
    expected = np.exp(logits - logits.max())
    expected /= expected.sum()
    assert probabilities_of(answer.json()["results"][0]) == pytest.approx(dict(zip(LABELS, expected, strict=True)))


async def test_a_model_with_a_bias_judges_each_label_by_itself() -> None:
    siglip = replace(CARD, logit_scale=10.0, logit_bias=-3.0)
    async with client_of(app_of(make_system(texts=FakeTextEncoding(siglip)))) as client:
        body = (await classify(client, images=[BOAT], labels=LABELS, templates=["{}"])).json()
    assert body["activation"] == "sigmoid"
    cosines = [vector_of("red boat", Modality.IMAGE) @ vector_of(label, Modality.TEXT) for label in LABELS]
    expected = {label: 1 / (1 + np.exp(-(10 * cosine - 3))) for label, cosine in zip(LABELS, cosines, strict=True)}
    assert probabilities_of(body["results"][0]) == pytest.approx(expected)


async def test_all_prompts_travel_together_and_a_label_asked_before_does_not(
    client: httpx.AsyncClient, system: System
) -> None:
    await classify(client, images=[BOAT], labels=["cat", "boat"])
    await classify(client, images=[CAT], labels=["boat", "house"])
    assert system.texts.encoded == ["a photo of a cat.", "a photo of a boat.", "a photo of a house."]


async def test_a_bad_picture_fails_alone(client: httpx.AsyncClient) -> None:
    bad = [{"base64": "@@"}, {"uri": "memory://nowhere"}]
    answer = await classify(client, images=[bad[0], BOAT, bad[1]], labels=LABELS)
    first, second, third = answer.json()["results"]
    assert (first["error"]["code"], third["error"]["code"]) == ("invalid_picture", "picture_not_found")
    assert second["labels"][0]["label"] == "boat"


async def test_pictures_that_are_all_bad_still_have_an_answer_each(client: httpx.AsyncClient) -> None:
    answer = await classify(client, images=[{"base64": "@@"}], labels=LABELS)
    assert (answer.status_code, list(answer.json()["results"][0])) == (200, ["error"])


async def test_only_the_best_labels_are_told_if_so_asked(client: httpx.AsyncClient) -> None:
    answer = await classify(client, images=[BOAT], labels=LABELS, limit=1)
    assert list(probabilities_of(answer.json()["results"][0])) == ["boat"]
    assert len((await classify(client, images=[BOAT], labels=LABELS, limit=9)).json()["results"][0]["labels"]) == 3


async def test_labels_that_were_cut_are_named(client: httpx.AsyncClient) -> None:
    long = "cat " * 20
    body = (await classify(client, images=[BOAT], labels=["boat", long])).json()
    assert body["truncated_labels"] == [long]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"labels": LABELS}, "images: this field is required"),
        ({"images": [], "labels": LABELS}, "images: expected at least 1 items"),
        ({"images": [BOAT] * 4, "labels": LABELS}, "images: expected at most 3 items"),
        ({"images": [BOAT], "labels": []}, "labels: expected at least 1 items"),
        ({"images": [BOAT], "labels": ["a"] * 13}, "labels: expected at most 12 items"),
        ({"images": [BOAT], "labels": ["a", "b", "a"]}, "labels[2]: 'a' stands there twice"),
        ({"images": [BOAT], "labels": ["a", " "]}, "labels[1]: the label is empty"),
        ({"images": [BOAT], "labels": ["a", 7]}, "labels[1]: expected a valid string"),
        ({"images": ["boat.png"], "labels": LABELS}, "images[0]: expected an object with exactly one of uri or base64"),
        ({"images": [BOAT], "labels": LABELS, "templates": []}, "templates: expected at least 1 items"),
        ({"images": [BOAT], "labels": LABELS, "templates": ["a", "{}"]}, "templates[0]: a template has {} once"),
        ({"images": [BOAT], "labels": LABELS, "templates": ["{} {}"]}, "templates[0]: a template has {} once"),
        (
            {"images": [BOAT], "labels": LABELS, "templates": ["{}"] * 5},
            "labels times templates are 15 texts, at most 12",
        ),
        ({"images": [BOAT], "labels": LABELS, "limit": 0}, "limit: expected greater than or equal to 1"),
        ({"images": [BOAT], "labels": LABELS, "top_k": 1}, "top_k: there is no such field"),
    ],
)
async def test_a_wrong_request_is_refused_by_the_name_of_the_field(
    client: httpx.AsyncClient, body: dict[str, object], says: str
) -> None:
    status, code, message = error_of(await classify(client, **body))
    assert (status, code) == (422, "invalid_request")
    assert says in message


async def test_a_label_that_no_encoder_takes_fails_the_request_by_its_place(client: httpx.AsyncClient) -> None:
    answer = error_of(await classify(client, images=[BOAT], labels=["boat", "x" * 300], templates=["a {}", "the {}"]))
    assert answer[:2] == (422, "text_too_long")
    assert answer[2].startswith("labels[1]: ")


async def test_another_model_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await classify(client, images=[BOAT], labels=LABELS, model="ViT-L-14")
    assert error_of(answer)[:2] == (404, "model_not_found")
