"""The towers give OpenCLIP's own vectors, with the model's own preprocessing, from weights that were really loaded."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from serve_app.adapters.open_clip import load_image_tower, load_text_tower, preprocessing_of_file, weight_packing
from serve_app.adapters.open_clip.hardware import chosen_precision
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.errors import InternalError, ModelUnavailable
from serve_app.types import Embedding, ItemFailure, Pixels
from tests.unit.adapters.tiny_checkpoints import (
    COCA_CFG,
    CUSTOM_CFG,
    MODEL_CFG,
    PREPROCESS_CFG,
    random_weights,
    save_checkpoint,
)

TEXTS = ["a red boat", "Two YELLOW trees in the snow!", "x", "", "a picture of a very long day " * 9, "Übung & 船 <3"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


def pictures(count: int, seed: int = 0) -> list[Pixels]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))


def vectors(results: list[Embedding | ItemFailure]) -> np.ndarray[Any, Any]:
    assert all(isinstance(each, Embedding) for each in results), results
    return np.stack([each.vector for each in results if isinstance(each, Embedding)])


def unit(features: torch.Tensor) -> np.ndarray[Any, Any]:
    return torch.nn.functional.normalize(features.float(), dim=-1).numpy()


def smallest_cosine(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    return float((ours * theirs).sum(1).min())


# --- the same vectors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_cfg", [MODEL_CFG, CUSTOM_CFG, COCA_CFG], ids=["CLIP", "CustomTextCLIP", "CoCa"])
def test_both_towers_give_openclips_own_vectors(tmp_path: Path, model_cfg: dict[str, Any]) -> None:
    name = f"local-dir:{save_checkpoint(tmp_path / 'model', model_cfg)}"
    reference, _, transform = open_clip.create_model_and_transforms(name)
    reference.eval()
    batch = pictures(5)
    with torch.inference_mode():
        to_tensor, normalise = transform.transforms[-2:]
        images = unit(reference.encode_image(torch.stack([normalise(to_tensor(each)) for each in batch])))
        texts = unit(reference.encode_text(open_clip.get_tokenizer(name)(TEXTS)))
    ours_image = vectors(load_image_tower(model=name, precision="float32", device="cpu").encode(batch))
    ours_text = vectors(load_text_tower(model=name, precision="float32", device="cpu").encode(TEXTS))
    assert smallest_cosine(ours_image, images) >= 0.99999
    assert smallest_cosine(ours_text, texts) >= 0.99999
    assert ours_image.dtype == ours_text.dtype == np.float32
    assert np.allclose(np.linalg.norm(np.concatenate([ours_image, ours_text]), axis=1), 1, atol=1e-6)


def test_from_a_file_to_a_vector_nothing_differs_from_openclip(checkpoint: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png")
    reference, _, transform = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    with torch.inference_mode():
        expected = unit(reference.eval().encode_image(transform(picture)[None]))
    tower = load_image_tower(model=f"local-dir:{checkpoint}", precision="float32", device="cpu")
    decoder = PictureDecoder(max_bytes=10**6, max_pixels=10**6, max_aspect_ratio=50)
    pixels = decoder.to_pixels((tmp_path / "a.png").read_bytes(), tower.card.preprocessing)
    assert smallest_cosine(vectors(tower.encode([pixels])), expected) >= 0.99999


def test_a_vector_does_not_depend_on_its_neighbours(checkpoint: Path) -> None:
    image = load_image_tower(model=f"local-dir:{checkpoint}", precision="float32")
    text = load_text_tower(model=f"local-dir:{checkpoint}", precision="float32")
    batch = pictures(8)
    assert np.allclose(vectors(image.encode(batch))[3], vectors(image.encode([batch[3]]))[0], atol=1e-6)
    assert np.allclose(vectors(text.encode(TEXTS))[1], vectors(text.encode([TEXTS[1]]))[0], atol=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_close_and_of_unit_length(checkpoint: Path, precision: str) -> None:
    name = f"local-dir:{checkpoint}"
    for exact, half, batch in (
        (
            load_image_tower(model=name, precision="float32"),
            load_image_tower(model=name, precision=precision),
            pictures(4),
        ),
        (load_text_tower(model=name, precision="float32"), load_text_tower(model=name, precision=precision), TEXTS),
    ):
        ours = vectors(half.encode(batch))  # type: ignore[arg-type]
        assert smallest_cosine(ours, vectors(exact.encode(batch))) >= 0.999  # type: ignore[arg-type]
        assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
        assert half.card.precision == precision
        assert half.card.fingerprint == exact.card.fingerprint


# --- what a replica holds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_cfg", [MODEL_CFG, CUSTOM_CFG, COCA_CFG], ids=["CLIP", "CustomTextCLIP", "CoCa"])
def test_each_tower_keeps_only_its_own_parameters(tmp_path: Path, model_cfg: dict[str, Any]) -> None:
    name = f"local-dir:{save_checkpoint(tmp_path / 'model', model_cfg)}"
    sizes = {key: value.numel() for key, value in open_clip.create_model(name).named_parameters()}
    visual = sum(size for key, size in sizes.items() if key.startswith("visual."))
    captioning = sum(size for key, size in sizes.items() if key.startswith("text_decoder."))
    image, text = load_image_tower(model=name), load_text_tower(model=name)
    assert sum(each.numel() for each in image.module.parameters()) == visual
    assert sum(each.numel() for each in text.module.parameters()) == sum(sizes.values()) - visual - captioning
    assert not image.module.training
    assert not text.module.training


def test_the_card_describes_the_model_and_names_no_folder(checkpoint: Path) -> None:
    card = load_text_tower(model=f"local-dir:{checkpoint}", device="cpu").card
    assert (card.model, card.pretrained, card.dimension, card.context_length) == ("local-dir:tiny", "", 32, 16)
    assert (card.device, card.precision) == ("cpu", chosen_precision("auto", "cpu"))
    assert card.preprocessing.resize_mode == "squash"
    assert card.preprocessing.interpolation == "bilinear"
    assert card.preprocessing.mean == (0.5, 0.4, 0.3)
    assert (card.preprocessing.height, card.preprocessing.width) == (32, 32)


def test_threads_are_set_for_the_process(checkpoint: Path) -> None:
    before = torch.get_num_threads()
    try:
        load_image_tower(model=f"local-dir:{checkpoint}", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


# --- bad items --------------------------------------------------------------------------------------------------------


def test_a_text_that_breaks_the_numbers_fails_alone(checkpoint: Path) -> None:
    tower = load_text_tower(model=f"local-dir:{checkpoint}")
    [zebra] = open_clip.SimpleTokenizer().encode("zebra")
    with torch.no_grad():
        tower.module.token_embedding.weight[zebra] = torch.nan
    results = tower.encode(["a boat", "a zebra", "a tree"])
    assert isinstance(results[0], Embedding)
    assert isinstance(results[2], Embedding)
    assert results[1] == ItemFailure("internal", "the model gave no finite vector for this item")


def test_pixels_of_another_shape_or_type_fail_alone(checkpoint: Path) -> None:
    tower = load_image_tower(model=f"local-dir:{checkpoint}", precision="float32")
    [good] = pictures(1)
    wrong: Any = [good[:31], good, good.astype(np.float32), good]
    results = tower.encode(wrong)
    assert [type(each) for each in results] == [ItemFailure, Embedding, ItemFailure, Embedding]
    assert np.allclose(vectors([results[1]]), vectors(tower.encode([good])), atol=1e-6)


def test_an_empty_batch_gives_an_empty_list(checkpoint: Path) -> None:
    assert load_image_tower(model=f"local-dir:{checkpoint}").encode([]) == []
    assert load_text_tower(model=f"local-dir:{checkpoint}").encode([]) == []


def test_a_tower_that_fails_as_a_whole_raises_our_error(checkpoint: Path) -> None:
    tower = load_image_tower(model=f"local-dir:{checkpoint}")
    tower.module.ln_pre.weight.data = tower.module.ln_pre.weight.data[:2]
    with pytest.raises(InternalError) as caught:
        tower.encode(pictures(1))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("load", [load_image_tower, load_text_tower])
def test_a_model_that_does_not_run_is_not_loaded(load: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fall_over(*_: Any, **__: Any) -> Any:
        raise RuntimeError("mat1 and mat2 must have the same dtype")

    monkeypatch.setattr(torch.nn.functional, "layer_norm", fall_over)
    with pytest.raises(ModelUnavailable, match="does not run in float32: mat1 and mat2 must have the same dtype"):
        load(model=f"local-dir:{checkpoint}", precision="float32", device="cpu")


def test_truncation_is_told_for_each_text(checkpoint: Path) -> None:
    tower = load_text_tower(model=f"local-dir:{checkpoint}")
    results = tower.encode(["short", "one two three " * 10, "b" * 40_000, "short again"])
    assert [each.truncated for each in results if isinstance(each, Embedding)] == [False, True, True, False]


# --- the fingerprint --------------------------------------------------------------------------------------------------


def test_both_towers_of_a_checkpoint_have_one_fingerprint_wherever_it_lies(checkpoint: Path, tmp_path: Path) -> None:
    copy = save_checkpoint(tmp_path / "copy")
    found = {
        load_image_tower(model=f"local-dir:{checkpoint}").card.fingerprint,
        load_text_tower(model=f"local-dir:{checkpoint}").card.fingerprint,
        load_text_tower(model=f"local-dir:{copy}").card.fingerprint,
    }
    assert len(found) == 1
    assert len(found.pop()) == 64


def test_weights_preprocessing_architecture_and_tokeniser_change_the_fingerprint(
    checkpoint: Path, tmp_path: Path
) -> None:
    base = load_image_tower(model=f"local-dir:{checkpoint}").card.fingerprint
    found = {base}
    found.add(load_image_tower(model=f"local-dir:{save_checkpoint(tmp_path / 'seed', seed=1)}").card.fingerprint)
    changes: list[tuple[str, str, Any]] = [
        ("preprocess_cfg", "resize_mode", "shortest"),
        ("preprocess_cfg", "mean", [0.1, 0.1, 0.1]),
        ("model_cfg", "quick_gelu", True),
        ("model_cfg", "text_cfg", {**MODEL_CFG["text_cfg"], "tokenizer_kwargs": {"clean": "whitespace"}}),
    ]
    for number, (section, key, value) in enumerate(changes):
        folder = save_checkpoint(tmp_path / str(number))
        config = json.loads((folder / "open_clip_config.json").read_text())
        config[section][key] = value
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        found.add(load_image_tower(model=f"local-dir:{folder}").card.fingerprint)
    assert len(found) == len(changes) + 2


# --- an architecture and a file ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny architecture in OpenCLIP's own registry, without tags."""
    folder = tmp_path_factory.mktemp("architectures")
    (folder / "tiny-SigLIP-of-the-tests.json").write_text(json.dumps(MODEL_CFG))
    open_clip.add_model_config(folder)
    return "tiny-SigLIP-of-the-tests"


def test_a_bare_file_is_prepared_by_the_config_beside_it_not_by_openais_values(
    architecture: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_packing, "pays_here", lambda _: False)  # both alike, whatever the machine does meanwhile
    file = str(checkpoint / "open_clip_model.safetensors")
    bare = load_image_tower(model=architecture, pretrained=file)
    whole = load_image_tower(model=f"local-dir:{checkpoint}")
    assert bare.card.preprocessing == whole.card.preprocessing
    assert bare.card.fingerprint == whole.card.fingerprint
    assert (bare.card.model, bare.card.pretrained) == (architecture, "open_clip_model.safetensors")
    assert np.array_equal(vectors(bare.encode(pictures(2))), vectors(whole.encode(pictures(2))))


def test_a_pickled_state_dict_is_read_as_weights_only(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}, "preprocess_cfg": PREPROCESS_CFG}))
    torch.save({"state_dict": random_weights(MODEL_CFG)}, tmp_path / "model.pt")
    assert load_image_tower(model=architecture, pretrained=str(tmp_path / "model.pt")).card.dimension == 32


class Hostile:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._mark,))


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {}, "preprocess_cfg": PREPROCESS_CFG}))
    torch.save(Hostile(tmp_path / "mark"), tmp_path / "model.pt")
    with pytest.raises(ModelUnavailable):
        load_image_tower(model=architecture, pretrained=str(tmp_path / "model.pt"))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("model", "mean", "interpolation", "resize_mode"),
    [
        ("ViT-B-16-SigLIP", 0.5, "bicubic", "squash"),
        ("ViT-B-16-SigLIP2", 0.5, "bicubic", "squash"),
        ("PE-Core-T-16-384", 0.5, "bilinear", "squash"),
        ("MobileCLIP-S1", 0.0, "bilinear", "shortest"),
        ("ViT-B-32", 0.48145466, "bicubic", "shortest"),
    ],
)
def test_a_bare_file_of_a_family_is_prepared_as_all_its_tags_say(
    tmp_path: Path, model: str, mean: float, interpolation: str, resize_mode: str
) -> None:
    way = preprocessing_of_file(model, tmp_path / "weights.safetensors")
    assert (way["mean"][0], way["interpolation"], way["resize_mode"]) == (mean, interpolation, resize_mode)


def test_where_the_tags_disagree_the_name_of_the_file_decides_or_nobody(tmp_path: Path) -> None:
    assert preprocessing_of_file("ViT-L-14", tmp_path / "laion2b_s32b_b82k.safetensors")["mean"][0] == 0.5
    openai = tmp_path / "vit-l-14-openai.safetensors"
    assert preprocessing_of_file("ViT-L-14-quickgelu", openai)["mean"][0] == 0.48145466
    with pytest.raises(ModelUnavailable, match="QuickGELU"):
        preprocessing_of_file("ViT-L-14", openai)
    with pytest.raises(ModelUnavailable, match=r"open_clip_config\.json"):
        preprocessing_of_file("ViT-L-14", tmp_path / "my.safetensors")
    with pytest.raises(ModelUnavailable, match=r"open_clip_config\.json"):
        preprocessing_of_file("ViT-S-32", tmp_path / "my.safetensors")


# --- what is missing is said ------------------------------------------------------------------------------------------


def refusal(**arguments: Any) -> str:
    messages = []
    for load in (load_image_tower, load_text_tower):
        with pytest.raises(ModelUnavailable) as caught:
            load(**arguments)
        messages.append(caught.value.message)
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    return messages[0]


def test_missing_weights_are_an_error_never_a_random_model(tmp_path: Path, architecture: str) -> None:
    folder = save_checkpoint(tmp_path / "empty")
    (folder / "open_clip_model.safetensors").unlink()
    assert "holds no weights" in refusal(model=f"local-dir:{folder}")
    assert "needs `pretrained`" in refusal(model="ViT-B-32")
    assert "laion2b_s34b_b79k" in refusal(model="ViT-B-32", pretrained="no-such-tag")
    assert "neither a file nor" in refusal(model=architecture, pretrained=str(tmp_path / "nothing.safetensors"))


def test_weights_of_another_model_or_cut_off_are_refused(tmp_path: Path, architecture: str) -> None:
    folder = save_checkpoint(tmp_path / "model")
    file = folder / "open_clip_model.safetensors"
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["layers"] = 3
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert "missing visual.transformer.resblocks.2.ln_1.weight" in refusal(model=f"local-dir:{folder}")
    config["model_cfg"]["vision_cfg"]["layers"] = 1
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert "unexpected visual.transformer.resblocks.1." in refusal(model=f"local-dir:{folder}")
    config["model_cfg"]["vision_cfg"].update(layers=2, mlp_ratio=2)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert "of another shape visual.transformer.resblocks.0.mlp" in refusal(model=f"local-dir:{folder}")
    file.write_bytes(file.read_bytes()[:1000])
    refusal(model=f"local-dir:{folder}")


def test_weights_with_another_sha256_are_refused(checkpoint: Path) -> None:
    digest = hashlib.sha256((checkpoint / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert load_image_tower(model=f"local-dir:{checkpoint}", sha256=digest.upper()).card.dimension == 32
    assert digest in refusal(model=f"local-dir:{checkpoint}", sha256="0" * 64)


def test_what_cannot_be_found_or_run_is_said_in_one_sentence(tmp_path: Path, architecture: str) -> None:
    assert "open_clip_config.json" in refusal(model=f"local-dir:{tmp_path / 'nowhere'}")
    assert "no such architecture" in refusal(model="ViT-Z-99", pretrained="openai")
    assert "QuickGELU" in refusal(model="ViT-B-32", pretrained="openai")
    folder = save_checkpoint(tmp_path / "numpy")
    (folder / "weights.npz").write_bytes(b"")
    assert "safetensors" in refusal(model=architecture, pretrained=str(folder / "weights.npz"))
    assert "precision" in refusal(model=f"local-dir:{folder}", precision="int3")
    assert str(tmp_path) not in refusal(model=f"local-dir:{tmp_path / 'nowhere'}")
