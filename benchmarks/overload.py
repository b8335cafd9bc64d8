"""Offered load from half to twice the capacity: latency below it, refusals above it, and throughput that must not fall.

    .venv/bin/python -m benchmarks.overload --kind text

The capacity is what a closed loop of many connections reaches. Then the load is open (Poisson arrivals) at a share of it, and the
capacity is measured again, and so on in turns: a shared machine is as fast as its neighbours let it be. Each share is offered of
the capacity just before it, and compared with the mean of those before and after it (`vs_capacity`). `mean_batch` and `batch_ms`
tell of what went through the encoders meanwhile; `p95_in_batches` divides by the time of a batch at capacity;
`refused_at_once_ms` is the p95 of the refusals' own latency. The bounds of the queues are the product's; `--queue` sets another
`calls.max_queued_items`, of what waits at the Gateway for one deployment, and `--wait` how long. Making the load and refusing
cost, too, and interrupt the encoders where all share the cores: with `--apart` the encoders have theirs to themselves, as where
each replica has its own (on two cores: `--encoders 1 --threads 1 --apart`).
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from benchmarks.graphs import (
    INGRESS,
    encoder_settings,
    encoders_apart,
    encoders_asked_for,
    product_file,
    running,
    takes_encoders,
)
from benchmarks.http_load import PICTURES, under_load
from benchmarks.load import open_loop
from benchmarks.metrics import REPORTED_WITHIN_S, REPORTING, exported
from benchmarks.reporting import machine_facts, quantile, told, write_report
from benchmarks.wire import Question, encoder_of, product_questions
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.local_graph import LocalGraph
from serve_app.ways_in import HAPROXY

SHARES = (0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)
CONNECTIONS = 64
KINDS = ("picture", "text")
WAITS = ("CROSSMODAL_CALLS__MAX_WAIT_S", "CROSSMODAL_CALLS__MAX_SHORT_WAIT_S", "CROSSMODAL_ENCODER__MAX_WAIT_S")


class BatchCounter:
    """The encoders' batches since the last look."""

    def __init__(self, graph: LocalGraph) -> None:
        self._graph = graph
        self._last = exported(graph)

    def figures(self) -> dict[str, float]:
        """Their mean size, and their mean time in the model."""
        time.sleep(REPORTED_WITHIN_S)
        before, self._last = self._last, exported(self._graph)

        def more(name: str) -> float:
            return self._last.get(name, 0.0) - before.get(name, 0.0)

        batches = max(1.0, more("crossmodal_batch_items_count"))
        return {
            "mean_batch": more("crossmodal_batched_items_total") / batches,
            "batch_ms": more("crossmodal_batched_ms_total") / batches,
        }


def measure(graph: LocalGraph, question: Question, shares: Sequence[float], seconds: float) -> list[dict[str, Any]]:
    """Rows in turns: the capacity, a share of it, the capacity again, the next share.

    Raises ValueError where nothing was answered in the time.
    """
    batches = BatchCounter(graph)

    def capacity() -> dict[str, Any]:
        load = under_load(graph.url, question, CONNECTIONS, seconds)
        if not load.latencies_s:
            raise ValueError(f"no answer within {seconds:g} s: measure for longer")
        return told(
            {"case": f"{question.name}: capacity, {CONNECTIONS} connections", **load.figures(), **batches.figures()}
        )

    def at(share: float, offered: float) -> dict[str, Any]:
        load = asyncio.run(
            open_loop(graph.url, question.requests, rate_per_s=offered, seconds=seconds, check=question.check)
        )
        row = {
            "case": f"{question.name}: {share:g} x capacity",
            "offered_per_s": offered,
            **load.figures(),
            **batches.figures(),
            "share_refused": load.statuses[503] / load.statuses.total() if load.statuses else 0.0,
            "refused_at_once_ms": 1000 * quantile(load.refusal_latencies_s, 0.95),
        }
        return told(row)

    rows = [before := capacity()]
    for share in shares:
        row, after = at(share, share * before["requests_per_s"]), capacity()
        per_s, batch_ms = ((before[name] + after[name]) / 2 for name in ("requests_per_s", "batch_ms"))
        compared = {"vs_capacity": row["requests_per_s"] / per_s, "p95_in_batches": row["p95_ms"] / batch_ms}
        rows += [{**row, **compared}, after]
        before = after
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--kind", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument(
        "--model", default="ViT-B-32", help="an architecture of OpenCLIP; random weights are made for it"
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ingress", default=HAPROXY, choices=INGRESS)
    parser.add_argument(
        "--queue", type=int, default=None, help="items that may wait at the Gateway, instead of the product's"
    )
    parser.add_argument(
        "--wait", type=float, default=None, help="seconds that an item may wait at each place, instead of the product's"
    )
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES, help="of the capacity that are offered")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each single measurement")
    parser.add_argument("--apart", action="store_true", help="the encoders have their cores to themselves")
    takes_encoders(parser)
    options = parser.parse_args()
    machine = machine_facts()
    settings = {**encoder_settings(checkpoint(options.model), options.precision), **REPORTING}
    if options.queue is not None:
        settings["CROSSMODAL_CALLS__MAX_QUEUED_ITEMS"] = str(options.queue)
    if options.wait is not None:
        settings |= dict.fromkeys(WAITS, str(options.wait))
    encoders = encoders_asked_for(options)
    with (
        running("overload", product_file(**encoders), settings, options.ingress) as graph,
        encoders_apart(graph, options.encoders * encoders["threads"]) if options.apart else nullcontext(),
    ):
        pictures, words = product_questions(graph.url, jpegs(PICTURES), texts())
        asked = {"picture": pictures[0], "text": words[-1]}
        precision = encoder_of(graph.url)["precision"]
        rows = [row for kind in options.kind for row in measure(graph, asked[kind], options.shares, options.seconds)]
    run = {
        "model": options.model,
        "precision": precision,
        "ingress": options.ingress,
        "queue": options.queue or "as the product's",
        "wait_s": options.wait or "as the product's",
        "encoders of each kind": options.encoders,
        "threads of an encoder": encoders["threads"],
        "cores of encoders": "theirs alone" if options.apart else "shared",
        "seconds": options.seconds,
    }
    write_report("overload", rows, run, machine=machine)


if __name__ == "__main__":
    main()
