"""The arithmetic against plain NumPy, loop by loop, and against OpenCLIP's own classifier on a small model."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from serve_app.core.zero_shot import probabilities, prompts_of, prototypes
from serve_app.types import FloatMatrix
from tests.unit.adapters.tiny_checkpoints import save_checkpoint

LABELS = ("boat", "red cat", "house at night")
TEMPLATES = ("a photo of a {}.", "{}", "many {}, far away")


def random_units(count: int, dimension: int = 32, seed: int = 0) -> FloatMatrix:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_every_template_takes_every_label_and_nothing_else_is_read_in_braces() -> None:
    assert prompts_of(["a", "{b}"], ["{}", "{x} {}"]) == ["a", "{x} a", "{b}", "{x} {b}"]


def test_a_prototype_is_the_unit_mean_of_its_prompts() -> None:
    vectors = random_units(12)
    for label, prototype in enumerate(prototypes(vectors, 4)):
        mean = sum(vectors[4 * label + at].astype(np.float64) for at in range(4)) / 4
        np.testing.assert_allclose(prototype, mean / np.sqrt(np.sum(mean * mean)), atol=1e-7)


def test_with_one_template_the_prototypes_are_the_vectors() -> None:
    np.testing.assert_allclose(prototypes(random_units(5), 1), random_units(5), atol=1e-7)


def test_softmax_agrees_with_the_plain_computation() -> None:
    pictures, labels = random_units(3, seed=1), random_units(4, seed=2)
    given = probabilities(pictures, labels, 100.0, None)
    for picture, row in zip(pictures, given, strict=True):
        powers = [np.exp(100.0 * float(np.dot(picture, label))) for label in labels]
        np.testing.assert_allclose(row, [power / sum(powers) for power in powers], rtol=1e-4)
    assert given.dtype == np.float32


def test_sigmoid_agrees_with_the_plain_computation() -> None:
    pictures, labels = random_units(3, seed=1), random_units(4, seed=2)
    given = probabilities(pictures, labels, 112.0, -16.5)
    for picture, row in zip(pictures, given, strict=True):
        plain = [1 / (1 + np.exp(-(112.0 * float(np.dot(picture, label)) - 16.5))) for label in labels]
        np.testing.assert_allclose(row, plain, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("bias", [None, 0.0, -1e4])
def test_no_scale_is_so_large_that_a_number_overflows(bias: float | None) -> None:
    given = probabilities(random_units(2), random_units(3, seed=3), 1e5, bias)
    assert np.isfinite(given).all()
    assert (given >= 0).all()
    assert (given <= 1).all()


def test_the_same_labels_and_pictures_as_openclips_own_classifier(tmp_path: Path) -> None:
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{save_checkpoint(tmp_path)}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    theirs = open_clip.build_zero_shot_classifier(
        model, tokenizer, LABELS, [lambda label, text=text: text.replace("{}", label) for text in TEMPLATES]
    )
    with torch.inference_mode():
        texts = model.encode_text(tokenizer(prompts_of(LABELS, TEMPLATES)), normalize=True).numpy()
        pictures = model.encode_image(torch.rand(4, 3, 32, 32), normalize=True)
        scores = (model.logit_scale.exp() * pictures @ theirs).softmax(dim=-1)
    ours = prototypes(texts, len(TEMPLATES))
    np.testing.assert_allclose(ours, theirs.T.numpy(), atol=1e-6)
    given = probabilities(pictures.numpy(), ours, float(model.logit_scale.detach().exp()), None)
    np.testing.assert_allclose(given, scores.numpy(), atol=1e-5)
