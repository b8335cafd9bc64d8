"""What the benchmarks work on."""

import io
import itertools
import json

import numpy as np
import open_clip
import pytest
from PIL import Image
from safetensors.torch import load_file

from benchmarks import hf_clip
from benchmarks.plain import PlainOpenClip
from benchmarks.wire import picture_searches, text_searches
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.adapters.open_clip import load_image_tower
from tests.unit.adapters.tiny_checkpoints import COCA_CFG, MODEL_CFG, PREPROCESS_CFG, save_checkpoint

TINY = {**MODEL_CFG, "text_cfg": {**MODEL_CFG["text_cfg"], "layers": 1}}


def test_pictures_are_distinct_and_weigh_what_photographs_weigh():
    files = jpegs(3)
    assert len(set(files)) == 3
    assert all(40_000 < len(file) < 100_000 for file in files)
    assert {Image.open(io.BytesIO(file)).size for file in files} == {(500, 375)}


def test_texts_have_five_to_twelve_words_and_never_repeat():
    some = list(itertools.islice(texts(), 2_000))
    assert len(set(some)) == len(some)
    assert {len(text.split()) for text in some} == set(range(5, 13))
    assert some[:3] == list(itertools.islice(texts(), 3))


@pytest.fixture
def _tiny(monkeypatch):
    """The name `tiny` as an architecture of OpenCLIP."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", TINY)


@pytest.mark.usefixtures("_tiny")
def test_a_checkpoint_is_made_once_and_loads_by_the_product_and_by_open_clip(tmp_path):
    folder = checkpoint("tiny", folder=tmp_path)
    weights = (folder / "open_clip_model.safetensors").stat().st_mtime_ns
    assert checkpoint("tiny", folder=tmp_path) == folder
    assert (folder / "open_clip_model.safetensors").stat().st_mtime_ns == weights
    assert load_image_tower(model=f"local-dir:{folder}", device="cpu").card.dimension == 32
    assert PlainOpenClip(folder).encode_files(jpegs(2)).shape == (2, 32)


@pytest.fixture
def openai_like(tmp_path):
    """A tiny checkpoint that prepares pictures as CLIPImageProcessor can."""
    folder = save_checkpoint(tmp_path / "original", TINY)
    described = {"model_cfg": TINY, "preprocess_cfg": {**PREPROCESS_CFG, "resize_mode": "shortest"}}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    return folder


def test_a_converted_checkpoint_gives_the_same_vectors_by_transformers(openai_like, tmp_path):
    converted = hf_clip.convert(openai_like, tmp_path / "converted")
    words = ["a red boat", "two small birds above a wooden house", "Don't <shout>!"]
    differences = hf_clip.largest_difference(openai_like, converted, words)
    assert max(differences.values()) < 1e-5


def test_no_parameter_is_lost_in_the_conversion(openai_like, tmp_path):
    original = load_file(openai_like / "open_clip_model.safetensors")
    converted = load_file(hf_clip.convert(openai_like, tmp_path / "converted") / "model.safetensors")
    total = sum(value.numel() for name, value in original.items() if name != "attn_mask")
    assert sum(value.numel() for value in converted.values()) == total


def test_what_is_no_plain_clip_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path / "coca", COCA_CFG)
    with pytest.raises(ValueError, match="only CLIP with a ViT"):
        hf_clip.convert(folder, tmp_path / "converted")
    with pytest.raises(ValueError, match=r"no place for visual\.surprise"):
        list(hf_clip.clip_state({"visual.surprise": np.zeros(1)}))


def test_requests_are_what_the_service_takes():
    url = "http://127.0.0.1:1"
    head, _, body = next(text_searches(url, texts()).requests).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/search HTTP/1.1\r\n")
    assert set(json.loads(body)) == {"query"}
    head, _, body = next(picture_searches(url, jpegs(1)).requests).partition(b"\r\n\r\n")
    assert b"multipart/form-data" in head
    assert jpegs(1)[0] in body
    assert f"Content-Length: {len(body)}".encode() in head
