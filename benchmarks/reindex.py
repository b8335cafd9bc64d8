"""Another model for a running service, under traffic, and back again: how many requests fail, and what they wait.

    .venv/bin/python -m benchmarks.reindex --documents 10000

A graph with the demo model holds so many documents, four texts to a picture. People search, embed and write all the time, while
`crossmodal reindex` goes over to another checkpoint (the demo model, shaken: a model of its own with vectors of its own) and then
back. `kills` ends the job's driver by SIGKILL so often, after random seconds, and starts it again. A request fails if it is
answered by an error or not at all; nothing is repeated. Afterwards every acknowledged write is looked for.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import ray
import yaml

from benchmarks.graphs import product_file
from benchmarks.reporting import FOLDER, machine_facts, milliseconds, quantile, told, write_report
from benchmarks.workload import texts
from serve_app.client import Client, NewDocument
from serve_app.demo.corpus import demo_pictures
from serve_app.demo.network import MODEL_FOLDER
from serve_app.errors import CrossmodalError
from serve_app.local_graph import LocalGraph, read_serve_file, serve_command

READY_S = 300.0
SHAKEN = 0.3
# One document in so many is a picture: drawing them takes longer than storing them.
PICTURE_SHARE = 5
KINDS = ("search", "picture", "embed", "write")


class Traffic:
    """One user of each kind, who asks, waits `pause_s`, and asks again. Thread by thread, with the latency of each answer."""

    def __init__(self, url: str, pictures: Sequence[bytes], pause_s: float) -> None:
        self.latencies_s: dict[str, list[float]] = defaultdict(list)
        self.failures: list[str] = []
        self.written: dict[str, str] = {}
        self._url, self._pictures, self._pause_s = url, pictures, pause_s
        self._enough = threading.Event()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        self._enough.clear()
        works: dict[str, Callable[[Client], object]] = {
            "search": lambda client: client.search(random.choice(("two red boats at night", "a cat", "snow"))),
            "picture": lambda client: client.search(image=random.choice(self._pictures)),
            "embed": lambda client: client.embed(["a house"], images=[self._pictures[0]]),
            "write": self._write,
        }
        threads = [threading.Thread(target=self._use, args=(kind, works[kind])) for kind in KINDS]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()

    def figures(self) -> dict[str, float]:
        searches = self.latencies_s["search"]
        writes = self.latencies_s["write"]
        return {
            "requests": sum(map(len, self.latencies_s.values())),
            "failed": len(self.failures),
            **{f"search_{name}": value for name, value in milliseconds(searches).items()},
            "search_max_ms": 1000 * max(searches, default=0.0),
            "write_p50_ms": 1000 * quantile(writes, 0.5),
            "write_max_ms": 1000 * max(writes, default=0.0),
        }

    def _use(self, kind: str, work: Callable[[Client], object]) -> None:
        with Client(self._url, retries=0) as client:
            while not self._enough.wait(self._pause_s):
                began = time.perf_counter()
                try:
                    work(client)
                except CrossmodalError as error:
                    self.failures.append(f"{kind}: {error.code}: {error.message}")
                self.latencies_s[kind].append(time.perf_counter() - began)

    def _write(self, client: Client) -> None:
        # New ones, and old ones again with other words.
        number = len(self.latencies_s["write"])
        name, words = f"written-{number % 500}", f"a red boat, number {number}"
        (added,) = client.add([NewDocument(id=name, text=words)])
        if added.error is not None:
            raise added.error
        self.written[name] = words


def fill(client: Client, documents: int) -> list[bytes]:
    """A fifth pictures, the rest texts; some of the pictures' files."""
    pictures = [(picture.id, picture.encoded()) for picture in demo_pictures(seed=1, count=documents // PICTURE_SHARE)]
    said = islice(texts(), documents - len(pictures))
    new = [
        *(NewDocument(id=name, image=data) for name, data in pictures),
        *(NewDocument(id=f"text-{at}", text=text) for at, text in enumerate(said)),
    ]
    failed = [added for added in client.add(new) if added.error is not None]
    if failed:
        raise SystemExit(f"{len(failed)} documents were not stored: {failed[0].error}")
    return [data for _, data in pictures[:200]]


def shaken_model(folder: Path) -> str:
    """The demo model with noise in all its matrices."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(7)
    weights = load_file(MODEL_FOLDER / "open_clip_model.safetensors")
    for name, value in weights.items():
        if value.is_floating_point() and value.ndim == 2 and len(value) > 1:
            noise = torch.randn(value.shape, generator=generator) * value.float().std()
            weights[name] = (value.float() + SHAKEN * noise).to(value.dtype)
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    (folder / "open_clip_config.json").write_text((MODEL_FOLDER / "open_clip_config.json").read_text())
    return f"local-dir:{folder}"


def reindexed(arguments: Sequence[str], kills: int, log: Path) -> tuple[dict[str, Any], float]:
    """Run the job until it gets through; what it says in the end, and how long all attempts took together."""
    command = [sys.executable, "-m", "deployments.jobs.reindex", "--json", *arguments]
    began = time.monotonic()
    for attempt in range(kills + 1):
        with log.open("ab") as errors:
            job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
            try:
                said, _ = job.communicate(timeout=random.uniform(8, 25) if attempt < kills else 1800)
            except subprocess.TimeoutExpired:
                os.kill(job.pid, signal.SIGKILL)
                job.communicate()
                continue
        if job.returncode:
            raise SystemExit(f"the job failed: {log.read_text()[-2000:]}")
        return json.loads(said[said.index(b"{") :]), time.monotonic() - began
    raise AssertionError("unreachable")


def lost(client: Client, written: dict[str, str]) -> int:
    """How many acknowledged writes are not as they were written."""
    stored = {document.id: document.text for document in client.documents({"field": "id", "prefix": "written-"})}
    return sum(stored.get(name) != words for name, words in written.items())


def case(
    name: str, url: str, pictures: Sequence[bytes], work: Callable[[], tuple[dict[str, Any], float]]
) -> dict[str, Any]:
    traffic = Traffic(url, pictures, pause_s=0.05)
    with traffic.flowing():
        said, seconds = work()
        time.sleep(3)
    with Client(url) as client:
        missing = lost(client, traffic.written)
    for failure in traffic.failures[:5]:
        print(failure, file=sys.stderr)
    comparison = said.get("comparison") or {}
    return told(
        {
            "case": name,
            "seconds": seconds,
            **traffic.figures(),
            "writes_lost": missing,
            "encoded": said.get("job", {}).get("encoded"),
            "rounds": len(said.get("rounds", ())),
            "held_s": said.get("held_s"),
            "overlap_at_10": comparison.get("overlap"),
            "before_search_p50_ms": (comparison.get("before") or {}).get("search_p50_ms"),
            "after_search_p50_ms": (comparison.get("after") or {}).get("search_p50_ms"),
        }
    )


@contextmanager
def service(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """A Ray of this process and the product's graph on it: its URL, its Serve file, and the address of Ray."""
    file = product_file(threads=1)
    overrides = {"table": {"uri": str(folder / "table")}, "storage": {"uri": str(folder / "pictures")}}
    file.content["applications"][0]["args"] = {"profile": "demo", "overrides": overrides}
    serve_file = folder / "serve.yaml"
    serve_file.write_text(yaml.safe_dump(dict(file.content)), encoding="utf-8")
    ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
    try:
        address = str(ray.get_runtime_context().gcs_address)
        command = [*serve_command(own_ray=False), "--address", address]
        with LocalGraph(read_serve_file(serve_file), folder / "run", {}, command) as graph:
            graph.wait_until_ready(READY_S, lambda _: None)
            yield graph.url, serve_file, address
    finally:
        ray.shutdown()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=0, help="of the job's driver on the way to the other model")
    parser.add_argument("--share", type=float, default=0.5, help="of the cores, for the job")
    given = parser.parse_args()
    facts = machine_facts()
    with tempfile.TemporaryDirectory(prefix="reindex-") as name:
        folder = Path(name)
        model = shaken_model(folder / "model")
        with service(folder) as (url, serve_file, address), Client(url) as client:
            pictures = fill(client, given.documents)
            common = ["--config", str(serve_file), "--address", address, "--url", url, "--share", str(given.share)]
            quiet = case("traffic alone, 20 s", url, pictures, lambda: (time.sleep(20) or {}, 20.0))
            rows = [quiet]
            log = folder / "job.log"
            own = client.models()["data"][0]["fingerprint"]
            forth = [*common, "--model", model]
            killed = f", driver killed {given.kills} times" if given.kills else ""
            rows.append(case(f"to another model{killed}", url, pictures, lambda: reindexed(forth, given.kills, log)))
            other = client.models()["data"][0]["fingerprint"]
            rows.append(case("back", url, pictures, lambda: reindexed([*common, "--rollback"], 0, log)))
            if own == other or client.models()["data"][0]["fingerprint"] != own:
                raise SystemExit("the service did not change its model as it should have")
    settings = {"documents": given.documents, "share": given.share, "kills": given.kills, "users": len(KINDS)}
    write_report("reindex" + ("-killed" if given.kills else ""), rows, settings, machine=facts, folder=FOLDER)
    if sum(row["failed"] + row["writes_lost"] for row in rows):
        raise SystemExit("requests failed, or writes were lost")


if __name__ == "__main__":
    main()
