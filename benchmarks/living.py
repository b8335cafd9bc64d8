"""A running service with documents in it, people who use it all the time, and a job beside them. Measures what they see."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ray
import yaml

from benchmarks.graphs import product_file
from benchmarks.reporting import milliseconds, quantile
from benchmarks.workload import texts
from serve_app.client import Client, NewDocument
from serve_app.demo.corpus import demo_pictures
from serve_app.errors import CrossmodalError
from serve_app.local_graph import LocalGraph, read_serve_file, serve_command

READY_S = 300.0
# One document in so many is a picture: drawing them takes longer than storing them.
PICTURE_SHARE = 5
KINDS = ("search", "picture", "embed", "write")
WRITTEN = tuple(f"written-{number}" for number in range(500))


class Traffic:
    """One user of each kind, who asks, waits `pause_s`, and asks again. Thread by thread, with the latency of each answer.

    `names`: the ids that the writer replaces, one after the other and again from the first.
    """

    def __init__(self, url: str, pictures: Sequence[bytes], pause_s: float, names: Sequence[str] = WRITTEN) -> None:
        self.latencies_s: dict[str, list[float]] = defaultdict(list)
        self.failures: list[str] = []
        self.written: dict[str, str] = {}
        self._url, self._pictures, self._pause_s, self._names = url, pictures, pause_s, names
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
        name, words = self._names[number % len(self._names)], f"a red boat, number {number}"
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


def run_job(name: str, arguments: Sequence[str], kills: int, log: Path) -> tuple[dict[str, Any], float]:
    """Run a job until it gets through; what it says in the end, and how long all attempts took together."""
    command = [sys.executable, "-m", f"deployments.jobs.{name}", "--json", *arguments]
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


@contextmanager
def service(folder: Path, pictures: Mapping[str, Any] = MappingProxyType({})) -> Iterator[tuple[str, Path, str]]:
    """A Ray of this process and the product's graph on it: its URL, its Serve file, and the address of Ray.

    `pictures`: settings of that section.
    """
    file = product_file(threads=1)
    overrides = {
        "table": {"uri": str(folder / "table")},
        "storage": {"uri": str(folder / "pictures")},
        "pictures": dict(pictures),
    }
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
