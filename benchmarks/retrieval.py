"""Nearest neighbours in the table as the index policy has it: build time, size, latency, throughput, recall, memory.

    .venv/bin/python -m benchmarks.retrieval                          # 10,000, 100,000 and 1,000,000 rows, and the plot
    .venv/bin/python -m benchmarks.retrieval --rows 100000 --peers    # beside FAISS, hnswlib and Qdrant
    .venv/bin/python -m benchmarks.retrieval --setup                  # only the peers' environment

Queries are vectors that are not stored, half of them texts, and each looks for ten texts or ten pictures. They go through all
that a Retriever does: a calibrated search, the default where both are looked for, and one by plain cosine. With a filter, 1 % or
50 % of the rows fit, spread over all clusters. The truth is brute force over the raw vectors. Building and asking happen in two
processes, so that the memory of the second is that of a Retriever. The peers, which know no calibration, are asked by plain
cosine for the neighbours of the vectors that a calibrated search asks its table with.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from benchmarks.reporting import FOLDER, machine_facts, milliseconds, told, write_report
from benchmarks.tables import (
    DIMENSION,
    ENCODER,
    FIELDS,
    MODALITIES,
    Chunk,
    clustered,
    filled_table,
    in_stock,
    shelf_of,
)
from configs.schema import SearchConfig, TableConfig
from serve_app.adapters.lance_table import LanceTable
from serve_app.core.index_policy import RECALL_DEPTH, IndexPolicy, recall_of
from serve_app.core.ranking import aim, centred_query, centred_rows, directions
from serve_app.services.index_keeper import IndexKeeper
from serve_app.services.retrieval import RetrievalService
from serve_app.services.table_upkeep import TableUpkeep
from serve_app.types import Calibration, Compare, FloatMatrix, ItemFailure, Operator, Ranking, VectorQuery, VectorType

WORK = FOLDER / "retrieval"
PEERS = FOLDER / "ann"
CONSTRAINTS = Path(__file__).with_name("ann-constraints.txt")
REQUIREMENTS = ("faiss-cpu", "hnswlib", "qdrant-edge-py", "numpy")
PLOT = Path("docs/images/retrieval.png")
ROWS = (10_000, 100_000, 1_000_000)
QUERIES = 100
CONCURRENCY = 8
TABLE, SEARCH = TableConfig(), SearchConfig()
FILTERS: dict[str, Compare | None] = {
    "none": None,
    "1 %": Compare("shelf", Operator.EQ, "shelf 0"),
    "50 %": Compare("in_stock", Operator.EQ, True),
}


@dataclass(frozen=True, slots=True)
class Task:
    """Queries by one ranking, the vectors that score their rows, and the ten best rows of each: score and id."""

    ranking: Ranking
    filter: str
    queries: Sequence[VectorQuery]
    scored: FloatMatrix
    best: list[list[tuple[float, str]]]

    def ids(self) -> list[list[str]]:
        return [[each for _, each in rows] for rows in self.best]


def queries(ranking: Ranking, seed: int = 99) -> list[VectorQuery]:
    """Texts and pictures in turn look for texts and pictures in turn: all four pairs alike."""
    chunk: Chunk = next(clustered(QUERIES, seed=seed))
    wanted = np.arange(QUERIES) // 2 % len(MODALITIES)
    return [
        VectorQuery(
            vector,
            ENCODER.fingerprint,
            ((MODALITIES[modality], 1.0),),
            (MODALITIES[looked_for],),
            RECALL_DEPTH,
            ranking,
        )
        for vector, modality, looked_for in zip(chunk.vectors, chunk.modalities, wanted, strict=True)
    ]


def tasks(rows: int, calibration: Calibration) -> tuple[list[Task], list[Task]]:
    """Ours and the peers', one for each ranking and filter; the truth is brute force in NumPy."""
    calibrated, plain = queries(Ranking.CALIBRATED), queries(Ranking.COSINE)
    raw = np.stack([query.vector for query in plain])
    centred = np.stack([centred_query(query, calibration) for query in calibrated])
    pairs = zip(centred, calibrated, strict=True)
    aimed = np.concatenate([aim(row[None], query.modalities[0], calibration) for row, query in pairs])
    modes = [(calibrated, centred), (plain, raw), (plain, aimed)]
    found = [
        Task(asking[0].ranking or Ranking.COSINE, name, asking, scored, [[] for _ in asking])
        for asking, scored in modes
        for name in FILTERS
    ]
    for chunk in clustered(rows):
        modalities = [MODALITIES[each] for each in chunk.modalities]
        without_means = directions(centred_rows(chunk.vectors, modalities, calibration))
        for task in found:
            _improve(task, chunk, without_means if task.ranking is Ranking.CALIBRATED else chunk.vectors)
    return found[: -len(FILTERS)], found[-len(FILTERS) :]


def fit(name: str, document_id: str) -> bool:
    """Whether a filter matches the row with this id."""
    match name:
        case "none":
            return True
        case "1 %":
            return shelf_of(document_id) == "shelf 0"
        case _:
            return in_stock(document_id)


def _improve(task: Task, chunk: Chunk, vectors: FloatMatrix) -> None:
    """Let the rows of a chunk into the best of each query."""
    scores = vectors @ task.scored.T
    fits = np.array([fit(task.filter, each) for each in chunk.ids])
    of_modality = {modality: np.flatnonzero(fits & (chunk.modalities == at)) for at, modality in enumerate(MODALITIES)}
    for at, query in enumerate(task.queries):
        allowed = of_modality[query.modalities[0]]
        near = scores[allowed, at]
        order = allowed[np.argpartition(-near, min(RECALL_DEPTH, len(near) - 1))[:RECALL_DEPTH]]
        candidates = [*task.best[at], *((float(scores[row, at]), chunk.ids[row]) for row in order)]
        task.best[at] = sorted(candidates, reverse=True)[:RECALL_DEPTH]


async def build(rows: int, vectors: VectorType) -> tuple[dict[str, Any], Calibration]:
    """Fill the table, and let upkeep calibrate, decide and build."""
    folder = _folder(rows, vectors)
    table = await filled_table(folder, rows, fields=FIELDS, vectors=vectors)
    upkeep = TableUpkeep(
        table,
        asyncio.Lock(),
        compact_every_commits=1000,
        keep_versions=timedelta(hours=1),
        calibration_sample=SEARCH.calibration_sample,
        calibration_growth=SEARCH.calibration_growth,
        keeper=IndexKeeper(table, IndexPolicy()),
    )
    upkeep.look()
    await upkeep.settled()
    state = (await table.info()).index
    if state is None:
        raise RuntimeError("upkeep of the table failed: see the log")
    lance = await (await lancedb.connect_async(str(folder))).open_table("documents")
    sizes = {index.name: index.size_bytes or 0 for index in await lance.list_indices()}
    readings = state.readings or {}
    figures = {
        "index": state.kind.value,
        "build_s": state.build_s,
        "partitions": state.partitions,
        "readings": ", ".join(f"{reach} {each.nprobes}:{each.compared}" for reach, each in readings.items()) or None,
        "size_mb": sizes.get("vector_idx", 0) / 1e6,
        "brute_force_ms": state.exact_ms,
        "policy_recall": state.recall,
    }
    return figures, await table.calibration()


async def ask(folder: Path, given: Sequence[Task]) -> list[dict[str, Any]]:
    """A row for each task: recall, latency one at a time, throughput of eight at once, resident memory."""
    table = LanceTable(
        str(folder),
        index_cache_bytes=TABLE.index_cache_bytes,
        metadata_cache_bytes=TABLE.metadata_cache_bytes,
    )
    service = RetrievalService(table, candidates=SEARCH.candidates)
    measured = []
    for task in given:
        asking = [replace(query, where=FILTERS[task.filter]) for query in task.queries]
        # Others, so that the lists of the index are in memory, as in a Retriever that has been asked for a while.
        for query in queries(task.ranking, seed=98):
            await _search(service, replace(query, where=FILTERS[task.filter]))
        latencies, found = [], []
        for query in asking:
            started = time.perf_counter()
            found.append(await _search(service, query))
            latencies.append(time.perf_counter() - started)
        waiting = iter(2 * asking)

        async def work(waiting: Iterator[VectorQuery]) -> None:
            for query in waiting:
                await _search(service, query)

        started = time.perf_counter()
        await asyncio.gather(*(work(waiting) for _ in range(CONCURRENCY)))
        measured.append(
            {
                "ranking": task.ranking.value,
                "filter": task.filter,
                **milliseconds(latencies),
                "qps_8": 2 * QUERIES / (time.perf_counter() - started),
                "recall": recall_of(found, task.ids()),
                "resident_mb": _resident_mb(),
            }
        )
    return measured


async def _search(service: RetrievalService, query: VectorQuery) -> list[str]:
    (page,) = await service.search([query])
    if isinstance(page, ItemFailure):
        raise RuntimeError(page.message)
    return [hit.document.id for hit in page.hits]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _build(rows: int, vectors: VectorType) -> tuple[dict[str, Any], Calibration]:
    return asyncio.run(build(rows, vectors))


def _ask(folder: Path, given: Sequence[Task]) -> list[dict[str, Any]]:
    return asyncio.run(ask(folder, given))


def _folder(rows: int, vectors: VectorType) -> Path:
    return WORK / f"table-{rows}-{vectors.value}"


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


def measure_peers(rows: int, given: Sequence[Task]) -> list[dict[str, Any]]:
    """Rows of each peer, on the same vectors, in its own environment."""
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
        "fits": {name: [fit(name, each) for each in ids] for name in FILTERS},
        "queries": given[0].scored.tolist(),
        "wanted": [names.index(query.modalities[0].value) for query in given[0].queries],
        "nearest": {task.filter: [[places[each] for each in ids] for ids in task.ids()] for task in given},
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

    ours = [row for row in rows if row["engine"] == "crossmodal" and row["ranking"] == Ranking.CALIBRATED.value]
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
    bound = (TABLE.index_cache_bytes + TABLE.metadata_cache_bytes) / 1e6
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
    parser.add_argument("--vectors", type=VectorType, choices=list(VectorType), default=VectorType.FLOAT32)
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
        built, calibration = _apart(_build, count, options.vectors)
        ours, theirs = tasks(count, calibration)
        rows += [
            told({"engine": "crossmodal", "rows": count, "vectors": options.vectors.value, **row, **built})
            for row in _apart(_ask, _folder(count, options.vectors), ours)
        ]
        if options.peers:
            rows += [told({"rows": count, "ranking": "cosine", **row}) for row in measure_peers(count, theirs)]
    write_report(
        "retrieval", rows, {"dimension": DIMENSION, "target_recall": IndexPolicy().target_recall}, machine=machine
    )
    if len(options.rows) > 1 and options.vectors is VectorType.FLOAT32:
        plot(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
