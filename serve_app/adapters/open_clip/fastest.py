"""The fastest way to run a tower at each size of batch: as it is, compiled, or as a recorded CUDA graph. Measured, not assumed.

Compiled code and CUDA graphs hold for one shape, so batches are padded to a few sizes. What was measured is logged. Knows towers
only as functions from a tensor [n, ...] to features [n, dimension].
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

log = logging.getLogger(__name__)
Forward = Callable[[Any], Any]
RUNS = 5
WORTH = 0.95  # of the plain way's time: less than that gain is noise
SAME = 0.999  # cosine of features that are the same but for the order of roundings, in half precision


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run: `make` takes the plain function and a batch of the shape, and returns the function to use."""

    name: str
    make: Callable[[Forward, Any], Forward]


def ways_on(device: str, packed: bool, wanted: str) -> list[Way]:
    """The ways that may pay for one tower on this kind of device, besides the plain one. `wanted`: see EncoderConfig.compile."""
    if wanted == "never" or packed:  # compilers do not take packed weights, and had gained nothing with others
        return []

    def compiled(forward: Forward, _: Any) -> Forward:
        return torch.compile(forward, dynamic=False)

    if not device.startswith("cuda"):
        return [Way("compiled", compiled)] if wanted == "auto" else []
    # One memory for all graphs of a tower: they are replayed one after the other, and what they give is copied at once.
    memory = torch.cuda.graph_pool_handle()
    graph = Way("graph", lambda forward, batch: recorded(forward, batch, memory))
    if wanted == "graphs":
        return [graph]
    both = Way("compiled graph", lambda forward, batch: recorded(compiled(forward, batch), batch, memory))
    return [graph, Way("compiled", compiled), both]


class Fastest:
    """A tower's function, run the fastest way that `warm_up` found for the size of the batch; before that, plainly."""

    def __init__(self, forward: Forward) -> None:
        self._plain = forward
        self._by_size: dict[int, tuple[Forward, float]] = {}  # with its share of the plain way's time

    def __call__(self, batch: Any) -> Any:
        """Features of a batch [n, ...]; padded to the next measured size and cut again, where that is faster."""
        for size, (forward, share) in self._by_size.items():
            if size >= len(batch) >= share * size:
                return pooled(forward(padded(batch, size)))[: len(batch)]
        return pooled(self._plain(batch))

    def warm_up(self, batches: Iterable[Any], ways: Iterable[Way], name: str) -> None:
        """Measure every way on batches of growing size and keep what pays. Rows of a batch should differ.

        A way that fails on this machine, or that gives other features than the plain one, is passed by.
        """
        ways = list(ways)
        for batch in batches if ways else ():
            plain_s = seconds_of(self._plain, batch)
            best, best_s, told = None, WORTH * plain_s, [f"plain {plain_s * 1e3:.2f} ms"]
            for way in list(ways):
                try:
                    made = way.make(self._plain, batch)
                    took_s = seconds_of(made, batch)
                    _check_same(self._plain, made, batch)
                except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and the plain one is always there
                    log.warning("%s cannot be run %s here: %s", name, way.name, error)
                    ways.remove(way)
                    continue
                told.append(f"{way.name} {took_s * 1e3:.2f} ms")
                if took_s < best_s:
                    best, best_s = made, took_s
            if best is not None:
                self._by_size[len(batch)] = (best, best_s / plain_s)
            log.info("%s, batches of %d: %s", name, len(batch), ", ".join(told))


def sizes_up_to(most: int) -> list[int]:
    """Powers of two, and `most` itself."""
    return sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power < most)})


def _check_same(plain: Forward, made: Forward, batch: Any) -> None:
    # In another order than the one that was recorded, which shows that what is given is what is computed.
    turned = batch.flip(0)
    expected, found = (pooled(forward(turned)).float() for forward in (plain, made))
    cosine = float(torch.nn.functional.cosine_similarity(expected, found).min())
    if not cosine >= SAME:
        raise ValueError(f"its features are others, with a cosine of {cosine:.4f}")


def padded(batch: Any, size: int) -> Any:
    """The batch with its last row repeated up to `size` rows."""
    missing = size - len(batch)
    return torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing else batch


def pooled(features: Any) -> Any:
    """A tower's features; CoCa's towers give their tokens as well."""
    return features[0] if isinstance(features, tuple) else features


def seconds_of(forward: Forward, batch: Any) -> float:
    """The median time of a run that has been run before."""
    times = []
    for _ in range(RUNS + 2):
        began = time.perf_counter()
        forward(batch)
        if batch.is_cuda:
            torch.cuda.synchronize(batch.device)
        times.append(time.perf_counter() - began)
    return median(times[2:])


def recorded(forward: Forward, batch: Any, memory: Any = None) -> Forward:
    """The function as a CUDA graph for batches of this shape: one launch instead of hundreds. `memory`: shared with others."""
    entry = batch.clone()
    beside = torch.cuda.Stream(batch.device)  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream(batch.device))
    with torch.cuda.stream(beside):
        for _ in range(3):  # what is set up at the first runs must not be recorded
            forward(entry)
    torch.cuda.current_stream(batch.device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=memory):
        features = pooled(forward(entry))

    def replay(batch: Any) -> Any:
        entry.copy_(batch)
        graph.replay()
        return features.clone()  # the next replay writes over it

    return replay
