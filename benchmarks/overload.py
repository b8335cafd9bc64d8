"""Offered load from half to twice the capacity: latency below it, refusals above it, and throughput that must not fall.

    .venv/bin/python -m benchmarks.overload --kind text

The capacity is what a closed loop of many connections reaches. Then the load is open (Poisson arrivals) at shares of it.
`refused_at_once_ms` is the p95 of the refusals' own latency. The bounds of the queues are the product's; `--queue` sets another
`calls.max_queued_items`, of what waits at the Gateway for one deployment.
"""

import argparse
import asyncio
from collections.abc import Sequence
from typing import Any

from benchmarks.graphs import INGRESS, cores, encoder_settings, product_file, running
from benchmarks.http_load import PICTURES, under_load
from benchmarks.load import open_loop
from benchmarks.reporting import machine_facts, quantile, told, write_report
from benchmarks.wire import Question, encoder_of, product_questions
from benchmarks.workload import checkpoint, jpegs, texts

SHARES = (0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)
CONNECTIONS = 64
KINDS = ("picture", "text")


def measure(url: str, question: Question, shares: Sequence[float], seconds: float) -> list[dict[str, Any]]:
    """A row for the capacity, and one for each share of it. Raises ValueError where nothing was answered in the time."""
    capacity = under_load(url, question, CONNECTIONS, seconds)
    if not capacity.latencies_s:
        raise ValueError(f"no answer within {seconds:g} s: measure for longer")
    rows = [
        told(
            {"case": f"{question.name}: capacity, {CONNECTIONS} connections", **capacity.figures(), "vs_capacity": 1.0}
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
    options = parser.parse_args()
    machine = machine_facts()
    settings = encoder_settings(checkpoint(options.model), options.precision)
    if options.queue is not None:
        settings["CROSSMODAL_CALLS__MAX_QUEUED_ITEMS"] = str(options.queue)
    with running("overload", product_file(), settings, options.ingress) as graph:
        pictures, words = product_questions(graph.url, jpegs(PICTURES), texts())
        asked = {"picture": pictures[0], "text": words[-1]}
        precision = encoder_of(graph.url)["precision"]
        rows = [row for kind in options.kind for row in measure(graph.url, asked[kind], SHARES, options.seconds)]
    run = {
        "model": options.model,
        "precision": precision,
        "ingress": options.ingress,
        "queue": options.queue or "as the product's",
        "threads of an encoder": cores(),
        "seconds": options.seconds,
    }
    write_report("overload", rows, run, machine=machine)


if __name__ == "__main__":
    main()
