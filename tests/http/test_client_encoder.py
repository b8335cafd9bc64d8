"""The client's embeddings and classification against the real application over the fakes."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve_app.client import Client
from serve_app.errors import EmptyText, InternalError, InvalidRequest, NotAPicture, PictureNotFound
from serve_app.types import Modality
from tests.fakes.parts import vector_of
from tests.http.conftest import app_of
from tests.http.serving import serving
from tests.unit.services.conftest import System, make_system


@pytest.fixture
def system() -> System:
    return make_system()


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with serving(app_of(system)) as address, Client(address) as client:
        yield client


def answering(payload: dict[str, object]) -> Client:
    return Client("http://service", transport=httpx.MockTransport(lambda request: httpx.Response(200, json=payload)))


def test_texts_then_pictures_become_rows_of_one_matrix(client: Client, system: System, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"picture: blue cat")
    system.pictures.files["memory://boat"] = b"picture: red boat"
    images = ["memory://boat", tmp_path / "cat.png", b"picture: green tree"]
    answer = client.embed(["red boat", "cat " * 20], images=images)
    expected = [
        vector_of("red boat", Modality.TEXT),
        vector_of("cat " * 20, Modality.TEXT),
        *(vector_of(words, Modality.IMAGE) for words in ("red boat", "blue cat", "green tree")),
    ]
    np.testing.assert_array_equal(answer.vectors, expected)
    assert answer.vectors.dtype == np.float32
    assert (answer.truncated, answer.model) == ((False, True, False, False, False), "fake")


def test_a_text_that_begins_like_a_picture_is_a_text(client: Client) -> None:
    answer = client.embed(["data:image/png;base64, red boat"])
    np.testing.assert_array_equal(answer.vectors, [vector_of("red boat", Modality.TEXT)])


def test_the_first_wrong_item_is_raised_with_its_place(client: Client) -> None:
    with pytest.raises(EmptyText, match=r"input\[1\]"):
        client.embed(["red boat", " "])
    with pytest.raises(NotAPicture, match=r"input\[1\]"):
        client.embed(["red boat"], images=[b"no picture"])


def test_what_cannot_be_asked_is_refused_before_it_travels(tmp_path: Path) -> None:
    client = answering({})
    with pytest.raises(InvalidRequest, match="list"):
        client.embed("red boat")
    with pytest.raises(InvalidRequest, match="nothing to embed"):
        client.embed()
    with pytest.raises(PictureNotFound):
        client.embed(images=[tmp_path / "nowhere.png"])


def test_labels_come_best_first_and_a_bad_picture_alone_has_an_error(client: Client) -> None:
    answer = client.classify([b"picture: red boat", b"no picture"], ["cat", "boat"], templates=["a {}."], limit=1)
    boat, bad = answer.results
    assert (boat.labels[0].label, len(boat.labels), boat.error) == ("boat", 1, None)
    assert isinstance(bad.error, NotAPicture)
    assert (answer.activation, answer.model, answer.truncated_labels) == ("softmax", "fake", ())


@pytest.mark.parametrize("payload", [{}, {"data": [], "model": "m"}, {"data": [{"index": 0}], "model": "m"}])
def test_an_answer_that_is_no_list_of_embeddings_is_said_to_be_none(payload: dict[str, object]) -> None:
    with pytest.raises(InternalError, match="not a list of embeddings"):
        answering(payload).embed(["a"])


def test_vectors_are_put_in_the_order_of_their_index() -> None:
    def item(index: int) -> dict[str, object]:
        return {"index": index, "embedding": base64.b64encode(np.array([index], "<f4").tobytes()).decode()}

    answer = answering({"data": [item(1), item(0)], "model": "m"}).embed(["a", "b"])
    assert answer.vectors.tolist() == [[0.0], [1.0]]
