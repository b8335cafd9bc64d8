"""The committed checkpoint, as anybody would load it: plain OpenCLIP, offline, strictly."""

import json
import random
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open

from serve_app.demo import network
from serve_app.demo.captions import complete_caption
from serve_app.demo.evaluate import BEGIN, END, Measured, markdown, recall, write_card
from serve_app.demo.scenes import held_out_scenes

FILE = network.MODEL_FOLDER / "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def measured() -> Measured:
    torch.set_num_threads(2)
    return Measured()


def test_the_checkpoint_has_exactly_the_weights_of_its_architecture() -> None:
    config = json.loads((network.MODEL_FOLDER / "open_clip_config.json").read_text())
    with safe_open(FILE, "pt") as stored:
        assert set(stored.keys()) == set(open_clip.CLIP(**config["model_cfg"]).state_dict())


def test_the_checkpoint_is_small_and_of_half_precision() -> None:
    assert FILE.stat().st_size <= 25_000_000
    with safe_open(FILE, "pt") as stored:
        tensors = [stored.get_tensor(name) for name in stored.keys()]  # noqa: SIM118 - not a mapping
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float16}


def test_vectors_are_finite_and_of_unit_length(measured: Measured) -> None:
    scenes = held_out_scenes(5, 4)
    for vectors in (
        measured.images(scenes),
        measured.texts(["a red boat", "", "words it has never met", "boat " * 90]),
    ):
        assert np.isfinite(vectors).all()
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_pictures_and_captions_of_unseen_scenes_find_each_other(measured: Measured) -> None:
    scenes = held_out_scenes(6, 100)
    captions = [complete_caption(scene, random.Random(scene.spec)).text for scene in scenes]
    images, texts = measured.images(scenes), measured.texts(captions)
    for found in (recall(texts, images), recall(images, texts)):
        assert found["recall@5"] >= 0.95
        assert found["recall@1"] >= 0.85


def test_a_word_that_training_never_met_says_nothing() -> None:
    model, _, tokenise = network.load()
    unknown = tokenise(["zeppelin"])[0, 1]
    assert not model.token_embedding.weight[unknown].any()  # type: ignore[index,union-attr,operator]


def test_the_card_takes_the_measured_tables(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    row = {"recall@1": 0.5, "recall@5": 0.75, "recall@10": 1.0, "median_rank": 1.0}
    result = {
        "scenes": 1000,
        "seed": 1,
        "text_to_image": row,
        "image_to_text": row,
        "short_queries_precision@5": 0.5,
        "attributes": {"colour": {"accuracy": 0.9, "chance": 0.1, "scenes": 10}},
    }
    write_card(result, tmp_path)
    write_card(result, tmp_path)
    assert card.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{markdown(result)}\n{END}\nafter\n"


def test_a_card_without_its_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing here", encoding="utf-8")
    with pytest.raises(ValueError, match="model card"):
        write_card({}, tmp_path)
