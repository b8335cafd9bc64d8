"""Activations in fewer passes: the same features, whatever the part and the activation."""

from collections import OrderedDict
from copy import deepcopy
from typing import Any

import pytest
import timm.layers.activations
import timm.layers.mlp
import torch
from open_clip.transformer import QuickGELU
from timm.layers.activations import GELUTanh
from torch.nn import GELU, LayerNorm, Linear, ReLU, Sequential, SiLU

from serve_app.adapters.open_clip import weight_packing
from serve_app.adapters.open_clip.activations import fuse_activations, replace_quick_gelu
from serve_app.adapters.open_clip.weight_packing import PackedLinear, pack_weights

FEATURES = 3 * torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0))


def of_open_clip(activation: Any) -> Any:
    """The MLP of a block of OpenCLIP's."""
    layers = (("c_fc", Linear(16, 64)), ("gelu", activation), ("c_proj", Linear(64, 16)))
    return Sequential(OrderedDict(layers))


def of_timm(activation: type) -> Any:
    return timm.layers.mlp.Mlp(16, 64, act_layer=activation).eval()


def packed(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(weight_packing, "pays_here", lambda _: True)
    assert pack_weights(module, lambda: module(FEATURES))
    return module


PARTS = {
    "GELU": lambda: of_open_clip(GELU()),
    "GELU by tanh": lambda: of_open_clip(GELU(approximate="tanh")),
    "QuickGELU": lambda: of_open_clip(QuickGELU()),
    "GELU of timm": lambda: of_timm(GELU),
    "GELU by tanh of timm": lambda: of_timm(GELUTanh),
    "QuickGELU of timm": lambda: of_timm(timm.layers.activations.QuickGELU),
}


@pytest.mark.parametrize("part", PARTS)
@torch.inference_mode()
def test_packed_layers_compute_the_activation_after_them(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    module = PARTS[part]()
    before = module(FEATURES)
    replace_quick_gelu(module)
    fuse_activations(packed(module, monkeypatch))
    layers = [each for each in module.modules() if isinstance(each, PackedLinear)]
    assert [each.activation[0] for each in layers] == ["swish" if part.startswith("Quick") else "gelu", "none"]
    assert not any(type(each) in (GELU, GELUTanh, SiLU) for each in module.modules())
    assert torch.allclose(module(FEATURES), before, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@torch.inference_mode()
def test_swish_comes_as_near_as_quick_gelu(dtype: torch.dtype) -> None:
    """Without packed weights too, as on a GPU."""
    torch.manual_seed(1)
    plain = of_open_clip(QuickGELU())
    exact = plain(FEATURES)
    with_quick, with_swish = (deepcopy(plain).to(dtype) for _ in range(2))
    replace_quick_gelu(with_swish)
    assert type(with_swish.gelu) is SiLU
    lost, differs = ((each(FEATURES.to(dtype)).float() - exact).norm() for each in (with_quick, with_swish))
    assert differs <= 1.5 * lost + 1e-6 * exact.norm()


@torch.inference_mode()
def test_what_is_not_known_or_not_packed_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other = of_open_clip(GELU()), packed(of_open_clip(ReLU()), monkeypatch)
    elsewhere = packed(Sequential(Linear(16, 16), GELU()), monkeypatch)
    between = timm.layers.mlp.Mlp(16, 64, act_layer=QuickGELU, norm_layer=LayerNorm).eval()
    for module in (plain, other, elsewhere, between):
        before, kinds = module(FEATURES), [type(each) for each in module.modules()]
        replace_quick_gelu(module)
        fuse_activations(module)
        assert [type(each) for each in module.modules()] == kinds
        assert torch.equal(module(FEATURES), before)
