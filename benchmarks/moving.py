"""Tables out and in: rows a second and the most memory of each export, and of each import into an empty and into a full table.

    .venv/bin/python -m benchmarks.moving [--rows 100000 --rows 10000] [--only parquet]

Each row is a process of its own, as the commands start one, on a local disk. Rows have 512 numbers, and no vector index is made:
what is measured is the moving. Writes JSON, and a Markdown table.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.reporting import FOLDER, told, write_report
from benchmarks.tables import DIMENSION, FIELDS, filled_table
from configs.schema import AppConfig
from deployments.jobs.export import export
from deployments.jobs.imports import take_in
from deployments.jobs.telling import Teller
from serve_app.cli.exporting import ExportArguments
from serve_app.cli.importing import ImportArguments

WORK = FOLDER / "moving"
ROWS = (10_000, 100_000)
STEPS = ("export parquet", "export faiss", "export qdrant", "import empty", "import unchanged")


def configuration(table: Path) -> AppConfig:
    fields = {"shelf": {"type": "string", "index": "bitmap"}, "in_stock": {"type": "boolean", "index": "bitmap"}}
    # An index takes as long as it takes; see benchmarks.retrieval.
    settings = {"uri": str(table), "fields": fields, "index_min_documents": 1 << 40}
    return AppConfig.model_validate({"table": settings})


def peak_mib() -> float:
    """The most memory that this process ever held. It knows no torch, as the commands do not."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def run_step(step: str, folder: Path) -> dict[str, Any]:
    """Do it here, and say how long it took and what this process held."""
    began = time.perf_counter()
    what, how = step.split()
    if what == "export":
        arguments = ExportArguments(str(folder / how), to=how)
        rows = asyncio.run(export(arguments, configuration(folder / "table"), Teller("exported"))).rows
    else:
        source = ImportArguments(str(folder / "parquet"))
        rows = asyncio.run(take_in(source, configuration(folder / "moved"), Teller("imported"))).rows
    seconds = time.perf_counter() - began
    return {"rows": rows, "seconds": seconds, "rows_per_s": rows / seconds, "peak_mib": peak_mib()}


def measure(rows: int, only: str) -> list[dict[str, Any]]:
    folder = WORK / str(rows)
    shutil.rmtree(folder, ignore_errors=True)
    asyncio.run(filled_table(folder / "table", rows, fields=FIELDS))
    found = []
    for step in STEPS:
        if only in step:
            command = [sys.executable, "-m", "benchmarks.moving", "--step", step, "--folder", str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found.append(told({"step": step, **json.loads(done.stdout)}))
    shutil.rmtree(folder)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--only", default="", help="steps with this in their name")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(run_step(asked.step, asked.folder)))
        return
    found = [row for rows in asked.rows or ROWS for row in measure(rows, asked.only)]
    write_report("moving", found, {"dimension": DIMENSION})


if __name__ == "__main__":
    main()
