"""Memory of a whole ingest by the size of its source: the peak at 100,000 items beside that at 10,000.

    .venv/bin/python -m benchmarks.ingest_memory

All processes of the job and of its Ray are summed by their proportional share (PSS), so that pages which several of them map
count once. Small pictures and texts, half and half, and a very small model: memory that grew with the list would show sooner.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.ingest_corpus import Corpus, small_corpus
from benchmarks.random_checkpoints import write_checkpoint
from benchmarks.reporting import machine_facts, told, write_report
from serve_app.local_graph import processes

SIZES = (10_000, 100_000)
EVERY_S = 0.5
MIB = 1024
MODEL: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def shared_out_mib(session: int) -> float:
    """The PSS of all processes of a session, in MiB."""
    total = 0
    for process in processes():
        if process.session == session:
            try:
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended while we looked.
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / MIB


def measure(items: Corpus, count: int, model: Path, folder: Path) -> dict[str, Any]:
    """One job to its end, and the most memory that it took."""
    overrides = {
        "encoder": {"model": f"local-dir:{model}"},
        "table": {"uri": str(folder / "table")},
        "storage": {"uri": str(folder / "kept")},
        "pictures": {"allowed_roots": [f"{items.files[0].parent}/"]},
    }
    application = {"import_path": "deployments.graph:build", "args": {"profile": "demo", "overrides": overrides}}
    serve = folder / "serve.yaml"
    serve.write_text(yaml.safe_dump({"applications": [{"name": "a", **application}]}), encoding="utf-8")
    began = time.perf_counter()
    # A session of its own, by which every process of its Ray is found.
    command = [sys.executable, "-m", "deployments.jobs.ingest", "--local", "--config", str(serve), str(items.listed)]
    job = subprocess.Popen(command, start_new_session=True, stdout=sys.stderr)
    samples = []
    while job.poll() is None:
        samples.append(shared_out_mib(job.pid))
        time.sleep(EVERY_S)
    if job.returncode:
        raise RuntimeError("the job failed")
    busy = sorted(samples)
    return told(
        {
            "items": count,
            "peak_mib": busy[-1],
            "median_mib": busy[len(busy) // 2],
            "seconds": time.perf_counter() - began,
        }
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest_memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    machine, rows = machine_facts(), []
    with TemporaryDirectory(prefix="memory-") as folder:
        model = Path(folder, "model")
        write_checkpoint(model, MODEL, {})
        for size in options.sizes:
            place = Path(folder, str(size))
            place.mkdir()
            rows.append(measure(small_corpus(size, place), size, model, place))
    rows[-1]["ratio"] = rows[-1]["peak_mib"] / rows[0]["peak_mib"]
    write_report("ingest_memory", rows, {"half": "pictures of 32 pixels, half texts"}, machine=machine)


if __name__ == "__main__":
    main()
