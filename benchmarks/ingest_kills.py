"""Kills at random moments of an ingest: a driver, an encoder, a node. What the table holds afterwards, and the work repeated.

    .venv/bin/python -m benchmarks.ingest_kills --runs 10

A cluster of Ray with three nodes on this machine takes the same job again and again, each time into a table of its own. Once a
random number of commits is noted, `kill -9` goes to the driver, to a worker that encodes, or to a whole node (which is replaced).
A job that breaks off is begun again with its job id until it has finished. Then every row of the table is compared with that of
a run that nobody disturbed: id, modality, address, text, hash, metadata and vector.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import yaml
from ray.cluster_utils import Cluster

from benchmarks.ingest_corpus import Corpus, corpus
from benchmarks.reporting import machine_facts, told, write_report
from configs.schema import TableConfig
from deployments.jobs.ledger import Ledger
from serve_app.adapters.lance_table import LanceTable
from serve_app.local_graph import processes
from serve_app.types import JobStatus, StoredDocument

COMMIT_ROWS = 32
CORES = 2  # of each node that works
ATTEMPTS = 5
WITHIN_S = 240.0
VICTIMS = ("driver", "encoder", "node")
ENCODER = "ray::MapWorker(MapBatches(Encode))"


class Nodes:
    """A head that only coordinates, and two nodes that work."""

    def __init__(self, folder: str) -> None:
        # The head alone declares no core: what works can be killed without the cluster.
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "temp_dir": folder, "include_dashboard": False},
        )
        self.address = str(self._cluster.gcs_address)
        self._working = [self._add() for _ in range(2)]

    def lose_one(self, chance: random.Random) -> None:
        """All processes of a node are killed, and another node comes in its place."""
        lost = self._working.pop(chance.randrange(len(self._working)))
        self._cluster.remove_node(lost, allow_graceful=False)
        self._working.append(self._add())

    def shutdown(self) -> None:
        self._cluster.shutdown()

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=CORES, object_store_memory=300 * 1024 * 1024)


class Run:
    """One job, in a folder of its own."""

    def __init__(self, folder: Path, items: Corpus, address: str, number: int) -> None:
        self._folder = folder
        self.table = TableConfig(uri=str(folder / "table"))
        self._job = f"run-{number}"
        self.ledger = Ledger(self.table, self._job)
        overrides = {
            "table": {"uri": self.table.uri},
            "storage": {"uri": str(folder / "kept")},
            "pictures": {"allowed_roots": [f"{items.files[0].parent}/"]},
        }
        application = {"import_path": "deployments.graph:build", "args": {"profile": "demo", "overrides": overrides}}
        serve = folder / "serve.yaml"
        serve.write_text(yaml.safe_dump({"applications": [{"name": "a", **application}]}), encoding="utf-8")
        job = ("--job-id", self._job, "--address", address, "--config", str(serve), "--commit-rows", str(COMMIT_ROWS))
        workers = ("--encoders", "2", "--readers", "2")
        self._command = [sys.executable, "-m", "deployments.jobs.ingest", *job, *workers, str(items.listed)]

    def start(self) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log)

    def commits(self) -> int:
        folder = Path(self.table.uri, "_jobs", self._job, "done")
        return len(list(folder.glob("*.parquet"))) if folder.exists() else 0

    def finish(self, driver: subprocess.Popen[bytes]) -> int:
        """Wait for the end, and begin again as often as it takes; returns how often."""
        for again in range(ATTEMPTS):
            driver.wait(WITHIN_S)
            state = self.ledger.state()
            if state is not None and state.status is JobStatus.FINISHED:
                return again
            driver = self.start()
        raise RuntimeError(f"the job did not finish in {ATTEMPTS} attempts; see {self._folder / 'log'}")

    def rows(self) -> dict[str, StoredDocument]:
        """By id."""
        return asyncio.run(_rows(LanceTable(self.table.uri, self.table.name)))


async def _rows(table: LanceTable) -> dict[str, StoredDocument]:
    found: dict[str, StoredDocument] = {}
    after = None
    while portion := await table.find(None, 1000, after):
        found |= {row.document.id: row for row in portion}
        after = portion[-1].document.id
    counted = sum((await table.info()).counts.values())
    if counted != len(found):
        raise RuntimeError(f"{counted} rows have {len(found)} ids")
    return found


def differences(found: dict[str, StoredDocument], expected: dict[str, StoredDocument]) -> dict[str, Any]:
    """Rows that are not the same in all but their times; how far apart vectors are at most."""
    shared = found.keys() & expected.keys()
    wrong = [each for each in shared if _said(found[each]) != _said(expected[each])]
    apart = [float(np.abs(found[each].vector - expected[each].vector).max()) for each in shared]
    return {
        "missing": len(expected.keys() - found.keys()),
        "too_many": len(found.keys() - expected.keys()),
        "different": len(wrong),
        "vectors_not_bit_equal": sum(each > 0 for each in apart),
        "vectors_apart": max(apart, default=0.0),
    }


def _said(row: StoredDocument) -> tuple[Any, ...]:
    document = row.document
    return (document.modality, document.uri, document.text, document.content_sha256, document.metadata, row.fingerprint)


def disturb(run: Run, nodes: Nodes, victim: str, after_commits: int, chance: random.Random) -> dict[str, Any]:
    """Start the job, kill once so many commits are noted, and see it through."""
    began = time.perf_counter()
    driver = run.start()
    while run.commits() < after_commits and driver.poll() is None:
        time.sleep(0.02)
    killed_at = run.commits()
    if victim == "driver":
        driver.kill()
    elif victim == "encoder":
        pids = _encoders(nodes)
        while not pids and driver.poll() is None:
            # Between two batches a worker goes by another name for a moment.
            time.sleep(0.02)
            pids = _encoders(nodes)
        if pids:
            os.kill(chance.choice(pids), signal.SIGKILL)
        else:
            victim = "none: the job had ended"
    else:
        nodes.lose_one(chance)
    again = run.finish(driver)
    state = run.ledger.state()
    done = run.ledger.done()
    if state is None:
        raise RuntimeError("a job that has finished has a state")
    return {
        "victim": victim,
        "killed_after_commits": killed_at,
        "begun_again": again,
        "stored": done.stored,
        "encoded": state.encoded,
        "encoded_again": max(0, state.encoded - done.encoded),
        "seconds": time.perf_counter() - began,
    }


def _encoders(nodes: Nodes) -> list[int]:
    return [each.pid for each in processes() if each.name.startswith(ENCODER) and _is_of(each.pid, nodes.address)]


def _is_of(pid: int, address: str) -> bool:
    """Whether a worker belongs to the cluster: others may run on this machine."""
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    parent = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
    command = Path(f"/proc/{parent}/cmdline").read_bytes()
    return address.encode() in environment or address.encode() in command


@contextmanager
def nodes_up() -> Iterator[Nodes]:
    # Paths of Ray's sockets have to be short.
    nodes = Nodes(mkdtemp(prefix="ck-"))
    try:
        yield nodes
    finally:
        nodes.shutdown()


def main() -> int:
    """Command line; 1 where a table differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest_kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=900)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    items = corpus(options.pictures, options.texts, size=128)
    machine, chance, rows = machine_facts(), random.Random(options.seed), []
    commits = (options.pictures + options.texts) // COMMIT_ROWS
    with nodes_up() as nodes, TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as folder:
        expected = _undisturbed(Path(folder), items, nodes.address)
        for number in range(1, options.runs + 1):
            place = Path(folder, str(number))
            place.mkdir()
            run = Run(place, items, nodes.address, number)
            victim, moment = VICTIMS[(number - 1) % len(VICTIMS)], chance.randrange(commits * 3 // 4)
            row = disturb(run, nodes, victim, moment, chance)
            rows.append(told({"run": number, **row, **differences(run.rows(), expected)}))
    settings = {"pictures": options.pictures, "texts": options.texts, "commit_rows": COMMIT_ROWS, "seed": options.seed}
    write_report("ingest_kills", rows, settings, machine=machine)
    return int(any(row["missing"] or row["too_many"] or row["different"] for row in rows))


def _undisturbed(folder: Path, items: Corpus, address: str) -> dict[str, StoredDocument]:
    place = folder / "undisturbed"
    place.mkdir()
    run = Run(place, items, address, 0)
    run.finish(run.start())
    return run.rows()


if __name__ == "__main__":
    sys.exit(main())
