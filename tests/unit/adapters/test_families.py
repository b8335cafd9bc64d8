"""Every family loads, one tower at a time, offline, with OpenCLIP's own modules, values and types."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional

from serve_app.adapters.checkpoint import weights_among
from serve_app.adapters.open_clip import load_image_tower, load_text_tower, towers, weight_packing
from serve_app.adapters.open_clip.building import load_tower
from serve_app.adapters.open_clip.finding import find
from serve_app.adapters.open_clip.loading import sharing_tables, tokenizer_of
from serve_app.errors import ModelUnavailable
from tests.unit.adapters.tiny_checkpoints import FAMILIES, HF_FAMILIES, local, save_checkpoint

TEXTS = ["a red boat", "Two YELLOW trees in the snow!", "", "a picture of a very long day " * 9, "Übung & 船 <3"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each family."""
    root = tmp_path_factory.mktemp("families")
    return {name: save_checkpoint(root / name, model_cfg) for name, model_cfg in FAMILIES.items()}


class Connections:
    """Notes every name looked up and every connection made by this process while it is `on`."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._note)  # an audit hook stays for the life of the process

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in ("socket.connect", "socket.getaddrinfo"):
            self.seen.append(f"{event} {arguments[-1 if event == 'socket.connect' else 0]}")


CONNECTIONS = Connections()


def reference(folder: Path, family: str, precision: str = "fp32") -> Any:
    """OpenCLIP's own create_model, told of the text tower's config by its path, since it knows no other way offline."""
    config = json.loads((folder / "open_clip_config.json").read_text())
    beside = folder.with_name(f"{folder.name} for OpenCLIP")
    if not beside.exists():
        beside.mkdir()
        for file in folder.iterdir():
            (beside / file.name).symlink_to(file)
        (beside / "open_clip_config.json").unlink()
        config["model_cfg"] = local(FAMILIES[family], folder)
        (beside / "open_clip_config.json").write_text(json.dumps(config))
    return open_clip.create_model(f"local-dir:{beside}", precision=precision, require_pretrained=True).eval()


def values(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers, also those that no checkpoint holds."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_tower_is_openclips_bit_for_bit(folders: dict[str, Path], family: str, precision: str) -> None:
    theirs = reference(folders[family], family, precision)
    if precision == "bf16" and family in HF_FAMILIES:
        theirs.text.to(torch.bfloat16)  # see building.build: as OpenCLIP leaves it, it does not run
    if precision == "bf16" and family == "CoCa":
        own = [
            theirs.text.cls_emb,
            *(each for name, each in theirs.visual.named_parameters() if name.endswith("query")),
        ]
        for each in own:
            each.data = each.data.to(torch.bfloat16)
    if precision == "bf16" and family not in HF_FAMILIES:
        getattr(theirs, "text", theirs).token_embedding.to(torch.bfloat16)
    theirs_visual, theirs_text = values(theirs.visual), values(theirs)
    checkpoint = find(f"local-dir:{folders[family]}", None)
    image, _ = load_tower(checkpoint, "image", precision, "cpu")
    assert_same(values(image.visual), theirs_visual)
    text, _ = load_tower(checkpoint, "text", precision, "cpu")
    other = ("visual.", "text_decoder.")
    assert_same(
        {name: value for name, value in values(text).items() if not name.startswith(other)},
        {name: value for name, value in theirs_text.items() if not name.startswith(other)},
    )


@pytest.mark.parametrize(
    "family", sorted(FAMILIES.keys() - HF_FAMILIES - {"CoCa"})
)  # OpenCLIP does not run these in bfloat16
@torch.inference_mode()
def test_embeddings_of_tokens_rounded_at_once_give_the_same_bits(folders: dict[str, Path], family: str) -> None:
    tokens = open_clip.get_tokenizer(f"local-dir:{folders[family]}")(TEXTS)
    ours, _ = load_tower(find(f"local-dir:{folders[family]}", None), "text", "bf16", "cpu")
    assert torch.equal(ours.encode_text(tokens), reference(folders[family], family, "bf16").encode_text(tokens))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_loaded_without_a_look_at_the_network(folders: dict[str, Path], family: str) -> None:
    CONNECTIONS.seen.clear()
    CONNECTIONS.on = True
    try:
        image = load_image_tower(model=f"local-dir:{folders[family]}", device="cpu")
        text = load_text_tower(model=f"local-dir:{folders[family]}", device="cpu")
        text.encode(TEXTS)
    finally:
        CONNECTIONS.on = False
    assert CONNECTIONS.seen == []
    # `auto` may choose another precision for either tower.
    assert image.card == replace(text.card, precision=image.card.precision)


def vectors(folder: Path, precision: str) -> Any:
    """Of one picture and of the texts, [n, dimension]."""
    image = load_image_tower(model=f"local-dir:{folder}", precision=precision, device="cpu")
    size = image.card.preprocessing.height, image.card.preprocessing.width
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    text = load_text_tower(model=f"local-dir:{folder}", precision=precision, device="cpu")
    return np.stack([each.vector for each in (*image.encode([picture]), *text.encode(TEXTS))])  # type: ignore[union-attr]


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_are_given_one_type_alone_as_a_gpu_demands(
    folders: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalised = []

    def of_one_type(features: Any, shape: Any, weight: Any = None, *rest: Any, of: Any = functional.layer_norm) -> Any:
        assert weight is None or features.dtype == weight.dtype
        normalised.append(1)
        return of(features, shape, weight, *rest)

    monkeypatch.setattr(functional, "layer_norm", of_one_type)
    monkeypatch.setattr(towers, "use_cpu_layers", lambda _: None)
    vectors(folders[family], "bfloat16")
    assert normalised


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_weights_change_no_vector(
    folders: dict[str, Path], family: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_packing, "pays_here", lambda _: False)
    plain = vectors(folders[family], precision)
    multiplied = []
    monkeypatch.setattr(weight_packing, "pays_here", lambda _: True)
    monkeypatch.setattr(
        weight_packing, "product", lambda *given, of=weight_packing.product: multiplied.append(1) or of(*given)
    )
    packed = vectors(folders[family], precision)
    assert multiplied
    if precision == "float32":
        assert np.abs(packed - plain).max() <= 1e-6
    assert (packed * plain).sum(axis=1).min() >= (0.99999 if precision == "float32" else 0.9995)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokeniser_is_the_models_own(folders: dict[str, Path], family: str) -> None:
    ours = tokenizer_of(find(f"local-dir:{folders[family]}", None))
    theirs = open_clip.get_tokenizer(f"local-dir:{folders[family]}")
    assert type(ours) is type(theirs)
    assert torch.equal(ours(TEXTS), theirs(TEXTS))


def test_a_simple_tokeniser_shares_the_tables_of_openclips_own(folders: dict[str, Path]) -> None:
    ours = tokenizer_of(find(f"local-dir:{folders['CLIP']}", None))
    assert ours is not open_clip.tokenizer._tokenizer
    assert ours.encoder is open_clip.tokenizer._tokenizer.encoder
    assert ours.bpe_ranks is open_clip.tokenizer._tokenizer.bpe_ranks


def test_one_with_more_special_tokens_keeps_its_own_tables() -> None:
    ours = sharing_tables(open_clip.SimpleTokenizer(additional_special_tokens=["<a_picture>"]))
    assert ours.encoder["<a_picture>"] == ours.all_special_ids[-1] == 49408
    assert "<a_picture>" not in open_clip.tokenizer._tokenizer.encoder


@pytest.mark.parametrize("family", ["CLIP", "SigLIP", "EVA02", "XLM-RoBERTa"])
def test_the_scale_is_the_checkpoints_whatever_the_precision(folders: dict[str, Path], family: str) -> None:
    theirs = reference(folders[family], family)
    for precision in ("float32", "bfloat16"):
        card = load_image_tower(model=f"local-dir:{folders[family]}", precision=precision, device="cpu").card
        assert card.logit_scale == float(theirs.logit_scale.detach().exp())
        assert card.logit_bias == (None if theirs.logit_bias is None else float(theirs.logit_bias.detach()))


def test_the_other_tower_is_left_in_the_file(folders: dict[str, Path]) -> None:
    checkpoint = find(f"local-dir:{folders['CLIP']}", None)
    model, _ = load_tower(checkpoint, "image", "fp32", "cpu")
    assert lies_in(checkpoint.weights, model.token_embedding.weight)
    assert not lies_in(checkpoint.weights, model.visual.conv1.weight)


def lies_in(file: Path, tensor: torch.Tensor) -> bool:
    """Whether the tensor is a view of the mapped file."""
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(file))]
    ranges = [[int(end, 16) for end in fields[0].split("-")] for fields in maps]
    return any(begin <= tensor.data_ptr() < end for begin, end in ranges)


@pytest.mark.parametrize(
    "names",
    [
        ["a.bin", "b.safetensors", "model.pth"],
        ["z.pth", "a.bin"],
        ["x.safetensors", "open_clip_model.safetensors"],
        ["notes.md"],
    ],
)
def test_of_several_files_openclips_choice_is_taken(tmp_path: Path, names: list[str]) -> None:
    from open_clip.factory import _find_checkpoint_in_dir as theirs

    for name in names:
        (tmp_path / name).touch()
    found = theirs(tmp_path)
    assert weights_among(names) == (Path(found).name if found else None)


def test_a_text_tower_without_its_config_or_tokeniser_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", FAMILIES["XLM-RoBERTa"])
    config = (folder / "config.json").read_text()
    (folder / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"holds no file config\.json of xlm-roberta-base"):
        load_image_tower(model=f"local-dir:{folder}")
    for wrong in ({"model_type": "clip"}, {**json.loads(config), "auto_map": {"AutoModel": "theirs.Model"}}):
        (folder / "config.json").write_text(json.dumps(wrong))
        with pytest.raises(ModelUnavailable, match="no text tower that OpenCLIP knows"):
            load_text_tower(model=f"local-dir:{folder}")
    (folder / "config.json").write_text(config)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelUnavailable, match=r"holds no file .* of xlm-roberta-base"):
        load_image_tower(model=f"local-dir:{folder}")
