"""The activations between the layers of MLPs, with fewer passes over the features.

OpenAI's models have QuickGELU, x * sigmoid(1.702 x), which OpenCLIP computes in three passes, each of which reads and writes all
features: in bfloat16 on a CPU they take as long as the product before them. QuickGELU is swish(1.702 x) / 1.702, one pass, when
both factors are in the weights beside it. On a CPU whose weights are packed, the product itself applies swish and GELU to its
sums while they lie in registers.
"""

from collections.abc import Iterator
from typing import Any

import open_clip.transformer
import timm.layers.activations
import torch
from timm.layers.mlp import Mlp
from torch.nn import Identity, Linear, Parameter

from serve_app.adapters.open_clip.weight_packing import PackedLinear

QUICK = 1.702
QUICK_GELUS = (open_clip.transformer.QuickGELU, timm.layers.activations.QuickGELU)
PLAIN_GELUS = (torch.nn.GELU, timm.layers.activations.GELU)


@torch.inference_mode()
def replace_quick_gelu(module: Any) -> None:
    """Swish for QuickGELU, in place, in the MLPs of OpenCLIP and timm. Their weights are scaled, and rounded once more."""
    for part, (first_name, activation_name, second_name) in _mlps_in(module):
        first, second = getattr(part, first_name), getattr(part, second_name)
        if type(getattr(part, activation_name)) in QUICK_GELUS and type(first) is type(second) is Linear:
            first.weight = _scaled(first.weight, QUICK)
            first.bias = None if first.bias is None else _scaled(first.bias, QUICK)
            second.weight = _scaled(second.weight, 1 / QUICK)
            setattr(part, activation_name, torch.nn.SiLU(inplace=True))


def fuse_activations(module: Any) -> None:
    """Let the packed layers of these MLPs compute the activations after them, in place."""
    for part, (first_name, activation_name, _) in _mlps_in(module):
        first, of_onednn = getattr(part, first_name), _of_onednn(getattr(part, activation_name))
        if type(first) is PackedLinear and of_onednn is not None:
            first.activation = of_onednn
            setattr(part, activation_name, Identity())


def _mlps_in(module: Any) -> Iterator[tuple[Any, tuple[str, str, str]]]:
    """The parts that are two layers with an activation between them, and what the three are called."""
    for part in module.modules():
        if type(part) is Mlp and type(part.norm) is Identity:
            yield part, ("fc1", "act", "fc2")
        elif type(part) is torch.nn.Sequential and [*part._modules] == ["c_fc", "gelu", "c_proj"]:
            yield part, ("c_fc", "gelu", "c_proj")


def _scaled(values: Any, factor: float) -> Parameter:
    return Parameter((values.float() * factor).to(values.dtype), requires_grad=False)


def _of_onednn(activation: Any) -> tuple[str, str] | None:
    """What oneDNN calls the activation, and its algorithm for it; None for one that it does not have."""
    kind = type(activation)
    if kind is torch.nn.SiLU:
        return "swish", ""
    if kind is timm.layers.activations.GELUTanh:
        return "gelu", "tanh"
    return ("gelu", getattr(activation, "approximate", "none")) if kind in PLAIN_GELUS else None
