"""What makes towers fast changes no vector: cutting and packing texts, other layers, staging, padding to compiled sizes."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock

from serve_app.adapters.open_clip import load_image_tower, load_text_tower
from serve_app.adapters.open_clip.attention import use_contiguous_attention
from serve_app.adapters.open_clip.branches import merge_branches
from serve_app.adapters.open_clip.cpu_layers import PatchProduct, use_cpu_layers
from serve_app.adapters.open_clip.fastest import Fastest, Way, padded, sizes_up_to
from serve_app.adapters.open_clip.hardware import chosen_device, chosen_precision
from serve_app.adapters.open_clip.last_block import ClassTokenBlock, read_at, use_class_token_block
from serve_app.adapters.open_clip.loading import loses_in_half_precision
from serve_app.adapters.open_clip.sequence_packing import PackedTexts, mask_of, packed_texts
from serve_app.adapters.open_clip.trimming import causal_part, groups_of, lengths_of
from serve_app.errors import ModelUnavailable
from serve_app.types import Embedding, ItemFailure
from tests.unit.adapters.tiny_checkpoints import COCA_CFG, CUSTOM_CFG, MODEL_CFG, save_checkpoint

TEXTS = ["a red boat", "x", "two yellow trees in the snow at night", "", "a picture of a very long day " * 9, "a cat"]
BOTH_WAYS_CFG: dict[str, Any] = {
    **MODEL_CFG,
    "custom_text": True,
    "text_cfg": {**MODEL_CFG["text_cfg"], "no_causal_mask": True, "pool_type": "last"},
}
END_ID_CFG: dict[str, Any] = {
    **CUSTOM_CFG,
    "text_cfg": {**MODEL_CFG["text_cfg"], "pool_type": "eos", "eos_id": 49407},
}


def vectors(results: list[Embedding | ItemFailure]) -> np.ndarray[Any, Any]:
    return np.stack([each.vector for each in results if isinstance(each, Embedding)])


# --- the length of texts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_cfg", "is_cut"),
    [(MODEL_CFG, True), (CUSTOM_CFG, True), (END_ID_CFG, True), (COCA_CFG, False), (BOTH_WAYS_CFG, False)],
    ids=["CLIP", "CustomTextCLIP", "end by id", "CoCa", "both ways"],
)
def test_cut_texts_have_the_vectors_of_padded_ones(tmp_path: Path, model_cfg: dict[str, Any], is_cut: bool) -> None:
    name = f"local-dir:{save_checkpoint(tmp_path / 'model', model_cfg)}"
    reference = open_clip.create_model(name).eval()
    assert (causal_part(reference) is not None) is is_cut
    with torch.inference_mode():
        features = reference.encode_text(open_clip.get_tokenizer(name)(TEXTS))
    plain = torch.nn.functional.normalize(features, dim=-1).numpy()
    ours = vectors(load_text_tower(model=name, precision="float32", device="cpu").encode(TEXTS))
    assert np.abs(ours - plain).max() <= 1e-6


def test_the_tokens_that_were_read_are_told(tmp_path: Path) -> None:
    tower = load_text_tower(model=f"local-dir:{save_checkpoint(tmp_path / 'model')}", device="cpu")
    read = [each.tokens for each in tower.encode(TEXTS) if isinstance(each, Embedding)]
    assert read == [5, 3, 10, 2, 16, 4]


def test_a_tower_is_read_at_its_first_end_token() -> None:
    tokens = np.array([[7, 3, 9, 0, 0], [7, 9, 0, 0, 0]], np.int64)
    assert lengths_of(tokens, "highest") == [3, 2]
    assert lengths_of(tokens, 3) == [2, 1]


def test_short_texts_go_apart_from_long_ones_once_the_device_is_busy() -> None:
    assert groups_of([5, 70, 5, 6, 5], enough_tokens=15) == [[0, 2, 4], [3, 1]]
    assert groups_of([5, 70, 5], enough_tokens=1000) == [[0, 2, 1]]
    assert groups_of([], enough_tokens=10) == []


def test_texts_share_sequences_and_lose_nothing() -> None:
    tokens = np.arange(1, 101, dtype=np.int64).reshape(4, 25)
    lengths = [20, 3, 24, 10]
    packed = packed_texts(tokens, lengths)
    assert packed.tokens.shape == (2, 48)
    for text, length in enumerate(lengths):
        path = packed.paths[text]
        assert packed.tokens.flatten()[path].tolist() == tokens[text, :length].tolist()
        assert packed.positions.flatten()[path].tolist() == list(range(length))
        assert packed.ends[text] == path[-1]
    assert len(set(np.concatenate(packed.paths).tolist())) == (packed.tokens > 0).sum() == sum(lengths)


def test_texts_that_begin_alike_share_their_beginning() -> None:
    rows = np.array([[1, 5, 6, 7, 2], [1, 5, 8, 2, 0], [1, 5, 6, 9, 2], [1, 2, 0, 0, 0], [1, 5, 8, 2, 0]], np.int64)
    lengths = [5, 4, 5, 2, 4]
    packed = packed_texts(rows, lengths)
    assert packed.tokens.tolist() == [[1, 5, 6, 7, 2, 9, 2, 8, 2, 2]]
    assert [path.tolist() for path in packed.paths] == [
        [0, 1, 2, 3, 4],
        [0, 1, 7, 8],
        [0, 1, 2, 5, 6],
        [0, 9],
        [0, 1, 7, 8],
    ]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 3, 4, 2, 3, 1]]
    seen = mask_of(packed, torch.float32)[0, 0] == 0
    assert seen.nonzero()[:, 0].bincount().tolist() == [1, 2, 3, 4, 5, 4, 5, 3, 4, 2]
    assert seen[6].nonzero().flatten().tolist() == [0, 1, 2, 5, 6]


def test_texts_that_begin_alike_travel_together() -> None:
    rows = np.concatenate(
        [np.full((6, 40), begin, np.int64) + (np.arange(40) >= 30) * np.arange(6)[:, None] for begin in (1, 100)]
    )
    packed = packed_texts(rows[[0, 6, 1, 7]], [40] * 4)
    assert packed.tokens.shape == (4, 48), "no room for ten more"
    packed = packed_texts(rows[[0, 6, 1, 7]], [36] * 4)
    assert [path[0] // 48 for path in packed.paths] == [0, 1, 0, 1]
    assert packed.tokens.shape == (2, 48)


def test_a_token_sees_its_own_text_up_to_itself() -> None:
    packed = packed_texts(np.array([[1, 2, 0], [3, 4, 5]], np.int64), [2, 3])
    assert packed.tokens.tolist() == [[3, 4, 5, 1, 2]]
    seen = (mask_of(packed, torch.float32)[0, 0] == 0).int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]


def test_padding_attends_to_itself_alone() -> None:
    packed = packed_texts(np.arange(1, 81, dtype=np.int64).reshape(2, 40), [40, 30])
    seen = mask_of(packed, torch.float32)[1, 0] == 0
    assert seen[30:].nonzero().tolist() == [[at, at + 30] for at in range(18)]


@pytest.mark.parametrize("model_cfg", [MODEL_CFG, CUSTOM_CFG, END_ID_CFG], ids=["CLIP", "CustomTextCLIP", "end by id"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_text_has_the_same_vector_among_others(tmp_path: Path, model_cfg: dict[str, Any], precision: str) -> None:
    tower = load_text_tower(
        model=f"local-dir:{save_checkpoint(tmp_path / 'model', model_cfg)}", precision=precision, device="cpu"
    )
    texts = [" ".join(TEXTS[0].split() * (at % 7)) + f" {at}" for at in range(40)]
    together = tower.stage(texts)
    assert isinstance(together.groups[0][1].tensor, PackedTexts)
    assert len(together.groups[0][1].tensor.tokens) < len(texts) / 2
    alone = np.concatenate([vectors(tower.encode([text])) for text in texts])
    cosines = (vectors(tower.compute(together)) * alone).sum(axis=1)
    assert cosines.min() >= (0.999999 if precision == "float32" else 0.9995)


def test_patches_are_multiplied_as_they_are_convolved() -> None:
    torch.manual_seed(0)
    for bias in (True, False):
        plain = torch.nn.Conv2d(3, 5, kernel_size=8, stride=8, bias=bias)
        module = torch.nn.Sequential(deepcopy(plain))
        use_cpu_layers(module)
        assert type(module[0]) is PatchProduct
        pictures = torch.rand(2, 3, 35, 26)  # what is left of a patch at the edge is not read
        with torch.inference_mode():
            for laid in (pictures, pictures.to(memory_format=torch.channels_last)):
                assert torch.allclose(module(laid), plain(laid), atol=1e-6)
    others = [
        torch.nn.Conv2d(3, 5, kernel_size=4, stride=4),
        torch.nn.Conv2d(3, 5, kernel_size=8, stride=4),
        torch.nn.Conv2d(3, 5, kernel_size=8, stride=8, padding=1),
        torch.nn.Conv2d(5, 5, kernel_size=8, stride=8),
        torch.nn.Conv2d(3, 6, kernel_size=8, stride=8, groups=3),
    ]
    module = torch.nn.Sequential(*others)
    use_cpu_layers(module)
    assert {type(each) for each in module} == {torch.nn.Conv2d}


def block_and_features() -> tuple[Any, Any]:
    """A block as it is on a CPU, and features of three sequences of five tokens."""
    torch.manual_seed(0)
    blocks = torch.nn.Sequential(ResidualAttentionBlock(64, 2, ls_init_value=0.5)).eval()
    use_contiguous_attention(blocks)
    return blocks[0], torch.randn(3, 5, 64)


def test_the_last_block_gives_the_same_for_the_tokens_that_are_read() -> None:
    block, features = block_and_features()
    mask = torch.zeros(3, 1, 5, 5).masked_fill_(~torch.ones(5, 5, dtype=torch.bool).tril(), float("-inf"))
    tokens = torch.tensor([4, 5, 8, 12])
    with torch.inference_mode():
        whole = block(features, attn_mask=mask).flatten(0, 1)
        assert torch.allclose(read_at(block, features, tokens, mask), whole[tokens], atol=1e-6)
        first = block(features)[:, :1]
        block.__class__ = ClassTokenBlock
        assert torch.allclose(block(features), first, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_picture_read_at_its_class_token_costs_no_more_of_the_last_block(tmp_path: Path, precision: str) -> None:
    name = f"local-dir:{save_checkpoint(tmp_path / 'model')}"
    tower = load_image_tower(model=name, precision=precision, device="cpu")
    last = tower.module.transformer.resblocks[-1]
    rows: list[int] = []
    last.mlp.register_forward_pre_hook(lambda _, given: rows.append(given[0].shape[1]))
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    found = vectors(tower.encode(pictures))
    last.__class__ = ResidualAttentionBlock
    assert np.abs(vectors(tower.encode(pictures)) - found).max() <= (1e-6 if precision == "float32" else 1e-2)
    assert rows == [1, 17]


def test_a_tower_that_is_read_at_all_tokens_computes_all_of_its_last_block() -> None:
    for vision_cfg in ({"pool_type": "avg"}, COCA_CFG["vision_cfg"]):
        cfg = {**MODEL_CFG, "vision_cfg": {**MODEL_CFG["vision_cfg"], **vision_cfg}}
        module = open_clip.CLIP(**cfg).visual
        use_class_token_block(module)
        assert not any(isinstance(part, ClassTokenBlock) for part in module.modules())


def tower_of_branches() -> Any:
    """An image tower with the running statistics of trained norms."""
    torch.manual_seed(0)
    module = TimmModel("tiny_fastvit", embed_dim=32, image_size=32, pool="avg", proj=None, pretrained=False).eval()
    for name, value in module.state_dict().items():
        if name.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return module


@pytest.mark.parametrize("own_type", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_branches_are_merged_into_the_layers_that_give_the_same(own_type: torch.dtype) -> None:
    exact = tower_of_branches()
    plain, merged = (deepcopy(exact).to(own_type) for _ in range(2))
    merge_branches(merged)
    pictures = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        wanted = exact(pictures)
        lost, differs = ((each(pictures.to(own_type)).float() - wanted).norm() for each in (plain, merged))
    assert differs <= 2 * lost + 1e-5 * wanted.norm()
    assert len(list(merged.modules())) < len(list(plain.modules()))
    assert {value.dtype for value in merged.parameters()} == {own_type}
    assert not any(part.training for part in merged.modules())


def test_a_tower_without_branches_stays_as_it_is() -> None:
    module = open_clip.CLIP(**MODEL_CFG).visual
    before = [id(part) for part in module.modules()]
    merge_branches(module)
    assert [id(part) for part in module.modules()] == before


# --- the fastest way --------------------------------------------------------------------------------------------------


def doubled(batch: Any) -> Any:
    return 2 * batch


class Counting:
    """A way that gives the plain result, at once, and counts the rows that it was given."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def make(self, forward: Any, batch: Any) -> Any:
        result = torch.full_like(batch, 2.0)

        def run(batch: Any) -> Any:
            self.rows.append(len(batch))
            return result[: len(batch)]

        return run


def slow(batch: Any) -> Any:
    return (batch @ torch.ones(batch.shape[1], 400_000)).sum(1, keepdim=True) * 0 + 2 * batch


def test_a_faster_way_is_kept_and_batches_are_padded_to_its_sizes() -> None:
    counting, forward = Counting(), Fastest(slow)
    forward.warm_up([torch.ones(size, 3) for size in (2, 4)], [Way("counting", counting.make)], "a tower")
    counting.rows.clear()
    for size in (1, 2, 3, 4):
        assert torch.equal(forward(torch.ones(size, 3)), torch.full((size, 3), 2.0))
    assert counting.rows == [2, 2, 4, 4]
    assert forward(torch.ones(5, 3)).shape == (5, 3), "a larger batch than was measured runs plainly"


def test_a_way_that_fails_here_is_passed_by(caplog: pytest.LogCaptureFixture) -> None:
    def fail(forward: Any, batch: Any) -> Any:
        raise RuntimeError("no compiler")

    forward = Fastest(doubled)
    forward.warm_up([torch.ones(2, 3)], [Way("compiled", fail)], "a tower")
    assert torch.equal(forward(torch.ones(2, 3)), torch.full((2, 3), 2.0))
    assert "no compiler" in caplog.text


def test_a_way_that_gives_other_features_is_passed_by(caplog: pytest.LogCaptureFixture) -> None:
    """As a recording would that answers what it was recorded with."""
    forward = Fastest(slow)
    batch = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    forward.warm_up([batch], [Way("graph", lambda forward, recorded: lambda _: 2 * recorded)], "a tower")
    assert torch.equal(forward(batch.flip(0)), 2 * batch.flip(0))
    assert "its features are others" in caplog.text


def test_sizes_are_powers_of_two_and_the_largest() -> None:
    assert sizes_up_to(1) == [1]
    assert sizes_up_to(32) == [1, 2, 4, 8, 16, 32]
    assert sizes_up_to(48) == [1, 2, 4, 8, 16, 32, 48]
    assert padded(torch.ones(3, 2), 4).shape == (4, 2)


def test_a_compiled_tower_gives_the_same_vectors(tmp_path: Path) -> None:
    name = f"local-dir:{save_checkpoint(tmp_path / 'model')}"
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tower = load_image_tower(model=name, precision="float32", device="cpu")
    plain = vectors(tower.encode([picture]))
    tower.warm_up(max_batch_size=1, wanted="auto")
    assert np.abs(vectors(tower.encode([picture])) - plain).max() <= 1e-6


# --- the hardware -----------------------------------------------------------------------------------------------------


def test_the_precision_is_what_the_chip_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, precision in (({"amx_bf16": True}, "bfloat16"), ({"avx512_bf16": True}, "bfloat16"), ({}, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert chosen_precision("auto", "cpu") == precision
        assert chosen_precision("auto", "cpu", sensitive=True) == "float32"
    assert chosen_precision("float16", "cpu") == chosen_precision("float16", "cpu", sensitive=True) == "float16"


def test_resnets_and_fastvits_are_told_from_towers_that_bear_half_precision() -> None:
    bear, lose = ("ViT-B-32", "convnext_base_w", "MobileCLIP2-B", "EVA02-B-16"), ("RN50", "RN101", "MobileCLIP2-S2")
    assert [name for name in (*bear, *lose) if loses_in_half_precision(open_clip.get_model_config(name) or {})] == [
        *lose
    ]
    assert loses_in_half_precision({"vision_cfg": {"timm_model_name": "resnet50.a1_in1k"}})


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(ModelUnavailable):
        chosen_precision("float8", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelUnavailable):
            chosen_device("cuda:0")
