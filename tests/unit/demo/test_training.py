"""Training: a few steps of a tiny model learn, and a stopped run goes on where it stopped."""

import io
import json
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from rich.console import Console

from serve_app.demo import network
from serve_app.demo.scenes import Scene, Thing
from serve_app.demo.train import Recipe, picture_labels, ranks, train

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


def recipe(steps: int) -> Recipe:
    return Recipe(
        steps=steps,
        batch_families=4,
        pool_families=16,
        learning_rate=1e-2,
        warmup_steps=2,
        watched=8,
        threads=1,
        model_cfg=TINY,
    )


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def test_a_few_steps_lower_the_loss_and_a_stopped_run_goes_on(folder: Path) -> None:
    first = train(recipe(5), folder, quiet())
    second = train(recipe(40), folder, quiet())
    assert (first.step, second.step) == (5, 40)
    assert [round(entry["step"]) for entry in second.history] == [5, 40]
    assert second.history[-1]["loss"] < first.history[-1]["loss"]

    # What it wrote is a checkpoint that plain OpenCLIP reads.
    model, transform, tokenise = network.load(folder / "model")
    assert json.loads((folder / "model" / "open_clip_config.json").read_text())["model_cfg"] == TINY
    assert transform(Image.new("RGB", (90, 50))).shape == (3, 16, 16)
    assert torch.isfinite(model.encode_text(tokenise(["a red boat"]))).all()  # type: ignore[operator]


def test_trimmed_texts_give_the_vectors_of_whole_ones() -> None:
    torch.manual_seed(0)
    model = network.build(TINY).eval()
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=40)(["a boat", "two red boats on the beach"])
    with torch.no_grad():
        whole = model.encode_text(tokens)  # type: ignore[operator]
        assert torch.allclose(network.encode_text_trimmed(model, tokens), whole, atol=1e-5)


def test_ties_count_against_the_right_answer() -> None:
    assert ranks(torch.tensor([[1.0, 1.0], [0.0, 2.0]])).tolist() == [1, 0]


def test_labels_do_not_depend_on_how_a_pair_is_told() -> None:
    boat, tree = Thing("red", "boat"), Thing("green", "tree")
    said = Scene(boat, 1, "sea", "day", "clear", "below", tree)
    turned = Scene(tree, 1, "sea", "day", "clear", "above", boat)
    assert picture_labels(said) == picture_labels(turned)
