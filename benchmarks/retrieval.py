"""Nearest neighbours in the table as the index policy has it: build time, size, latency, throughput, recall, memory.

    .venv/bin/python -m benchmarks.retrieval                          # 10,000, 100,000 and 1,000,000 rows, and the plot
    .venv/bin/python -m benchmarks.retrieval --rows 100000 --peers    # beside FAISS, hnswlib and Qdrant
    .venv/bin/python -m benchmarks.retrieval --setup                  # only the peers' environment

Queries are vectors that are not stored, half of them texts, and each looks for ten texts or ten pictures, as the Retriever does.
With a filter, 1 % or 50 % of the rows fit, spread over all clusters. The truth is brute force over the raw vectors. Building and
asking happen in two processes, so that the memory of the second is that of a Retriever.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from benchmarks.reporting import FOLDER, machine_facts, milliseconds, told, write_report
from benchmarks.tables import DIMENSION, MODALITIES, Chunk, clustered, filled_table
from serve_app.adapters.lance_table import LanceTable
from serve_app.adapters.lance_table.indexes import nearest_rows
from serve_app.core.index_policy import RECALL_DEPTH, IndexPolicy, IndexStep, recall_of
from serve_app.services.index_keeper import IndexKeeper
from serve_app.types import FloatMatrix, IndexTuning

WORK = FOLDER / "retrieval"
PEERS = FOLDER / "ann"
CONSTRAINTS = Path(__file__).with_name("ann-constraints.txt")
REQUIREMENTS = ("faiss-cpu", "hnswlib", "qdrant-client", "numpy")
PLOT = Path("docs/images/retrieval.png")
ROWS = (10_000, 100_000, 1_000_000)
QUERIES = 100
CONCURRENCY = 8
INDEX_CACHE_BYTES, METADATA_CACHE_BYTES = 2 * 1024**3, 256 * 1024**2
# Ids are random: those below a bound are a share of all rows, in every cluster.
FILTERS = {"none": None, "1 %": "028f", "50 %": "8000"}


@dataclass(frozen=True, slots=True)
class Task:
    """Queries, what each looks for, and its ten nearest ids."""

    vectors: FloatMatrix
    wanted: Sequence[str]
    bound: str | None
    nearest: Sequence[Sequence[str]]


def tasks(rows: int) -> dict[str, Task]:
    """One for each filter, with the truth by brute force in NumPy."""
    asked: Chunk = next(clustered(QUERIES, seed=99))
    # Texts and pictures in turn look for texts and pictures in turn: all four pairs alike.
    wanted = np.arange(QUERIES) // 2 % len(MODALITIES)
    best: dict[str, list[list[tuple[float, str]]]] = {name: [[] for _ in range(QUERIES)] for name in FILTERS}
    for chunk in clustered(rows):
        scores = chunk.vectors @ asked.vectors.T
        for name, bound in FILTERS.items():
            fits = np.array([bound is None or each < bound for each in chunk.ids])
            for query in range(QUERIES):
                allowed = np.flatnonzero(fits & (chunk.modalities == wanted[query]))
                near = scores[allowed, query]
                order = allowed[np.argpartition(-near, min(RECALL_DEPTH, len(near) - 1))[:RECALL_DEPTH]]
                found = [*best[name][query], *((float(scores[at, query]), chunk.ids[at]) for at in order)]
                best[name][query] = sorted(found, reverse=True)[:RECALL_DEPTH]
    names = [MODALITIES[each].value for each in wanted]
    return {
        name: Task(asked.vectors, names, bound, [[each for _, each in found] for found in best[name]])
        for name, bound in FILTERS.items()
    }


async def build(rows: int) -> dict[str, Any]:
    """Fill the table, and let the policy decide and build."""
    folder = WORK / f"table-{rows}"
    table = await filled_table(folder, rows)
    keeper = IndexKeeper(table, IndexPolicy())
    while (step := await keeper.next_step(0)) is not IndexStep.NOTHING:
        await keeper.take(step)
    state = (await table.info()).index
    assert state is not None
    lance = await _open(folder)
    sizes = {index.name: index.size_bytes or 0 for index in await lance.list_indices()}
    return {
        "index": state.kind.value,
        "build_s": state.build_s,
        "partitions": state.partitions,
        "nprobes": state.tuning.nprobes if state.tuning else None,
        "refine": state.tuning.refine if state.tuning else None,
        "size_mb": sizes.get("vector_idx", 0) / 1e6,
        "brute_force_ms": state.exact_ms,
        "policy_recall": state.recall,
    }


async def ask(rows: int, given: dict[str, Task]) -> list[dict[str, Any]]:
    """One row for each filter: recall, latency one at a time, throughput of eight at once, resident memory."""
    lance = await _open(WORK / f"table-{rows}")
    state = (await LanceTable(str(WORK / f"table-{rows}")).info()).index
    tuning = state.tuning if state else None
    measured = []
    for name, task in given.items():
        for at in range(20):
            await _search(lance, task, at, tuning)
        latencies, found = [], []
        for at in range(QUERIES):
            started = time.perf_counter()
            found.append(await _search(lance, task, at, tuning))
            latencies.append(time.perf_counter() - started)
        places = iter(range(2 * QUERIES))

        async def work(task: Task, places: Any) -> None:
            for at in places:
                await _search(lance, task, at % QUERIES, tuning)

        started = time.perf_counter()
        await asyncio.gather(*(work(task, places) for _ in range(CONCURRENCY)))
        measured.append(
            {
                "filter": name,
                **milliseconds(latencies),
                "qps_8": 2 * QUERIES / (time.perf_counter() - started),
                "recall": recall_of(found, task.nearest),
                "resident_mb": _resident_mb(),
            }
        )
    return measured


async def _open(folder: Path) -> lancedb.AsyncTable:
    """As a Retriever opens it, with its bounds."""
    connection = await lancedb.connect_async(
        str(folder),
        read_consistency_interval=timedelta(0),
        session=lancedb.Session(INDEX_CACHE_BYTES, METADATA_CACHE_BYTES),
    )
    return await connection.open_table("documents")


async def _search(lance: lancedb.AsyncTable, task: Task, at: int, tuning: IndexTuning | None) -> list[str]:
    where = lancedb.col("modality") == lancedb.lit(task.wanted[at])
    if task.bound is not None:
        where = where & (lancedb.col("id") < lancedb.lit(task.bound))
    rows = await nearest_rows(
        lambda: lance.query().nearest_to(task.vectors[at]).column("vector").where(where).limit(RECALL_DEPTH),
        tuning,
        RECALL_DEPTH,
        filtered=task.bound is not None,
    )
    found: list[str] = rows.column("id").to_pylist()
    return found


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _build(rows: int) -> dict[str, Any]:
    return asyncio.run(build(rows))


def _ask(rows: int, given: dict[str, Task]) -> list[dict[str, Any]]:
    return asyncio.run(ask(rows, given))


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


# --- the peers ----------------------------------------------------------------------------------------------------------


def set_up() -> None:
    """Make the peers' environment, once."""
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    if uv is None:
        raise FileNotFoundError(f"uv is expected beside {sys.executable}, where `make` puts it")
    python = PEERS / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([uv, "venv", "--python", sys.executable, PEERS / "venv"], check=True)
    subprocess.run([uv, "pip", "install", "--python", python, "--constraints", CONSTRAINTS, *REQUIREMENTS], check=True)


def measure_peers(rows: int, given: dict[str, Task]) -> list[dict[str, Any]]:
    """Rows of each peer, on the same vectors and queries, in its own environment."""
    folder = WORK / f"peers-{rows}"
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, DIMENSION))
    ids: list[str] = []
    modalities: list[int] = []
    for chunk in clustered(rows):
        vectors[len(ids) : len(ids) + len(chunk.ids)] = chunk.vectors
        ids += chunk.ids
        modalities += chunk.modalities.tolist()
    vectors.flush()
    places = {document_id: at for at, document_id in enumerate(ids)}
    names = [each.value for each in MODALITIES]
    task = {
        "modalities": modalities,
        "ids": ids,
        "filters": FILTERS,
        "queries": given["none"].vectors.tolist(),
        "wanted": [names.index(each) for each in given["none"].wanted],
        "nearest": {name: [[places[each] for each in ids] for ids in task.nearest] for name, task in given.items()},
    }
    (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
    command = [str(PEERS / "venv" / "bin" / "python"), str(Path(__file__).with_name("ann_peers.py")), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    shutil.rmtree(folder)
    return [json.loads(line) for line in done.stdout.splitlines()]


def plot(rows: Sequence[dict[str, Any]], path: Path = PLOT) -> None:
    """p50, throughput, size and memory over rows, with the line of brute force."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    ours = [row for row in rows if row["engine"] == "crossmodal"]
    figure, panes = pyplot.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
    plain = [row for row in ours if row["filter"] == "none"]
    counts = [row["rows"] for row in plain]
    for name in FILTERS:
        chosen = [row for row in ours if row["filter"] == name]
        label = "no filter" if name == "none" else f"{name} fit"
        panes[0, 0].plot(counts, [row["p50_ms"] for row in chosen], marker="o", label=label)
        panes[0, 1].plot(counts, [row["qps_8"] for row in chosen], marker="o", label=label)
    panes[0, 0].plot(counts, [row["brute_force_ms"] for row in plain], "k--", marker="x", label="brute force")
    panes[1, 0].plot(counts, [max(row["size_mb"], 0.1) for row in plain], marker="o", label="vector index")
    panes[1, 0].plot(counts, [row["rows"] * DIMENSION * 4 / 1e6 for row in plain], "k--", label="raw vectors")
    panes[1, 1].plot(counts, [row["resident_mb"] for row in plain], marker="o", label="Retriever's process")
    bound = (INDEX_CACHE_BYTES + METADATA_CACHE_BYTES) / 1e6
    panes[1, 1].axhline(bound, color="k", linestyle="--", label="its caches' bound")
    for pane, unit in zip(
        panes.flat, ("p50, ms", "queries/s, 8 at once", "size, MB", "resident memory, MB"), strict=True
    ):
        pane.set_xscale("log")
        pane.set_yscale("log")
        pane.set_xlabel("rows of 512 numbers")
        pane.set_ylabel(unit)
        pane.grid(alpha=0.3)
        pane.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--setup", action="store_true")
    options = parser.parse_args()
    if options.setup or options.peers:
        set_up()
    if options.setup:
        return 0
    machine = machine_facts()
    rows: list[dict[str, Any]] = []
    for count in options.rows:
        built = _apart(_build, count)
        given = tasks(count)
        rows += [told({"engine": "crossmodal", "rows": count, **row, **built}) for row in _apart(_ask, count, given)]
        if options.peers:
            rows += [told({"rows": count, **row}) for row in measure_peers(count, given)]
    write_report(
        "retrieval", rows, {"dimension": DIMENSION, "target_recall": IndexPolicy().target_recall}, machine=machine
    )
    if len(options.rows) > 1:
        plot(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
