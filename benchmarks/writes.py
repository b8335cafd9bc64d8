"""Writes by the path that is safe against a second writer: how many, how quickly, and whether anything is lost or doubled.

    .venv/bin/python -m benchmarks.writes             # upserts/s at concurrency 1 and 64, p50 of one, by rows
    .venv/bin/python -m benchmarks.writes --race      # four processes on overlapping new and old ids
    .venv/bin/python -m benchmarks.writes --kill      # the same with `kill -9` every few seconds

All go through IndexingService, as the Indexer runs it, with upkeep on.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from benchmarks.reporting import FOLDER, machine_facts, milliseconds, told, write_report
from benchmarks.tables import DIMENSION, ENCODER, filled_table, record_of, records
from serve_app.adapters.lance_table import LanceTable
from serve_app.core.index_policy import IndexPolicy
from serve_app.core.vectors import unit
from serve_app.services.indexing import IndexingService
from serve_app.types import ItemFailure

WORK = FOLDER / "writes"
CONCURRENCIES = (1, 64)
PROCESSES = 4
ROUNDS = 200
SHARED_IDS = 12
KILL_EVERY_S = 3.0
KILL_SECONDS = 45.0


def service_of(folder: Path, policy: IndexPolicy | None = None) -> IndexingService:
    """A writer with the defaults of the configuration."""
    return IndexingService(
        LanceTable(str(folder), index_cache_bytes=2**28, metadata_cache_bytes=2**27),
        max_commit_documents=512,
        max_queued_documents=4096,
        compact_every_commits=64,
        keep_versions=timedelta(hours=1),
        calibration_sample=2048,
        calibration_growth=0.2,
        index=policy or IndexPolicy(),
    )


async def measure_speed(folder: Path, rows: int, seconds: float) -> list[dict[str, Any]]:
    """Upserts a second and the latency of one, at each concurrency; half of the ids are there already."""
    table = await filled_table(folder, rows)
    del table
    # Upkeep is part of what is measured, the first build of an index is not.
    service = service_of(folder, IndexPolicy(target_recall=1.0))
    await service.prepare_table(ENCODER)
    await service.settled()
    old = [record.id for record in records(2000, seed=0)]
    measured = []
    for concurrency in CONCURRENCIES:
        new = iter(records(40_000, seed=int(time.time())))
        draw = random.Random(concurrency)
        latencies: list[float] = []
        deadline = time.perf_counter() + seconds

        async def write() -> None:
            while time.perf_counter() < deadline:  # noqa: B023
                record = next(new)  # noqa: B023
                if draw.random() < 0.5:  # noqa: B023
                    record = record_of(draw.choice(old), record.vector, record.modality, text=record.id)  # noqa: B023
                started = time.perf_counter()
                (outcome,) = await service.upsert([record])
                latencies.append(time.perf_counter() - started)  # noqa: B023
                if isinstance(outcome, ItemFailure):
                    raise RuntimeError(outcome.message)

        started = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(concurrency)))
        measured.append(
            told(
                {
                    "case": f"{rows:,} rows, concurrency {concurrency}",
                    "upserts_per_s": len(latencies) / (time.perf_counter() - started),
                    **milliseconds(latencies),
                    "max_ms": 1000 * max(latencies),
                }
            )
        )
        await service.settled()
    measured[1]["over_one"] = measured[1]["upserts_per_s"] / measured[0]["upserts_per_s"]
    return measured


# --- several writers --------------------------------------------------------------------------------------------------


def _race(folder: str, writer: int, rounds: int, start: Any, log: str) -> None:
    asyncio.run(_write_rounds(Path(folder), writer, rounds, start, Path(log)))


async def _write_rounds(folder: Path, writer: int, rounds: int, start: Any, log: Path) -> None:
    """Each round: all writers upsert the same new ids and the same old ones, and one deletes and writes again.

    Every acknowledgement goes to the log before the next write: id, text, version of the table.
    """
    service = service_of(folder)
    draw = np.random.default_rng([writer, os.getpid()])
    with log.open("a", encoding="utf-8", buffering=1) as acknowledged:
        for turn in range(rounds):
            if start is not None:
                start.wait()
            ids = [f"new-{turn}-{each}" for each in range(3)] + [
                f"old-{(turn + each) % SHARED_IDS}" for each in range(3)
            ]
            text = f"{writer}-{os.getpid()}-{turn}"
            given = [record_of(each, unit(draw.normal(size=DIMENSION).astype(np.float32)), text=text) for each in ids]
            for outcome in await service.upsert(given):
                if isinstance(outcome, ItemFailure):
                    raise RuntimeError(outcome.message)
                acknowledged.write(json.dumps([outcome.id, text, outcome.table_version]) + "\n")
            if writer == 0 and turn % 5 == 0:
                doomed = f"old-{turn % SHARED_IDS}"
                (deleted,) = await service.delete([doomed])
                acknowledged.write(json.dumps([doomed, None, deleted.table_version]) + "\n")
    await service.settled()


async def verdict(folder: Path, logs: Sequence[Path]) -> dict[str, Any]:
    """What the table holds against what was acknowledged; `wrong` counts ids that are lost, doubled or older than they should be.

    Two commits never share a version: the acknowledgement with the highest one is the last. A write whose process died before
    it was answered may stand or not: a row with a text that nobody was told of is newer, and right, if its writer died.
    """
    last: dict[str, tuple[int, str | None]] = {}
    count = 0
    for log in logs:
        for line in log.read_text(encoding="utf-8").splitlines():
            document_id, text, version = json.loads(line)
            count += 1
            if version > last.get(document_id, (-1, None))[0]:
                last[document_id] = (version, text)
    texts = {text for log in logs for _, text, _ in map(json.loads, log.read_text(encoding="utf-8").splitlines())}
    table = LanceTable(str(folder))
    rows = dict(zip(last, await table.get(list(last)), strict=True))
    total = sum((await table.info()).counts.values())
    lost = older = 0
    for document_id, (_, text) in last.items():
        row = rows[document_id]
        found = row.document.text if row else None
        if found != text and found in texts | {None}:
            lost += row is None
            older += row is not None
    doubled = await _doubled(folder)
    return {
        "acknowledged": count,
        "ids": len(last),
        "rows": total,
        "doubled": doubled,
        "lost": lost,
        "older_than_acknowledged": older,
        "wrong": doubled + lost + older,
    }


async def _doubled(folder: Path) -> int:
    lance = await (await lancedb.connect_async(str(folder))).open_table("documents")
    ids = (await lance.query().select(["id"]).to_arrow()).column("id").to_pylist()
    return sum(count - 1 for count in Counter(ids).values())


def race(rounds: int) -> dict[str, Any]:
    """Four processes, each round from one barrier."""
    folder, logs = _fresh("race")
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(PROCESSES, timeout=120)
    processes = [
        context.Process(target=_race, args=(str(folder), writer, rounds, start, str(logs[writer])))
        for writer in range(PROCESSES)
    ]
    started = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"writers failed: {[process.exitcode for process in processes]}")
    seconds = time.perf_counter() - started
    return told(
        {
            "case": f"race of {PROCESSES} processes, {rounds} rounds",
            "seconds": seconds,
            **asyncio.run(verdict(folder, logs)),
        }
    )


def kill(seconds: float) -> dict[str, Any]:
    """Four processes that write as fast as they can; every few seconds one is killed and started again."""
    folder, logs = _fresh("kill")
    context = multiprocessing.get_context("spawn")

    def started(writer: int) -> Any:
        process = context.Process(target=_race, args=(str(folder), writer, 10**9, None, str(logs[writer])))
        process.start()
        return process

    def size(writer: int) -> int:
        return logs[writer].stat().st_size

    processes = [started(writer) for writer in range(PROCESSES)]
    sizes = [0] * PROCESSES
    kills, deadline = 0, time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            time.sleep(KILL_EVERY_S)
            if any(process.exitcode is not None for process in processes):
                raise RuntimeError(f"a writer ended by itself: {[process.exitcode for process in processes]}")
            # In turn, of those that are writing: one that still starts has nothing to lose.
            turns = ((kills + step) % PROCESSES for step in range(PROCESSES))
            victim = next((writer for writer in turns if size(writer) > sizes[writer]), None)
            if victim is None:
                continue
            os.kill(processes[victim].pid or 0, signal.SIGKILL)
            processes[victim].join()
            sizes[victim] = size(victim)
            processes[victim] = started(victim)
            kills += 1
    finally:
        for process in processes:
            process.kill()
            process.join()
    return told(
        {
            "case": f"{PROCESSES} processes, {kills} times kill -9",
            "seconds": seconds,
            **asyncio.run(verdict(folder, logs)),
        }
    )


def _fresh(name: str) -> tuple[Path, list[Path]]:
    """An empty table, and an empty log for each writer."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    asyncio.run(LanceTable(str((folder / "table").absolute())).create(ENCODER))
    logs = [folder / f"writer-{writer}.jsonl" for writer in range(PROCESSES)]
    for log in logs:
        log.touch()
    return folder / "table", logs


def main() -> int:
    """Command line; 1 where a row is lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writes", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=15.0, help="for each concurrency")
    parser.add_argument("--race", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--kill-seconds", type=float, default=KILL_SECONDS)
    options = parser.parse_args()
    machine = machine_facts()
    settings = {"dimension": DIMENSION, "storage": "local disk"}
    if options.race or options.kill:
        rows = [
            *([race(options.rounds)] if options.race else []),
            *([kill(options.kill_seconds)] if options.kill else []),
        ]
        write_report("races", rows, settings, machine=machine)
        return int(any(row["wrong"] for row in rows))
    rows = []
    for count in options.rows:
        folder = WORK / f"table-{count}"
        shutil.rmtree(folder, ignore_errors=True)
        rows += asyncio.run(measure_speed(folder, count, options.seconds))
        shutil.rmtree(folder)
    write_report("writes", rows, settings, machine=machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
