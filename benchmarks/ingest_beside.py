"""A bulk ingest into a service that people use: what their searches wait, and whether one row per id stands in the end.

    .venv/bin/python -m benchmarks.ingest_beside

A graph with the demo model and some documents. One user each searches by words, searches by a picture, embeds and writes, all
the time: first alone, then beside `crossmodal ingest --share 0.5` on the same Ray. The writer writes ids of the job's own list,
again and again, so that job and Indexer race for them. A request fails if it is answered by an error or not at all.

Afterwards each id has to be there once, with what the job or the last acknowledged write has said, and with nothing else.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ingest_corpus import Corpus, corpus
from benchmarks.living import KINDS, Traffic, fill, run_job, service
from benchmarks.reporting import machine_facts, quantile, told, write_report
from serve_app.client import Client

QUIET_S = 40.0
PAUSE_S = 0.05
SHARED = 200  # ids of the list that are written online, too


async def rows_of(table: Path) -> list[tuple[str, str | None]]:
    """Id and text of every row, as many times as it is there."""
    # Here: LanceDB, once loaded, warns of every process that is started after it.
    from serve_app.adapters.lance_table import LanceTable

    found: list[tuple[str, str | None]] = []
    async for rows in LanceTable(str(table)).all_rows(10_000):
        found += zip(rows.column("id").to_pylist(), rows.column("text").to_pylist(), strict=True)
    return found


def faults(rows: Sequence[tuple[str, str | None]], items: Corpus, written: Mapping[str, str]) -> dict[str, int]:
    """What should not be there, and what should: counted."""
    listed: dict[str, str | None] = {file.stem: None for file in items.files}
    listed |= {f"text-{number:06}": text for number, text in enumerate(items.texts)}
    counts, stored = Counter(name for name, _ in rows), dict(rows)
    ours = listed.keys() | written.keys()
    return {
        "doubled": sum(count > 1 for count in counts.values()),
        "missing": sum(name not in stored for name in ours),
        "other": sum(
            stored[name] not in {listed.get(name), written.get(name, listed.get(name))} for name in ours & stored.keys()
        ),
        "as_written": sum(stored.get(name) == words for name, words in written.items()),
        "as_listed": sum(name in listed and stored.get(name) == listed[name] for name in written),
    }


def figures(name: str, traffic: Traffic) -> dict[str, Any]:
    searches = traffic.latencies_s["search"] + traffic.latencies_s["picture"]
    return {
        "case": name,
        **traffic.figures(),
        "both_p50_ms": 1000 * quantile(searches, 0.5),
        "both_p95_ms": 1000 * quantile(searches, 0.95),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest_beside", description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=2_000, help="in the table before")
    parser.add_argument("--pictures", type=int, default=4_000, help="of the job")
    parser.add_argument("--texts", type=int, default=1_000, help="of the job")
    parser.add_argument("--share", type=float, default=0.5, help="of the cores, for the job")
    options = parser.parse_args()
    items, machine = corpus(options.pictures, options.texts), machine_facts()
    names = [f"text-{number:06}" for number in range(options.texts)] + [file.stem for file in items.files]
    shared = random.Random(3).sample(names, SHARED)
    with tempfile.TemporaryDirectory(prefix="beside-") as made:
        folder = Path(made)
        readable = {"allowed_roots": [f"{items.files[0].parent}/"]}
        with service(folder, readable) as (url, serve_file, address):
            with Client(url) as client:
                pictures = fill(client, options.documents)
            alone = Traffic(url, pictures, PAUSE_S, [f"alone-{number}" for number in range(SHARED)])
            with alone.flowing():
                time.sleep(QUIET_S)
            beside = Traffic(url, pictures, PAUSE_S, shared)
            common = ["--config", str(serve_file), "--address", address, "--share", str(options.share)]
            with beside.flowing():
                job, seconds = run_job("ingest", [*common, str(items.listed)], 0, folder / "job.log")
            rows = asyncio.run(rows_of(folder / "table"))
    quiet, busy = figures("alone", alone), figures("beside the job", beside)
    found = faults(rows, items, beside.written)
    job_said = {name: job[name] for name in ("stored", "failed", "items_per_s")}
    ratios = {"search_ratio": busy["search_p95_ms"] / quiet["search_p95_ms"]}
    report = [told(quiet), told({**busy, **ratios, "seconds": seconds, **job_said, **found})]
    for failure in [*alone.failures[:3], *beside.failures[:3]]:
        print(failure)
    settings = {**vars(options), "users": len(KINDS), "shared_ids": SHARED}
    write_report("ingest_beside", report, settings, machine=machine)
    if found["doubled"] + found["missing"] + found["other"] + busy["failed"] + quiet["failed"]:
        raise SystemExit("rows are not as they should be, or requests failed")


if __name__ == "__main__":
    main()
