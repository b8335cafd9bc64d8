"""Linear layers whose weights lie in the order in which oneDNN multiplies them.

On a CPU torch keeps weights as the checkpoint has them, and oneDNN puts them into another order for every batch, which for a lone
text takes as long as its products do; in float32 torch asks another library, which not every chip is fast with. Packed once,
weights are multiplied at once. Nobody but oneDNN can read them then.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Linear, Parameter
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

log = logging.getLogger(__name__)
PACKABLE = (torch.float32, torch.bfloat16)
# The product that is measured: a few texts, or a picture, times a weight [out, in] of a small tower's MLP. The same for every
# model, and large enough to be told from noise: in half precision packed layers, which compute activations too, give other bits,
# and all replicas of a chip should give the same. Every product that is measured leaves its kernels in memory.
ROWS = 64
WEIGHT = (2048, 512)
RUNS = 20
WORTH = 0.95  # of the plain product's time: less than that gain is noise


class PackedLinear(Linear):
    """A linear layer for inference with a packed weight, [out, in] as before."""

    activation: tuple[str, str] = ("none", "")
    """Of oneDNN, and by which algorithm: what becomes of each sum."""

    def forward(self, features: Any) -> Any:
        """Features [..., in] to [..., out]."""
        return product(features, self.weight, self.bias, self.activation)


def pack_weights(module: Any, run: Callable[[], Any]) -> bool:
    """Pack the weights of the linear layers that `run`, a pass through the module, goes through, if that is faster here.

    Which is measured with one product in the type of the largest. A layer whose weight is read without it stays as it is. Returns
    whether they are packed. What `run` raises at first is raised here.
    """
    with torch.inference_mode():
        layers = [layer for layer in called_in(module, run) if layer.weight.dtype in PACKABLE]
        if not layers or not pays_here(max((layer.weight for layer in layers), key=torch.numel).dtype):
            return False
        _replace(module, layers, PackedLinear, packed)
        try:
            run()
        except Exception as error:  # noqa: BLE001 - a model's own code, which reads a weight that it also calls
            log.warning("the weights cannot be packed: %s", error)
            _replace(module, layers, Linear, unpacked)
            return False
    log.info("%d linear layers are packed", len(layers))
    return True


def called_in(module: Any, run: Callable[[], Any]) -> list[Linear]:
    """The plain linear layers of the module that `run` calls."""
    called: dict[Linear, None] = {}
    hooks = [
        part.register_forward_pre_hook(lambda layer, _: called.setdefault(layer))
        for part in module.modules()
        if type(part) in (Linear, NonDynamicallyQuantizableLinear)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return list(called)


def product(features: Any, packed_weight: Any, bias: Any = None, activation: tuple[str, str] = ("none", "")) -> Any:
    """What `torch.nn.functional.linear` gives for a weight [out, in] that is not packed; then the activation of it."""
    return torch.ops.mkldnn._linear_pointwise(features, packed_weight, bias, activation[0], [], activation[1])


def packed(weight: Any) -> Any:
    """The weight [out, in] in oneDNN's order. Raises RuntimeError where the chip does not compute in its type."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)


def unpacked(weight: Any) -> Any:
    """The inverse of `packed`."""
    return weight.to_dense(weight.dtype)


def pays_here(dtype: torch.dtype) -> bool:
    """Whether a product with a weight of this type is faster on this machine when the weight is packed."""
    features, weight = torch.zeros(ROWS, WEIGHT[1], dtype=dtype), torch.zeros(WEIGHT, dtype=dtype)
    try:
        with_packed = packed(weight)
        packed_s, plain_s = seconds_of(
            lambda: product(features, with_packed), lambda: torch.nn.functional.linear(features, weight)
        )
    except RuntimeError as error:
        log.info("weights of %s cannot be packed here: %s", dtype, error)
        return False
    log.info("%d x %s in %s: %.2f ms, packed %.2f ms", ROWS, WEIGHT, dtype, plain_s * 1e3, packed_s * 1e3)
    return packed_s < WORTH * plain_s


def seconds_of(*products: Callable[[], Any]) -> list[float]:
    """The shortest time of each, made before, in turns: what disturbs one disturbs the others."""
    for multiply in products:
        multiply()
    shortest = [float("inf")] * len(products)
    for _ in range(RUNS):
        for at, multiply in enumerate(products):
            began = time.perf_counter()
            multiply()
            shortest[at] = min(shortest[at], time.perf_counter() - began)
    return shortest


def _replace(module: Any, layers: list[Linear], kind: type[Linear], turned: Callable[[Any], Any]) -> None:
    """Turn the weights of the layers, one after the other, wherever the module has them, and make the layers `kind`."""
    holders: dict[int, list[tuple[Any, str]]] = {}
    for part in module.modules():
        for name, value in part.named_parameters(recurse=False, remove_duplicate=False):
            holders.setdefault(id(value), []).append((part, name))
    of_layers = {id(layer.weight): layer.weight for layer in layers}
    for layer in layers:
        layer.__class__ = kind
    while of_layers:
        key, weight = of_layers.popitem()
        new = Parameter(turned(weight), requires_grad=False)
        del weight  # so that no more than one is there twice
        for part, name in holders[key]:
            setattr(part, name, new)
