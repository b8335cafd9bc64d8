"""The same work by others, in one run: OpenCLIP's plain loop, infinity_emb, a naive Serve graph, and this service.

    .venv/bin/python -m benchmarks.peers
    .venv/bin/python -m benchmarks.peers --setup   # only infinity's environment and the checkpoint in the layout it reads

Every server gets the same pictures and texts, one a request, from the same load generator, on all cores of the machine; one after
the other, or with `--turns` while all of them run: neighbours come and go within seconds, but an idle Ray takes a few percent.
infinity_emb is started with each of the settings that change its speed on a CPU, and the best one is named: the batch size.
Its `--dtype` does nothing for CLIP on a CPU (it is read for CUDA alone; vectors of bfloat16 and float32 are the same), and it
cuts texts to 20 tokens (`max_length` of the model's generation settings), which makes its texts cheaper than they should be.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import hf_clip
from benchmarks.graphs import (
    INGRESS,
    cores,
    encoder_settings,
    encoders_asked_for,
    other_file,
    product_file,
    running,
    takes_encoders,
)
from benchmarks.http_load import PICTURES, compared, measure_plain, under_load
from benchmarks.load import Load
from benchmarks.reporting import FOLDER, machine_facts, told, write_report
from benchmarks.wire import Question, encoder_of, get_json, picture_embeddings, product_questions, text_embeddings
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.local_graph import free_port
from serve_app.ways_in import HAPROXY

INFINITY = FOLDER / "infinity"
CONSTRAINTS = Path(__file__).with_name("infinity-constraints.txt")
REQUIREMENTS = ("infinity-emb[torch,server,vision,cache]", "aiohttp", "soundfile")
INFINITY_BATCHES = (8, 32)
CONCURRENCIES = (1, 32)
TEXT_CONCURRENCIES = (1, 64)
SERVERS = ("crossmodal", "naive", "infinity", "plain")
START_S = 180.0
STOP_S = 20.0
SAME_VECTORS = 1e-5


def set_up(architecture: str, python: Path) -> None:
    """Make infinity's environment and its copy of the checkpoint. Raises ValueError where the copy gives other vectors."""
    environment = INFINITY / "venv"
    uv = shutil.which("uv", path=python.parent)
    if uv is None:
        raise FileNotFoundError(f"uv is expected beside {python}, where `make` puts it")
    if not (environment / "bin" / "python").exists():
        subprocess.run([uv, "venv", "--python", python, environment], check=True)
    subprocess.run(
        [uv, "pip", "install", "--python", environment / "bin" / "python", "--constraints", CONSTRAINTS, *REQUIREMENTS],
        check=True,
    )
    original = checkpoint(architecture)
    converted = hf_clip.convert(original, INFINITY / architecture)
    words = ["a red boat", "two small birds above a wooden house"]
    differences = hf_clip.largest_difference(original, converted, words)
    print(f"largest difference of the converted checkpoint's vectors: {differences}")
    if max(differences.values()) > SAME_VECTORS:
        raise ValueError(f"the converted checkpoint is another model: {differences}")


@contextmanager
def infinity(model: Path, batch_size: int) -> Iterator[str]:
    """A running infinity_emb; its URL. Gone at the end. Raises TimeoutError when it does not start."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str((INFINITY / "venv" / "bin" / "infinity_emb").absolute()),
        *("v2", "--model-id", str(model.resolve()), "--served-model-name", "clip"),
        *("--engine", "torch", "--device", "cpu", "--dtype", "float32"),
        *("--no-bettertransformer", "--no-model-warmup", "--batch-size", str(batch_size)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    environment = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(cores())}
    with (INFINITY / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(url, server)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            get_json(url, "/health")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(f"infinity_emb did not start; its log is {INFINITY / 'server.log'}")


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs, and what it is asked."""

    name: str
    url: str
    pictures: Question
    words: Question


@contextmanager
def ours(folder: Path, precision: str, ingress: str, encoders: Mapping[str, Any]) -> Iterator[Server]:
    """This service; its name says which precision it chose."""
    with running("peers", product_file(**encoders), encoder_settings(folder, precision), ingress) as graph:
        chosen: str = encoder_of(graph.url)["precision"]
        pictures, words = product_questions(graph.url, jpegs(PICTURES), texts())
        yield Server(f"crossmodal {chosen}", graph.url, pictures[0], words[-1])


@contextmanager
def naive(folder: Path, dimension: int) -> Iterator[Server]:
    """The naive graph."""
    arguments = {"checkpoint": str(folder.resolve()), "num_cpus": cores()}
    with running("naive", other_file("benchmarks.naive_graph:build", arguments)) as graph:
        yield asked_as_openai("naive Serve graph", graph.url, "/v1/embeddings", dimension, seed=3)


@contextmanager
def infinity_of(architecture: str, dimension: int, batch_size: int) -> Iterator[Server]:
    """infinity_emb with this batch size."""
    with infinity(INFINITY / architecture, batch_size) as url:
        yield asked_as_openai(f"infinity_emb, batch {batch_size}", url, "/embeddings", dimension, seed=batch_size)


def asked_as_openai(name: str, url: str, path: str, dimension: int, seed: int) -> Server:
    pictures = picture_embeddings(url, path, "clip", jpegs(PICTURES), dimension)
    return Server(name, url, pictures, text_embeddings(url, path, "clip", texts(seed=seed), dimension))


def measure(servers: Sequence[Server], seconds: float, turns: int) -> Iterator[dict[str, Any]]:
    """Rows of servers that run beside each other, pictures and texts; so many seconds of each, in turns."""
    for kind, concurrencies in (("picture", CONCURRENCIES), ("text", TEXT_CONCURRENCIES)):
        for concurrency in concurrencies:
            loads: dict[str, list[Load]] = {server.name: [] for server in servers}
            for _, server in itertools.product(range(turns), servers):
                question = server.pictures if kind == "picture" else server.words
                loads[server.name].append(under_load(server.url, question, concurrency, seconds / turns))
            for name, of_turns in loads.items():
                load = Load.joined(of_turns)
                yield told({"case": f"{kind}, {name}, {concurrency} connections", **load.figures()})


def dimension_of(folder: Path) -> int:
    """Of a checkpoint's vectors."""
    described = json.loads((folder / hf_clip.CONFIG_NAME).read_text(encoding="utf-8"))
    return int(described["model_cfg"]["embed_dim"])


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Our best rate over the best of each other server that was measured, for pictures and for texts."""

    def best(kind: str, server: str) -> float:
        found = [row["requests_per_s"] for row in rows if row["case"].startswith(f"{kind}, {server}")]
        return max(found, default=0.0)

    return {
        f"{kind}s: ours over {server}": best(kind, "crossmodal") / best(kind, server)
        for kind in ("picture", "text")
        for server in ("infinity_emb", "naive Serve graph", "plain loop")
        if best(kind, server) > 0
    }


def starts_of(
    options: argparse.Namespace, folder: Path, dimension: int
) -> list[Callable[[], AbstractContextManager[Server]]]:
    """What starts each of the servers that are asked for."""
    starts: list[Callable[[], AbstractContextManager[Server]]] = []
    if "crossmodal" in options.servers:
        starts.append(partial(ours, folder, options.precision, options.ingress, encoders_asked_for(options)))
    if "naive" in options.servers:
        starts.append(partial(naive, folder, dimension))
    if "infinity" in options.servers:
        starts += [partial(infinity_of, options.model, dimension, size) for size in INFINITY_BATCHES]
    return starts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--setup", action="store_true", help="make infinity's environment and checkpoint, and end")
    parser.add_argument("--model", default="ViT-B-32", help="an architecture that CLIPModel of transformers has")
    parser.add_argument("--servers", nargs="+", default=SERVERS, choices=SERVERS)
    parser.add_argument("--precision", default="auto", help="of this service; the others run float32")
    parser.add_argument("--ingress", default=HAPROXY, choices=INGRESS)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each single measurement")
    parser.add_argument(
        "--turns",
        type=int,
        default=1,
        help="measure servers in so many turns while all of them run, so that a noisy machine is as noisy for each",
    )
    takes_encoders(parser)
    options = parser.parse_args()
    if options.setup or ("infinity" in options.servers and not (INFINITY / options.model / "config.json").exists()):
        set_up(options.model, Path(sys.prefix) / "bin" / "python")
    if options.setup:
        return
    machine = machine_facts()
    folder = checkpoint(options.model)
    dimension = dimension_of(folder)
    rows: list[dict[str, Any]] = []
    encoders, starts = encoders_asked_for(options), starts_of(options, folder, dimension)
    for together in [[start] for start in starts] if options.turns == 1 else [starts]:
        with ExitStack() as stack:
            servers = [stack.enter_context(start()) for start in together]
            rows += measure(servers, options.seconds, options.turns)
    if "plain" in options.servers:
        rows = compared(rows, measure_plain(folder, "float32", options.seconds))
    run = {
        "model": options.model,
        "precision of the others": "float32",
        "ingress": options.ingress,
        "threads": cores(),
        "encoders of ours, of each kind": options.encoders,
        "threads of each of them": encoders["threads"],
        "seconds": options.seconds,
        "turns": options.turns,
        **ratios(rows),
    }
    write_report("peers", rows, run, machine=machine)


if __name__ == "__main__":
    main()
