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
# Rows of the products that are measured: those of a lone text, and of a few pictures.
ROWS = (16, 256)
RUNS = 3
WORTH = 0.95  # of the plain product's time: less than that gain is noise


class PackedLinear(Linear):
    """A linear layer for inference with a packed weight, [out, in] as before."""

    def forward(self, features: Any) -> Any:
        """Features [..., in] to [..., out]."""
        return product(features, self.weight, self.bias)


def pack_weights(module: Any, run: Callable[[], Any], pays: Callable[[Any], bool] | None = None) -> bool:
    """Pack the weights of the linear layers that `run`, a pass through the module, goes through, where that is faster here.

    A layer whose weight is read without it stays as it is. `pays`: which weights to pack, by default those that a measurement
    says. Returns whether any is packed.
    """
    with torch.inference_mode():
        layers = [layer for layer in called_in(module, run) if layer.weight.dtype in PACKABLE]
        pays = pays or Measured()
        chosen = [layer for layer in layers if pays(layer.weight)]
        _replace(module, chosen, PackedLinear, packed)
        if chosen:
            try:
                run()
            except Exception as error:  # noqa: BLE001 - a model's own code, which reads a weight that it also calls
                log.warning("the weights cannot be packed: %s", error)
                _replace(module, chosen, Linear, unpacked)
                return False
    log.info("%d of %d linear layers are packed", len(chosen), len(layers))
    return bool(chosen)


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


def product(features: Any, packed_weight: Any, bias: Any = None) -> Any:
    return torch.ops.mkldnn._linear_pointwise(features, packed_weight, bias, "none", [], "")


def packed(weight: Any) -> Any:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)


def unpacked(weight: Any) -> Any:
    return weight.to_dense(weight.dtype)


class Measured:
    """Whether products with a weight are faster when it is packed. Measures each shape once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], bool] = {}

    def __call__(self, weight: Any) -> bool:
        key = (*weight.shape, weight.dtype)
        if key not in self._known:
            self._known[key] = self._measure(weight)
        return self._known[key]

    @staticmethod
    def _measure(weight: Any) -> bool:
        shares = []
        try:
            with_packed = packed(weight)
            for rows in ROWS:
                features = torch.zeros(rows, weight.shape[1], dtype=weight.dtype)
                plain_s = seconds_of(lambda x: torch.nn.functional.linear(x, weight), features)
                packed_s = seconds_of(lambda x: product(x, with_packed), features)
                shares.append(packed_s / plain_s)
        except RuntimeError as error:
            log.info("weights %s of %s cannot be packed here: %s", list(weight.shape), weight.dtype, error)
            return False
        told = ", ".join(f"{share:.2f} for {rows} rows" for rows, share in zip(ROWS, shares, strict=True))
        log.info("weights %s of %s, packed over plain time: %s", list(weight.shape), weight.dtype, told)
        return sum(shares) < WORTH * len(shares)


def seconds_of(multiply: Callable[[Any], Any], features: Any) -> float:
    """The shortest time of a product that was made before."""
    multiply(features)
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        multiply(features)
        times.append(time.perf_counter() - began)
    return min(times)


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
