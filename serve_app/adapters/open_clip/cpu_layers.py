"""Layers of OpenCLIP's and timm's towers in the way that suits a CPU. The weights stay what they are, and so do the sums."""

from typing import Any

import torch
from open_clip.transformer import LayerNormFp32

SMALLEST_PATCH = 8
COLOURS = 3


class MixedLayerNorm(torch.nn.LayerNorm):
    """The norm of features in half precision with weights in float32: a CPU takes both types, and computes in float32 itself."""

    def forward(self, features: Any) -> Any:
        """Features [..., width] in their own type."""
        return torch.nn.functional.layer_norm(features, self.normalized_shape, self.weight, self.bias, self.eps)


class PatchProduct(torch.nn.Conv2d):
    """The convolution that makes tokens of patches, as what it is: one product of each patch's pixels with the kernels."""

    projection: torch.nn.Linear  # [out, values of a patch], rows, then columns, then colours, as the pixels lie

    def forward(self, pictures: Any) -> Any:
        """Features [n, out, rows of patches, columns] of pictures [n, 3, height, width], with channels last."""
        size = self.kernel_size[0]
        n, _, height, width = pictures.shape
        rows, columns = height // size, width // size
        pixels = pictures.permute(0, 2, 3, 1)[:, : rows * size, : columns * size]
        patches = pixels.reshape(n, rows, size, columns, size * COLOURS).transpose(2, 3).reshape(n, rows, columns, -1)
        return self.projection(patches).permute(0, 3, 1, 2)


def use_cpu_layers(module: Any) -> None:
    """Let the norms and the patches of a tower in evaluation mode be computed so."""
    for part in list(module.modules()):
        if type(part) is LayerNormFp32:
            part.__class__ = MixedLayerNorm
        elif type(part) is torch.nn.Conv2d and _makes_patches(part):
            part.__class__ = PatchProduct
            part.projection = torch.nn.Linear(COLOURS * part.kernel_size[0] ** 2, part.out_channels, device="meta")
            kernels = part.weight.detach().permute(0, 2, 3, 1).reshape(part.out_channels, -1)
            part.projection.weight = torch.nn.Parameter(kernels, requires_grad=False)
            part.projection.bias = part.bias  # type: ignore[assignment] # a layer may have none
            part.weight = torch.nn.Parameter(part.weight.new_empty(0), requires_grad=False)  # held once


def _makes_patches(convolution: torch.nn.Conv2d) -> bool:
    size = convolution.kernel_size
    return (
        convolution.in_channels == COLOURS
        and size[0] >= SMALLEST_PATCH
        and size == (size[0], size[0]) == convolution.stride
        and convolution.padding == (0, 0)
        and convolution.dilation == (1, 1)
        and convolution.groups == 1
    )
