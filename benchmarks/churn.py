"""A long life in miniature: upserts and deletes with upkeep on; files, size and latency have to stay bounded.

    .venv/bin/python -m benchmarks.churn                     # 200,000 changes on 20,000 rows, and the plot
    .venv/bin/python -m benchmarks.churn --changes 20000     # a shorter one

Half of the changes replace a row, a quarter add one and a quarter delete one, in batches of a hundred as a busy service forms
them, so that the number of rows stays about what it was. Old versions are kept for a few seconds only: in a day a table sees
its retention pass many times. All the while a process of its own, as a Retriever is one, searches every now and then: its
latencies are also those of the moments when the table is compacted or its version is new.
"""

import argparse
import asyncio
import itertools
import multiprocessing
import random
import shutil
import sys
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.reporting import FOLDER, machine_facts, milliseconds, told, write_report
from benchmarks.tables import DIMENSION, ENCODER, clustered, filled_table, record_of, records
from serve_app.adapters.lance_table import LanceTable
from serve_app.services.indexing import IndexingService
from serve_app.types import ItemFailure, Modality, Record

WORK = FOLDER / "churn"
PLOT = Path("docs/images/churn.png")
ROWS, CHANGES, BATCH = 20_000, 200_000, 100
KEEP = timedelta(seconds=5)
POINTS = 40
QUERIES = 20
BETWEEN_SEARCHES_S = 0.1


async def churn(folder: Path, rows: int, changes: int) -> list[dict[str, Any]]:
    """One row for each of the points at which the table was looked at."""
    await filled_table(folder, rows)
    service = IndexingService(
        LanceTable(str(folder), index_cache_bytes=2**28, metadata_cache_bytes=2**27),
        max_commit_documents=512,
        max_queued_documents=4096,
        compact_every_commits=64,
        keep_versions=KEEP,
        calibration_sample=2048,
        calibration_growth=0.2,
    )
    await service.prepare_table(ENCODER)
    ids = [each for chunk in clustered(rows) for each in chunk.ids]
    points: list[dict[str, Any]] = []
    writes: list[float] = []
    started = time.perf_counter()
    with _searcher(folder) as searcher:
        for done, latency in enumerate(_changed(service, ids), 1):
            writes.append(await latency)
            changed = done * BATCH
            if changed * POINTS // changes > len(points):
                searcher.send("told so far")
                rate = changed / (time.perf_counter() - started)
                points.append(await _point(folder, changed, rate, writes, searcher.recv()))
                writes.clear()
            if changed >= changes:
                break
    await service.settled()
    return points


def _changed(service: IndexingService, ids: list[str]) -> Iterator[Awaitable[float]]:
    """Batches of changes without end: each, awaited, is done, and gives the seconds of its upserts."""
    draw, new = random.Random(7), _endless()

    async def batch() -> float:
        written = [next(new) for _ in range(BATCH * 3 // 4)]
        replaced = [
            record_of(draw.choice(ids), each.vector, each.modality, text=each.id) for each in written[: BATCH // 2]
        ]
        added = written[BATCH // 2 :]
        # A replaced row may be doomed in the same round: it is written, then deleted.
        doomed = [ids.pop(draw.randrange(len(ids))) for _ in range(BATCH // 4)]
        began = time.perf_counter()
        outcomes = await service.upsert([*replaced, *added])
        seconds = time.perf_counter() - began
        await service.delete(doomed)
        if failures := [each for each in outcomes if isinstance(each, ItemFailure)]:
            raise RuntimeError(failures[0].message)
        ids.extend(each.id for each in added)
        return seconds

    while True:
        yield batch()


async def _point(
    folder: Path, changed: int, rate: float, writes: Sequence[float], searches: Sequence[float]
) -> dict[str, Any]:
    sizes = _file_sizes(folder)
    info = await LanceTable(str(folder), index_cache_bytes=2**20, metadata_cache_bytes=2**20).info()
    return told(
        {
            "changes": changed,
            "rows": sum(info.counts.values()),
            "files": len(sizes),
            "size_mb": sum(sizes) / 1e6,
            "changes_per_s": rate,
            **{f"write_{name}": value for name, value in milliseconds(writes).items()},
            "searches": len(searches),
            **{f"search_{name}": value for name, value in milliseconds(searches).items()},
            "index": info.index.kind.value if info.index else None,
        }
    )


@contextmanager
def _searcher(folder: Path) -> Iterator[Connection]:
    """A process that searches until the end; whatever is sent to it, it answers with the seconds of its searches since."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_search, args=(folder, there), daemon=True)
    process.start()
    there.close()  # else nobody would hear that the process has ended
    here.recv()  # it is ready
    try:
        yield here
    finally:
        process.terminate()
        process.join()


def _search(folder: Path, asked: Connection) -> None:
    asyncio.run(_search_until_terminated(folder, asked))


async def _search_until_terminated(folder: Path, asked: Connection) -> None:
    table = LanceTable(str(folder), index_cache_bytes=2**28, metadata_cache_bytes=2**27)
    queries = next(clustered(QUERIES, seed=99)).vectors
    await table.nearest(queries[:1], Modality.IMAGE, 10)
    asked.send("ready")
    latencies: list[float] = []
    for query in itertools.cycle(queries):
        began = time.perf_counter()
        await table.nearest(query[None], Modality.IMAGE, 10)
        latencies.append(time.perf_counter() - began)
        if asked.poll(BETWEEN_SEARCHES_S):
            asked.recv()
            asked.send(latencies)
            latencies = []


def _file_sizes(folder: Path) -> list[int]:
    """In bytes. A file may go while we look: upkeep removes what is old."""
    sizes = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                sizes.append(path.stat().st_size)
    return sizes


def _endless() -> Iterator[Record]:
    seed = 1
    while True:
        yield from records(10_000, seed=seed)
        seed += 1


def plot(points: Sequence[dict[str, Any]], path: Path = PLOT) -> None:
    """Files, size and latencies over the changes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    changes = [point["changes"] for point in points]
    raw = [point["rows"] * DIMENSION * 4 / 1e6 for point in points]
    panes[0].plot(changes, [point["files"] for point in points], label="files")
    panes[1].plot(changes, [point["size_mb"] for point in points], label="on disk")
    panes[1].plot(changes, raw, "k--", label="raw vectors")
    panes[2].plot(changes, [point["search_p95_ms"] for point in points], label="a search, p95")
    panes[2].plot(changes, [point["write_p95_ms"] for point in points], label="75 upserts in one commit, p95")
    for pane, unit in zip(panes, ("files", "MB", "ms"), strict=True):
        pane.set_xlabel("upserts and deletes")
        pane.set_ylabel(unit)
        pane.set_ylim(bottom=0)
        pane.grid(alpha=0.3)
        pane.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--changes", type=int, default=CHANGES)
    options = parser.parse_args()
    machine = machine_facts()
    shutil.rmtree(WORK, ignore_errors=True)
    points = asyncio.run(churn(WORK, options.rows, options.changes))
    shutil.rmtree(WORK)
    settings = {"dimension": DIMENSION, "kept_s": KEEP.total_seconds(), "storage": "local disk"}
    write_report("churn", points, settings, machine=machine)
    plot(points)
    return 0


if __name__ == "__main__":
    sys.exit(main())
