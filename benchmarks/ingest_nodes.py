"""A job whose cluster loses a node for good: whether it goes on by itself on the nodes that are left, and what it costs.

    .venv/bin/python -m benchmarks.ingest_nodes --runs 3

Each run has a cluster of its own on this machine: a head without cores, where the driver is, and nodes that work. After a commit
drawn by chance one of them, drawn by chance, is lost with all its processes (`kill -9`), and none comes in its place. Then every
row of the table is compared with that of a run that nobody disturbed. `stalled_s`: the longest time without a commit after the
loss; Ray itself takes some of it to find out. `ingest_kills` has nodes that are replaced, and kills of other kinds.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ray.cluster_utils import Cluster

from benchmarks.ingest_corpus import corpus
from benchmarks.ingest_kills import WITHIN_S, Run, differences
from benchmarks.reporting import machine_facts, told, write_report
from serve_app.local_graph import processes

STORE_BYTES = 150 * 1024 * 1024
LOOK_AGAIN_S = 0.05
STAGES = ("Prepare", "Encode", "Write")


@contextmanager
def cluster_of(nodes: int, cpus: int) -> Iterator[Cluster]:
    """A head without cores, and `nodes` that have some."""
    # Paths of Ray's sockets have to be short.
    with TemporaryDirectory(prefix="cn-", ignore_cleanup_errors=True) as folder:
        head = {"num_cpus": 0, "temp_dir": folder, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(nodes):
                cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)
            yield cluster
        finally:
            cluster.shutdown()


def lose_a_node(cluster: Cluster, chance: random.Random) -> str:
    """Kill a node with all that runs on it, as when a machine goes; returns which workers of the job ran there."""
    node = chance.choice(cluster.list_all_nodes()[1:])
    family = _family_of({each.process.pid for kind in node.all_processes.values() for each in kind})
    names = {each.pid: each.name for each in processes()}
    # Ray calls its workers after what they do.
    working = Counter(stage for pid in family for stage in STAGES if f"({stage})" in names.get(pid, ""))
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)
    return ", ".join(f"{count} {stage}" for stage, count in sorted(working.items())) or "nothing"


def _family_of(ancestors: set[int]) -> set[int]:
    """These processes, and all that they started, and they."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # One that ends while we look has no more to say.
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name in brackets may hold spaces and brackets: fields are counted from its end.
            parents[int(stat.parent.name)] = int(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    family = set(ancestors)
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def disturb(run: Run, cluster: Cluster, after_commits: int, chance: random.Random) -> dict[str, Any]:
    """Start the job, take a node away once so many commits are noted, and see it through."""
    began = time.perf_counter()
    driver, lost = run.start(), "none"
    if _wait_for_commits(run, driver, after_commits):
        time.sleep(chance.uniform(0, 1))
        lost = lose_a_node(cluster, chance)
    stalled_s = _longest_pause(run, driver)
    # Nothing to wait for if it went on by itself.
    again = run.finish(driver)
    state, done = run.ledger.state(), run.ledger.done()
    if state is None:
        raise RuntimeError("a job that has finished has a state")
    return {
        "after_commits": after_commits,
        "lost": lost,
        "begun_again": again,
        "stalled_s": stalled_s,
        "encoded_again": max(0, state.encoded - done.encoded),
        "seconds": time.perf_counter() - began,
    }


def _wait_for_commits(run: Run, driver: "subprocess.Popen[bytes]", commits: int) -> bool:
    while run.commits() < commits and driver.poll() is None:
        time.sleep(LOOK_AGAIN_S)
    return driver.poll() is None


def _longest_pause(run: Run, driver: "subprocess.Popen[bytes]") -> float:
    """Seconds without a commit, until the driver ends. One that makes none for too long is killed."""
    longest, seen, since = 0.0, run.commits(), time.monotonic()
    while driver.poll() is None:
        if (commits := run.commits()) != seen:
            seen, since = commits, time.monotonic()
        longest = max(longest, time.monotonic() - since)
        if longest > WITHIN_S:
            driver.kill()
        time.sleep(LOOK_AGAIN_S)
    return longest


def main() -> int:
    """Command line; 1 where a table differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest_nodes", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=2, help="of each node, as Ray is told")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    items = corpus(options.pictures, options.texts, size=128)
    machine, rows = machine_facts(), []
    with TemporaryDirectory(prefix="nodes-") as folder:

        def run_on(cluster: Cluster, number: int) -> Run:
            place = Path(folder, str(number))
            place.mkdir()
            return Run(place, items, str(cluster.gcs_address), number)

        with cluster_of(options.nodes, options.cpus) as cluster:
            began, calm = time.perf_counter(), run_on(cluster, 0)
            calm.finish(calm.start())
            rows.append(told({"run": "undisturbed", "seconds": time.perf_counter() - began}))
        expected, commits = calm.rows(), calm.commits()
        for number in range(1, options.runs + 1):
            chance = random.Random(f"{options.seed} {number}")
            with cluster_of(options.nodes, options.cpus) as cluster:
                run = run_on(cluster, number)
                row = disturb(run, cluster, chance.randint(1, max(1, commits * 3 // 4)), chance)
            rows.append(told({"run": number, **row, "commits": run.commits(), **differences(run.rows(), expected)}))
    settings = {name: getattr(options, name) for name in ("pictures", "texts", "nodes", "cpus", "seed")}
    write_report("ingest_nodes", rows, settings, machine=machine)
    return int(any(row.get("missing") or row.get("too_many") or row.get("different") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
