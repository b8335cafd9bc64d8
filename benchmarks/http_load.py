"""Pictures and texts through the whole HTTP path, beside the plain loop of decode + transform + encode on the same cores.

    .venv/bin/python -m benchmarks.http_load

One run: the service under load at each concurrency, then OpenCLIP's plain loop at the precision that the service had.
`vs_plain` divides by the plain loop's best batch. With `--rate` the load is open (Poisson arrivals) instead of closed.
"""

import argparse
import asyncio
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.encoder import rate
from benchmarks.graphs import INGRESS, encoder_settings, encoders_asked_for, product_file, running, takes_encoders
from benchmarks.load import Load, closed_loop, open_loop
from benchmarks.plain import PlainOpenClip, batches
from benchmarks.reporting import machine_facts, told, write_report
from benchmarks.wire import Question, encoder_of, product_questions
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.ways_in import HAPROXY

PICTURES = 128
CONCURRENCIES = (1, 8, 32)
TEXT_CONCURRENCIES = (1, 8, 32, 64)
PLAIN_BATCHES = (1, 32)


def under_load(url: str, question: Question, concurrency: int, seconds: float) -> Load:
    """Closed-loop load by so many connections."""
    return asyncio.run(
        closed_loop(url, question.requests, connections=concurrency, seconds=seconds, check=question.check)
    )


def at_rate(url: str, question: Question, rate_per_s: float, seconds: float) -> Load:
    """Open-loop load."""
    return asyncio.run(open_loop(url, question.requests, rate_per_s=rate_per_s, seconds=seconds, check=question.check))


def measure_service(
    url: str, questions: Sequence[Question], concurrencies: Sequence[int], seconds: float
) -> Iterator[dict[str, Any]]:
    """A row for each question at each concurrency."""
    for question, concurrency in itertools.product(questions, concurrencies):
        load = under_load(url, question, concurrency, seconds)
        yield told({"case": f"{question.name}, {concurrency} connections", **load.figures()})


def measure_plain(folder: Path, precision: str, seconds: float) -> list[dict[str, Any]]:
    """The plain loop by OpenCLIP in this process: pictures from their files, and texts of 77 tokens."""
    plain = PlainOpenClip(folder, precision)
    rows = []
    for size in PLAIN_BATCHES:
        files, words = batches(jpegs(PICTURES), size), texts(seed=1)
        pictures_per_s = rate(lambda feed=files: plain.encode_files(next(feed)), size, seconds)  # type: ignore[misc]
        rows.append({"case": f"picture, plain loop, batch {size}", "requests_per_s": pictures_per_s})
        texts_per_s = rate(
            lambda feed=words, size=size: plain.encode_texts(list(itertools.islice(feed, size))),  # type: ignore[misc]
            size,
            seconds,
        )
        rows.append({"case": f"text, plain loop, batch {size}", "requests_per_s": texts_per_s})
    return rows


def compared(rows: Sequence[dict[str, Any]], plain: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `vs_plain`: their rate over the best of the plain loop for the same kind of thing, then the plain rows."""

    def best(kind: str) -> float:
        return max(row["requests_per_s"] for row in plain if row["case"].startswith(kind))

    return [
        *({**row, "vs_plain": row["requests_per_s"] / best(str(row["case"]).split()[0])} for row in rows),
        *plain,
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_load", description=__doc__)
    parser.add_argument(
        "--model", default="ViT-B-32", help="an architecture of OpenCLIP; random weights are made for it"
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ingress", default=HAPROXY, choices=INGRESS)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each single measurement")
    parser.add_argument("--rate", type=float, default=None, help="open loop: requests a second, instead of connections")
    takes_encoders(parser)
    options = parser.parse_args()
    machine = machine_facts()
    folder = checkpoint(options.model)
    settings = encoder_settings(folder, options.precision)
    encoders = encoders_asked_for(options)
    with running("http_load", product_file(**encoders), settings, options.ingress) as graph:
        precision = encoder_of(graph.url)["precision"]
        pictures, words = product_questions(graph.url, jpegs(PICTURES), texts())
        if options.rate is not None:
            rows = [
                told(
                    {
                        "case": f"{each.name}, {options.rate:g}/s offered",
                        **at_rate(graph.url, each, options.rate, options.seconds).figures(),
                    }
                )
                for each in [*pictures, *words]
            ]
        else:
            rows = [
                *measure_service(graph.url, pictures, CONCURRENCIES, options.seconds),
                *measure_service(graph.url, words, TEXT_CONCURRENCIES, options.seconds),
            ]
    plain = measure_plain(folder, precision, options.seconds)
    run = {
        "model": options.model,
        "precision": precision,
        "ingress": options.ingress,
        "threads": torch.get_num_threads(),
        "encoders of each kind": options.encoders,
        "threads of an encoder": encoders["threads"],
        "seconds": options.seconds,
    }
    write_report("http_load", compared(rows, plain), run, machine=machine)


if __name__ == "__main__":
    main()
