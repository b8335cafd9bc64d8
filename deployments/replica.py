"""What Ray gives a replica, and what a replica tells of itself. Knows no model, no table and no request."""

import gc
import logging
import os
from collections.abc import Callable

import ray
from ray.serve import metrics

BATCH_ITEMS: list[float] = [1, 2, 4, 8, 16, 32, 64, 128, 256]
BATCH_MS: list[float] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000]
# Of gc.set_threshold: so many more containers than at the last look at the youngest (Python's own: 700), and so many looks at a
# generation before the next older one is looked through, too.
GC_THRESHOLDS = (50_000, 10, 20)

# The roots of all loggers of this repository.
LOGGERS = ("serve_app", "deployments", "crossmodal")


class ServeLog(logging.Handler):
    """Hands records to Serve's logger of this replica, as far as its level lets them."""

    def emit(self, record: logging.LogRecord) -> None:
        serve = logging.getLogger("ray.serve")
        if serve.isEnabledFor(record.levelno):
            serve.handle(record)


def log_with_serve() -> None:
    """What our code logs goes where Serve's own lines go, in the encoding and from the level on that `logging_config` says.

    Without it, Python shows warnings alone, and they do not say which replica they are of.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, ServeLog) for handler in logger.handlers):
            logger.addHandler(ServeLog())
            logger.setLevel(logging.DEBUG)  # Serve's logger has the last word.


def whole_cpus() -> int:
    """The whole CPUs that Ray gave this replica, at least one."""
    resources = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


def bound_lance_threads() -> None:
    """Let LanceDB compute with as many threads as this replica has CPUs; it would take every core of the machine.

    Call it before the first use of LanceDB. A value that the operator set stands.
    """
    os.environ.setdefault("LANCE_CPU_THREADS", str(whole_cpus()))


def collect_garbage_seldom() -> None:
    """For a replica that holds thousands of things which are no garbage: Python looks through them for cycles.

    With Python's own thresholds a Gateway spends a tenth of its time on its requests under way, more than half with a long
    queue, and an encoder spends 1.7 of the 10 s of its start on what torch imports.
    """
    gc.set_threshold(*GC_THRESHOLDS)


def batch_metrics(part: str) -> Callable[[int, float], None]:
    """Takes (items, seconds) of every batch of this part and exports crossmodal_batch_items and crossmodal_batch_ms.

    These are histograms, whose sums Ray exports as if each batch lay in the middle of its bucket; crossmodal_batched_items and
    crossmodal_batched_ms count exactly.
    """
    tag = {"part": part}
    items = metrics.Histogram(
        "crossmodal_batch_items", description="Items in a batch.", boundaries=BATCH_ITEMS, tag_keys=("part",)
    )
    duration_ms = metrics.Histogram(
        "crossmodal_batch_ms", description="Time of a batch in the model.", boundaries=BATCH_MS, tag_keys=("part",)
    )
    all_items = metrics.Counter("crossmodal_batched_items", "Items in all batches.", tag_keys=("part",))
    all_ms = metrics.Counter("crossmodal_batched_ms", "Time of all batches in the model.", tag_keys=("part",))

    def observe(count: int, seconds: float) -> None:
        all_items.inc(count, tag)
        all_ms.inc(seconds * 1e3, tag)
        items.observe(count, tag)
        duration_ms.observe(seconds * 1e3, tag)

    return observe
