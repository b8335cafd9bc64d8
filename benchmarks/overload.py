"""Offered load from half to twice the capacity: latency below it, refusals above it, and throughput that must not fall.

    .venv/bin/python -m benchmarks.overload --kind text

The capacity is what a closed loop of many connections reaches. Then the load is open (Poisson arrivals) at shares of it.
`mean_batch` counts what went through the encoders meanwhile; `refused_at_once_ms` is the p95 of the refusals' own latency. The
bounds of the queues are the product's; `--queue` sets another `calls.max_queued_items`, of what waits at the Gateway for one
deployment.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.graphs import INGRESS, encoder_settings, product_file, running, sharing_cores, takes_encoders
from benchmarks.http_load import PICTURES, under_load
from benchmarks.load import open_loop
from benchmarks.metrics import REPORTED_WITHIN_S, exported
from benchmarks.reporting import machine_facts, quantile, told, write_report
from benchmarks.wire import Question, encoder_of, product_questions
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.local_graph import LocalGraph

SHARES = (0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)
CONNECTIONS = 64
KINDS = ("picture", "text")


class BatchCounter:
    """The mean size of the encoders' batches since the last look."""

    def __init__(self, graph: LocalGraph) -> None:
        self._graph = graph
        self._items, self._batches = self._read()

    def mean(self) -> float:
        time.sleep(REPORTED_WITHIN_S)
        before, (self._items, self._batches) = (self._items, self._batches), self._read()
        return (self._items - before[0]) / max(1.0, self._batches - before[1])

    def _read(self) -> tuple[float, float]:
        told = exported(self._graph)
        return told.get("crossmodal_batch_items_sum", 0.0), told.get("crossmodal_batch_items_count", 0.0)


def measure(graph: LocalGraph, question: Question, shares: Sequence[float], seconds: float) -> list[dict[str, Any]]:
    """A row for the capacity, and one for each share of it. Raises ValueError where nothing was answered in the time."""
    url, batches = graph.url, BatchCounter(graph)
    capacity = under_load(url, question, CONNECTIONS, seconds)
    if not capacity.latencies_s:
        raise ValueError(f"no answer within {seconds:g} s: measure for longer")
    rows = [
        told(
            {
                "case": f"{question.name}: capacity, {CONNECTIONS} connections",
                **capacity.figures(),
                "vs_capacity": 1.0,
                "mean_batch": batches.mean(),
            }
        )
    ]
    for share in shares:
        offered = share * capacity.rate_per_s
        load = asyncio.run(open_loop(url, question.requests, rate_per_s=offered, seconds=seconds, check=question.check))
        row = {
            "case": f"{question.name}: {share:g} x capacity",
            "offered_per_s": offered,
            **load.figures(),
            "vs_capacity": load.rate_per_s / capacity.rate_per_s,
            "mean_batch": batches.mean(),
            "share_refused": load.statuses[503] / load.statuses.total() if load.statuses else 0.0,
            "refused_at_once_ms": 1000 * quantile(load.refusal_latencies_s, 0.95),
        }
        rows.append(told(row))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--kind", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument(
        "--model", default="ViT-B-32", help="an architecture of OpenCLIP; random weights are made for it"
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ingress", default="plain", choices=INGRESS)
    parser.add_argument(
        "--queue", type=int, default=None, help="items that may wait at the Gateway, instead of the product's"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="of each single measurement")
    takes_encoders(parser)
    options = parser.parse_args()
    machine = machine_facts()
    settings = encoder_settings(checkpoint(options.model), options.precision)
    if options.queue is not None:
        settings["CROSSMODAL_CALLS__MAX_QUEUED_ITEMS"] = str(options.queue)
    with running("overload", product_file(**sharing_cores(options.encoders)), settings, options.ingress) as graph:
        pictures, words = product_questions(graph.url, jpegs(PICTURES), texts())
        asked = {"picture": pictures[0], "text": words[-1]}
        precision = encoder_of(graph.url)["precision"]
        rows = [row for kind in options.kind for row in measure(graph, asked[kind], SHARES, options.seconds)]
    run = {
        "model": options.model,
        "precision": precision,
        "ingress": options.ingress,
        "queue": options.queue or "as the product's",
        "encoders of each kind": options.encoders,
        "seconds": options.seconds,
    }
    write_report("overload", rows, run, machine=machine)


if __name__ == "__main__":
    main()
