"""Activations computed by the product before them, while its sums lie in registers, on a CPU whose weights are packed.

By itself an activation reads and writes all features again, QuickGELU (OpenAI's) three times. oneDNN applies GELU, and swish,
x * sigmoid(x): QuickGELU of x is swish(1.702 x) / 1.702, and both factors go into the weights beside it.
"""

from typing import Any

import open_clip.transformer
import torch
from timm.layers.activations import GELU, GELUTanh
from timm.layers.mlp import Mlp

from serve_app.adapters.open_clip.weight_packing import PackedLinear, packed, unpacked

QUICK = 1.702


@torch.inference_mode()
def fuse_activations(module: Any) -> None:
    """Let the packed layers of a tower compute the activations after them, in the parts of OpenCLIP and timm that are known."""
    for part in module.modules():
        names = _names_in(part)
        if names is None:
            continue
        first, activation, second = (getattr(part, name) for name in names)
        if type(first) is PackedLinear and _fused(first, activation, second):
            setattr(part, names[1], torch.nn.Identity())


def _names_in(part: Any) -> tuple[str, str, str] | None:
    """Of a linear layer, its activation and the next linear layer, if the part is such."""
    if type(part) is Mlp:
        return "fc1", "act", "fc2"
    names = [name for name, _ in part.named_children()] if type(part) is torch.nn.Sequential else []
    return ("c_fc", "gelu", "c_proj") if names == ["c_fc", "gelu", "c_proj"] else None


def _fused(first: PackedLinear, activation: Any, second: Any) -> bool:
    kind = type(activation)
    if kind in (torch.nn.GELU, GELU, GELUTanh):
        tanh = kind is GELUTanh or getattr(activation, "approximate", "none") == "tanh"
        first.activation = ("gelu", "tanh" if tanh else "none")
    elif kind is open_clip.transformer.QuickGELU and type(second) is PackedLinear:
        _scale(first, QUICK)
        if first.bias is not None:
            first.bias = torch.nn.Parameter(first.bias * QUICK, requires_grad=False)
        _scale(second, 1 / QUICK)
        first.activation = ("swish", "")
    else:
        return False
    return True


def _scale(layer: PackedLinear, factor: float) -> None:
    layer.weight = torch.nn.Parameter(packed(unpacked(layer.weight) * factor), requires_grad=False)
