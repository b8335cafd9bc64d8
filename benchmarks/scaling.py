"""From one to two replicas of both encoders, one thread each: how much of the second core arrives at the clients.

    .venv/bin/python -m benchmarks.scaling

`vs_one_replica` is at most the number of replicas, and less where Gateway, Preprocessor and load generator want the same cores.
"""

import argparse
from typing import Any

from benchmarks.graphs import INGRESS, encoder_settings, product_file, running
from benchmarks.http_load import PICTURES, under_load
from benchmarks.load import Load
from benchmarks.reporting import machine_facts, told, write_report
from benchmarks.wire import encoder_of, product_questions
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.ways_in import HAPROXY

CONNECTIONS = 32
REPLICAS = (1, 2)
THREADS = 1


def loads(settings: dict[str, str], replicas: int, ingress: str, seconds: float) -> tuple[str, dict[str, Load]]:
    """The precision, and the load of pictures and of texts, with so many replicas of each encoder."""
    counts = {"ImageEncoder": replicas, "TextEncoder": replicas}
    with running("scaling", product_file(THREADS, counts), settings, ingress) as graph:
        pictures, words = product_questions(graph.url, jpegs(PICTURES), texts(seed=replicas))
        precision: str = encoder_of(graph.url)["precision"]
        return precision, {
            question.name: under_load(graph.url, question, CONNECTIONS, seconds)
            for question in (pictures[0], words[-1])
        }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument(
        "--model", default="ViT-B-32", help="an architecture of OpenCLIP; random weights are made for it"
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ingress", default=HAPROXY, choices=INGRESS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each single measurement")
    options = parser.parse_args()
    machine = machine_facts()
    settings = encoder_settings(checkpoint(options.model), options.precision)
    rows: list[dict[str, Any]] = []
    alone: dict[str, float] = {}
    precision = ""
    for replicas in REPLICAS:
        precision, measured = loads(settings, replicas, options.ingress, options.seconds)
        for name, load in measured.items():
            ratio = load.rate_per_s / alone.setdefault(name, load.rate_per_s)
            row = {"case": f"{name}, {replicas} replicas", **load.figures(), "vs_one_replica": ratio}
            rows.append(told(row))
    run = {
        "model": options.model,
        "precision": precision,
        "ingress": options.ingress,
        "threads of a replica": THREADS,
        "connections": CONNECTIONS,
        "seconds": options.seconds,
    }
    write_report("scaling", rows, run, machine=machine)


if __name__ == "__main__":
    main()
