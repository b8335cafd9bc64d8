"""Layers that were trained as several branches, each with its batch norm, as the one convolution that gives the same sums.

MobileCLIP's FastViTs are such: OpenCLIP computes all branches for every picture, as in training. timm merges them.
"""

from typing import Any

import torch
from timm.utils.model import reparameterize_model


def merge_branches(module: Any) -> None:
    """Merge the branches of an image tower in evaluation mode, in place; a tower without such layers stays as it is."""
    trunk = getattr(module, "trunk", None)  # a model of timm
    if trunk is None or not any(hasattr(part, "reparameterize") for part in trunk.modules()):
        return
    own_type = next(trunk.parameters()).dtype
    trunk.float()  # the sums are rounded once
    with torch.no_grad():
        reparameterize_model(trunk, inplace=True)
    trunk.eval().to(own_type)  # what is new came in training mode
