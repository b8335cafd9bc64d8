"""Activations that packed layers compute themselves: the same features, whatever the part and the activation."""

from collections import OrderedDict
from typing import Any

import open_clip.transformer
import pytest
import torch
from timm.layers.activations import GELUTanh
from timm.layers.mlp import Mlp
from torch.nn import GELU, Identity, Linear, ReLU, Sequential

from serve_app.adapters.open_clip import weight_packing
from serve_app.adapters.open_clip.activations import fuse_activations
from serve_app.adapters.open_clip.weight_packing import PackedLinear, pack_weights

FEATURES = 3 * torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0))


def of_open_clip(activation: Any) -> Any:
    """The MLP of a block of OpenCLIP's."""
    layers = (("c_fc", Linear(16, 64)), ("gelu", activation), ("c_proj", Linear(64, 16)))
    return Sequential(OrderedDict(layers))


def of_timm(activation: type) -> Any:
    return Mlp(16, 64, act_layer=activation).eval()


def packed(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(weight_packing, "pays_here", lambda _: True)
    assert pack_weights(module, lambda: module(FEATURES))
    return module


PARTS = {
    "GELU": lambda: of_open_clip(GELU()),
    "GELU by tanh": lambda: of_open_clip(GELU(approximate="tanh")),
    "QuickGELU": lambda: of_open_clip(open_clip.transformer.QuickGELU()),
    "GELU of timm": lambda: of_timm(GELU),
    "GELU by tanh of timm": lambda: of_timm(GELUTanh),
}


@pytest.mark.parametrize("part", PARTS)
@torch.inference_mode()
def test_packed_layers_compute_the_activation_after_them(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    module = PARTS[part]()
    before = module(FEATURES)
    fuse_activations(Sequential(packed(module, monkeypatch)))
    assert sum(isinstance(each, Identity) for each in module.children()) >= 1
    activations = {each.activation[0] for each in module.modules() if isinstance(each, PackedLinear)}
    assert activations == {"none", "swish" if part == "QuickGELU" else "gelu"}
    assert torch.allclose(module(FEATURES), before, atol=1e-5)


@torch.inference_mode()
def test_what_is_not_known_or_not_packed_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other, alike = of_open_clip(GELU()), of_open_clip(ReLU()), Sequential(Linear(16, 16), GELU())
    for module in (packed(other, monkeypatch), packed(alike, monkeypatch), plain):
        before, kinds = module(FEATURES), [type(each) for each in module.children()]
        fuse_activations(module)
        assert [type(each) for each in module.children()] == kinds
        assert torch.equal(module(FEATURES), before)


@torch.inference_mode()
def test_quick_gelu_stays_where_the_next_layer_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = of_open_clip(open_clip.transformer.QuickGELU())
    monkeypatch.setattr(weight_packing, "pays_here", lambda _: True)
    assert pack_weights(module, lambda: module.c_fc(FEATURES))
    before = module(FEATURES)
    fuse_activations(module)
    assert torch.equal(module(FEATURES), before)
