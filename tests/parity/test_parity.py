"""Each family gives OpenCLIP's own pixels and vectors: a tiny model of every kind, and the smallest true architectures.

`make parity` does the same for all families at their true sizes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.parity import TEXTS, Row, Tower, by_open_clip, compare, differing, make_inputs, run, tower
from benchmarks.random_checkpoints import write_checkpoint
from tests.unit.adapters.tiny_checkpoints import FAMILIES, PREPROCESS_CFG, local, save_checkpoint

EVERY_FAMILY = pytest.mark.parametrize("family", sorted(FAMILIES))
# Drawn values tell inputs apart; a tiny model with parts of Hugging Face's has them from tiny_checkpoints alone.
DRAWN = sorted(
    name for name, cfg in FAMILIES.items() if not {"hf_model_name", "hf_tokenizer_name"} & cfg["text_cfg"].keys()
)
EXACT = Tower(cosine=1.0, largest_difference=0.0, alone=1.0, strangers=0.5, of_open_clip=None)


def saved(folder: Path, model_cfg: dict[str, Any]) -> str:
    """The name of a tiny checkpoint that OpenCLIP, too, loads without asking the hub for its text tower's config."""
    save_checkpoint(folder, model_cfg)
    config = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({**config, "model_cfg": local(model_cfg, folder)}))
    return f"local-dir:{folder}"


def compared(name: str) -> dict[str, Any]:
    """The figures of a row in float32."""
    inputs = make_inputs(compared=len(TEXTS), batch=16)
    return compare(name, inputs, "cpu", "float32", by_open_clip(name, inputs, "cpu", "float32"))


@EVERY_FAMILY
def test_a_tiny_model_of_the_family_gives_openclips_pixels_and_vectors(family: str, tmp_path: Path) -> None:
    figures = compared(saved(tmp_path / "tiny", FAMILIES[family]))
    assert figures["differing_pixels"] == 0
    for side in (figures["image"], figures["text"]):
        assert min(side.cosine, side.alone) >= 0.99999


@pytest.mark.parametrize("family", DRAWN)
def test_a_tiny_model_that_tells_inputs_apart_passes_as_a_row(family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tiny", FAMILIES[family], PREPROCESS_CFG)
    figures = compared(f"local-dir:{tmp_path / 'tiny'}")
    assert Row("tiny", "cpu", "float32", **figures).passed, figures


@pytest.mark.parametrize("architecture", ["MobileCLIP2-S0", "PE-Core-T-16-384"])
def test_a_true_architecture_passes(architecture: str) -> None:
    (row,) = run(architecture, "cpu", ["float32"])
    assert row.passed, row


def test_a_row_fails_where_pixels_or_vectors_differ_or_all_inputs_look_alike() -> None:
    def passed(image: Tower = EXACT, *, differing_pixels: int = 0, precision: str = "float32") -> bool:
        return Row("m", "cpu", precision, differing_pixels=differing_pixels, image=image, text=EXACT).passed

    assert passed()
    assert not passed(differing_pixels=1)
    assert not passed(Tower(0.9999, 0.1, 1.0, 0.5, None))
    assert not passed(Tower(1.0, 0.0, 0.9999, 0.5, None))
    assert not passed(Tower(1.0, 0.0, 1.0, 0.999, None))
    assert not Row("m", "cpu", "float32", failure="RuntimeError: no").passed


def test_half_precision_may_lose_what_openclip_loses_and_no_more() -> None:
    def passed(cosine: float, of_open_clip: float) -> bool:
        image = Tower(cosine, 0.0, 1.0, 0.5, of_open_clip)
        return Row("m", "cpu", "bfloat16", image=image, text=EXACT).passed

    assert passed(0.9996, of_open_clip=0.9999)
    assert not passed(0.9990, of_open_clip=0.9999)
    assert passed(0.9901, of_open_clip=0.9900)
    assert passed(0.9896, of_open_clip=0.9900), "kernels round in another order: a twentieth more"
    assert not passed(0.9894, of_open_clip=0.9900)


def test_the_figures_of_a_tower_are_smallest_and_largest_cosines() -> None:
    theirs = np.eye(3, dtype=np.float32)
    ours = theirs[[0, 1, 1]]
    found = tower(theirs, ours, ours, None)
    assert (found.cosine, found.largest_difference, found.alone, found.strangers) == (0.0, 1.0, 1.0, 0.0)


def test_differing_pixels_are_counted_once_whatever_the_channel() -> None:
    white = np.full((4, 5, 3), 255, dtype=np.uint8)
    spoiled = white.copy()
    spoiled[1, 2] = 0
    spoiled[3, 3, 1] = 0
    assert differing(white, white) == 0
    assert differing(spoiled, white) == 2
    assert differing(white[:2], white) == 10
