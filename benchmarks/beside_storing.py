"""What people who search wait while others store: the batches of both share the encoders, and the machine.

    .venv/bin/python -m benchmarks.beside_storing

One connection searches by words, first alone, then while eight store a hundred texts with each request, as fast as they are
answered; then by pictures, while they store sixteen pictures with each. `encode_ms` and `retrieve_ms` are what answers say of
themselves (medians of one answer in twenty).
"""

import argparse
import asyncio
import base64
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.graphs import INGRESS, encoder_settings, encoders_asked_for, product_file, running, takes_encoders
from benchmarks.hops import part_medians
from benchmarks.http_load import PICTURES, under_load
from benchmarks.load import Load, closed_loop, json_request
from benchmarks.reporting import machine_facts, told, write_report
from benchmarks.wire import Question, picture_searches, text_searches
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.ways_in import HAPROXY

WRITERS = 8
TEXTS, PICTURES_A_REQUEST = 100, 16


def storing(url: str, contents: Iterator[dict[str, Any]], at_once: int) -> Iterator[bytes]:
    """Requests that each store so many new documents."""
    for number in itertools.count():
        documents = [
            {"id": f"{number}-{at}", **content} for at, content in enumerate(itertools.islice(contents, at_once))
        ]
        yield json_request(url, "/v1/documents", {"documents": documents})


def kinds(url: str, files: Sequence[bytes]) -> Iterator[tuple[Question, Iterator[bytes], int]]:
    """What is searched by, what is stored meanwhile, and how many documents a request stores."""
    words = ({"text": text} for text in texts(seed=7))
    yield text_searches(url, texts(seed=3)), storing(url, words, TEXTS), TEXTS
    pictures = itertools.cycle([{"image": {"base64": base64.b64encode(file).decode()}} for file in files])
    yield picture_searches(url, files), storing(url, pictures, PICTURES_A_REQUEST), PICTURES_A_REQUEST


async def beside(url: str, question: Question, requests: Iterator[bytes], seconds: float) -> tuple[Load, Load]:
    """The searches and the writes of the same time."""
    searches = closed_loop(url, question.requests, connections=1, seconds=seconds, check=question.check)
    return await asyncio.gather(searches, closed_loop(url, requests, connections=WRITERS, seconds=seconds))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_storing", description=__doc__)
    parser.add_argument(
        "--model", default="ViT-B-32", help="an architecture of OpenCLIP; random weights are made for it"
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ingress", default=HAPROXY, choices=INGRESS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each single measurement")
    takes_encoders(parser)
    options = parser.parse_args()
    machine = machine_facts()
    settings = encoder_settings(checkpoint(options.model), options.precision)
    rows: list[dict[str, Any]] = []
    with running("beside-storing", product_file(**encoders_asked_for(options)), settings, options.ingress) as graph:
        for question, requests, at_once in kinds(graph.url, jpegs(PICTURES)):
            alone = under_load(graph.url, question, 1, options.seconds)
            searches, writes = asyncio.run(beside(graph.url, question, requests, options.seconds))
            stored = {"stored_per_s": at_once * writes.rate_per_s}
            for case, load, more in (("alone", alone, {}), ("while others store", searches, stored)):
                row = {"case": f"{question.name}, {case}", **load.figures(), **part_medians(load), **more}
                rows.append(told(row))
    run = {
        **vars(options),
        "writers": WRITERS,
        "documents of a request": f"{TEXTS} texts, {PICTURES_A_REQUEST} pictures",
    }
    write_report("beside_storing", rows, run, machine=machine)


if __name__ == "__main__":
    main()
