"""The latency of a text query, hop by hop, beside a graph of the same shape whose parts do nothing.

    .venv/bin/python -m benchmarks.hops

For each way in (plain Serve, HAProxy with the throughput flags, those flags with the Python proxy) and each graph, with and
without coalescing: one connection and 64 on GET /healthz (client, proxy, Gateway), GET /v1/models (and the TextEncoder), GET
/v1/table (and the Retriever) and POST /v1/search (all, one after the other). `--searches` leaves out all but the last.
`encode_ms` and `retrieve_ms` are what the answers of the searches say of themselves (medians); `in process` is the TextEncoder's
work without any hop, on a machine that does nothing else and, in turns with lone searches, beside the idle graph: Ray's processes
wake some thousand times a second. Last come lone searches of the graph that does nothing, but for an encoder which takes as long
as encoding does: the same hops are dearer when the other processes have slept meanwhile.
"""

import argparse
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.graphs import (
    INGRESS,
    UNCOALESCED,
    encoder_settings,
    encoders_asked_for,
    other_file,
    product_file,
    running,
    takes_encoders,
)
from benchmarks.http_load import under_load
from benchmarks.load import Load, http_request
from benchmarks.reporting import machine_facts, milliseconds, quantile, told, write_report
from benchmarks.wire import Question, text_searches
from benchmarks.workload import checkpoint, texts
from serve_app.adapters.open_clip import load_text_tower

CONCURRENCIES = (1, 64)
HOPS = {
    "/healthz": "gateway",
    "/v1/models": "gateway + text encoder",
    "/v1/table": "gateway + retriever",
}
SEARCH = "search: all, in turn"
LONE_SEARCH = "search, in turns with encoding in process"
LATE_SEARCH = "search, computing"
IN_PROCESS = "encode one text in process"
TURNS = 3
GRAPHS = ("noop", "product")


class InProcess:
    """Encodes single texts in this process, tokenising included."""

    def __init__(self, folder: Path, precision: str) -> None:
        self._tower = load_text_tower(model=f"local-dir:{folder.resolve()}", device="cpu", precision=precision)
        self._texts = texts(seed=2)
        self.latencies(0.5)  # the first ones are slow

    def latencies(self, seconds: float) -> list[float]:
        """In seconds, of one text after the other for so long."""
        latencies_s = []
        ends_at = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends_at:
            self._tower.encode([next(self._texts)])
            latencies_s.append(time.perf_counter() - began)
        return latencies_s

    def row(self, where: str, latencies_s: Sequence[float]) -> dict[str, Any]:
        """A row of the report."""
        case = f"{IN_PROCESS}{where}, {self._tower.card.precision}"
        return told({"case": case, "connections": 1, **milliseconds(latencies_s)})


def questions(url: str, paths: Iterable[str]) -> Iterator[tuple[str, Question]]:
    """Each of these paths by the hops it takes; searches last."""
    for path in paths:
        request = http_request(url, "GET", path)
        yield HOPS[path], Question(path, itertools.repeat(request), lambda _: None)
    yield SEARCH, text_searches(url, texts())


def measure(url: str, name: str, paths: Iterable[str], seconds: float) -> Iterator[dict[str, Any]]:
    """A row for each path and concurrency of one graph."""
    for hops, question in questions(url, paths):
        for concurrency in CONCURRENCIES:
            load = under_load(url, question, concurrency, seconds)
            row = {"case": f"{name}: {hops}", "connections": concurrency, **load.figures(), **part_medians(load)}
            yield told(row)


def part_medians(load: Load) -> dict[str, float]:
    """What searches say of their own parts; nothing for other answers."""
    took = [answer["took_ms"] for answer in load.answers if "took_ms" in answer]
    parts = ("encode", "retrieve") if took else ()
    return {f"{part}_ms": quantile([each[part] for each in took], 0.5) for part in parts}


def in_turns(url: str, name: str, encoder: InProcess, seconds: float) -> Iterator[dict[str, Any]]:
    """Lone searches and single texts in process, `seconds` of each, in turns, so that what else the machine does meets both."""
    searched_s, encoded_s = [], []
    # Texts that `measure` did not ask: their vectors are remembered.
    question = text_searches(url, texts(seed=5))
    for _ in range(TURNS):
        searched_s += under_load(url, question, 1, seconds / TURNS).latencies_s
        encoded_s += encoder.latencies(seconds / TURNS)
    yield told({"case": f"{name}: {LONE_SEARCH}", "connections": 1, **milliseconds(searched_s)})
    yield encoder.row(f" beside {name}", encoded_s)


def graph_rows(
    graph: str,
    ingress: str,
    *,
    coalesced: bool,
    paths: Iterable[str],
    folder: Path,
    precision: str,
    encoders: Mapping[str, Any],
    encoder: InProcess,
    seconds: float,
) -> list[dict[str, Any]]:
    """Start one graph one way and measure it."""
    name = f"{graph}, {ingress}, {'coalesced' if coalesced else 'a call each'}"
    file = product_file(**encoders) if graph == "product" else other_file("benchmarks.noop_graph:build")
    settings = {**encoder_settings(folder, precision), **({} if coalesced else UNCOALESCED)}
    with running(f"hops-{graph}-{ingress}", file, settings, ingress) as started:
        rows = list(measure(started.url, name, paths, seconds))
        if coalesced:
            rows += in_turns(started.url, name, encoder, TURNS * seconds)
        return rows


def late_row(ingress: str, computes_ms: float, seconds: float) -> dict[str, Any]:
    """Lone searches of the no-op graph whose encoder takes so long; `hops_ms`: what is left of the median without that."""
    file = other_file("benchmarks.noop_graph:build", {"computes_ms": computes_ms})
    with running(f"hops-late-{ingress}", file, {}, ingress) as started:
        question = text_searches(started.url, texts())
        under_load(started.url, question, 1, 1.0)
        load = under_load(started.url, question, 1, seconds)
        found = milliseconds(load.latencies_s)
        case = f"noop, {ingress}, coalesced: {LATE_SEARCH} {computes_ms:.3g} ms"
        return told({"case": case, "connections": 1, **found, "hops_ms": found["p50_ms"] - computes_ms})


def encode_beside_ms(rows: Sequence[Mapping[str, Any]], ingress: str) -> float | None:
    """The median of encoding in process beside the product."""
    case = f"{IN_PROCESS} beside product, {ingress}, coalesced"
    return next((row["p50_ms"] for row in rows if row["case"].startswith(case)), None)


def verdicts(rows: Sequence[Mapping[str, Any]], ways: Sequence[str]) -> dict[str, float]:
    """For each way in: what coalescing brings at the highest concurrency, and what one lone search costs beyond its work.

    `lone p50` divides the product's by the in-process encode plus 1.2 times the no-op graph's, or that one's hops when it takes
    as long. Left out where a part was not measured.
    """

    def figure(case: str, connections: int, name: str) -> float | None:
        found = (row[name] for row in rows if row["case"].startswith(case) and row["connections"] == connections)
        return next(found, None)

    crowd = max(CONCURRENCIES)
    found = {}
    for way in ways:
        for graph in GRAPHS:
            together = figure(f"{graph}, {way}, coalesced: {SEARCH}", crowd, "requests_per_s")
            apart = figure(f"{graph}, {way}, a call each: {SEARCH}", crowd, "requests_per_s")
            if together and apart:
                found[f"{way}: {graph} coalesced over a call each"] = together / apart
        ours = figure(f"product, {way}, coalesced: {LONE_SEARCH}", 1, "p50_ms")
        noop = figure(f"noop, {way}, coalesced: {LONE_SEARCH}", 1, "p50_ms")
        encoded = {
            "beside it": encode_beside_ms(rows, way),
            "on an idle machine": figure(f"{IN_PROCESS},", 1, "p50_ms"),
        }
        for where, encode_ms in encoded.items():
            if ours and noop and encode_ms:
                found[f"{way}: lone p50 over encode {where} + 1.2 x noop"] = ours / (encode_ms + 1.2 * noop)
        late_ms = figure(f"noop, {way}, coalesced: {LATE_SEARCH}", 1, "hops_ms")
        if ours and late_ms and encoded["beside it"]:
            case = f"{way}: lone p50 over encode beside it + 1.2 x hops of noop as late"
            found[case] = ours / (encoded["beside it"] + 1.2 * late_ms)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hops", description=__doc__)
    parser.add_argument(
        "--model", default="ViT-B-32", help="an architecture of OpenCLIP; random weights are made for it"
    )
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ingress", nargs="+", default=list(INGRESS), choices=INGRESS)
    parser.add_argument("--graphs", nargs="+", default=GRAPHS, choices=GRAPHS)
    parser.add_argument("--searches", action="store_true", help="nothing but searches")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each single measurement")
    takes_encoders(parser)
    options = parser.parse_args()
    machine = machine_facts()
    folder = checkpoint(options.model)
    encoders = encoders_asked_for(options)
    torch.set_num_threads(encoders["threads"])
    encoder = InProcess(folder, options.precision)
    rows = [encoder.row("", encoder.latencies(options.seconds))]
    for ingress, graph, coalesced in itertools.product(options.ingress, options.graphs, (False, True)):
        rows += graph_rows(
            graph,
            ingress,
            coalesced=coalesced,
            paths=() if options.searches else HOPS,
            folder=folder,
            precision=options.precision,
            encoders=encoders,
            encoder=encoder,
            seconds=options.seconds,
        )
    for ingress in options.ingress:
        encode_ms = encode_beside_ms(rows, ingress)
        if encode_ms is not None:
            rows.append(late_row(ingress, encode_ms, options.seconds))
    run = {
        "model": options.model,
        "precision": options.precision,
        "encoders of each kind": options.encoders,
        "threads of an encoder": encoders["threads"],
        "seconds": options.seconds,
        **verdicts(rows, options.ingress),
    }
    write_report("hops", rows, run, machine=machine)


if __name__ == "__main__":
    main()
