"""Memory of an encoder process: one tower of ViT-L/14 loaded by our loader and run, beside a process that has torch alone.

    .venv/bin/python -m benchmarks.memory [--model ViT-L-14]

Each row is a process of its own, read from /proc/self/status after it encoded two batches, and once its heap was trimmed, as that
of a replica is which has been idle for some seconds. The bare process imports the same, and has computed something small in the
same precision: of torch's libraries, 15 MiB are read when they are first used. A ratio is (resident - bare) divided by the bytes
of the tower's own parameters and buffers: 1.0 is a tower and nothing else. The peak counts the pages of the file that were read
while loading, which are the system's to take back. Weights are random: their values do not matter. Writes JSON, and a Markdown
table.
"""

import argparse
import json
import subprocess
import sys
import time
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reporting import told, write_report
from benchmarks.workload import checkpoint
from serve_app.adapters.open_clip import OpenClipImageTower, load_image_tower, load_text_tower, trim_heap

TOWERS = ("image", "text")
PRECISIONS = ("float32", "bfloat16")
STATUS_FIELDS = ("VmRSS", "RssAnon", "RssFile", "VmHWM")
MIB = 1024 * 1024


def memory_mib() -> dict[str, float]:
    """Resident memory of this process now, of which anonymous and of files, and the most that it ever was."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1024 for name in STATUS_FIELDS}


def run_tower(tower: str, model: str, precision: str, batch_size: int) -> dict[str, Any]:
    """Load one tower here, encode two batches, and say what this process holds."""
    began = time.perf_counter()
    load = load_image_tower if tower == "image" else load_text_tower
    encoder = load(model=model, precision=precision, device="cpu")
    load_s = time.perf_counter() - began
    loaded = memory_mib()
    for _ in range(2):
        if isinstance(encoder, OpenClipImageTower):
            way = encoder.card.preprocessing
            encoder.encode([np.zeros((way.height, way.width, 3), dtype=np.uint8)] * batch_size)
        else:
            encoder.encode(["a red boat on a river at night"] * batch_size)
    tensors = {id(each): each for each in chain(encoder.module.parameters(), encoder.module.buffers())}
    own = sum(each.nbytes for each in tensors.values())
    after = memory_mib()
    trim_heap()
    return {"load_s": load_s, "own_mib": own / MIB, "loaded": loaded, "after": after, "idle": memory_mib()}


def compute_a_little(dtype: torch.dtype) -> None:
    """One small layer of each kind that towers are made of."""
    with torch.inference_mode():
        features = torch.ones(1, 8, 16, 64, dtype=dtype)
        layer = torch.nn.Linear(64, 64).to(dtype)
        attended = torch.nn.functional.scaled_dot_product_attention(features, features, features)
        torch.nn.functional.layer_norm(torch.nn.functional.gelu(layer(attended)), (64,))


def in_own_process(*arguments: str) -> dict[str, Any]:
    """What this file prints when it is run with these arguments."""
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return measured


def measure(model: str, batch_size: int) -> list[dict[str, Any]]:
    """A row for each tower and precision, in MiB."""
    folder = str(checkpoint(model))
    bare = {each: in_own_process("--bare", "--precision", each)["after"]["VmRSS"] for each in PRECISIONS}
    rows = []
    for precision, tower in product(PRECISIONS, TOWERS):
        bare_mib = bare[precision]
        run = in_own_process(
            "--tower", tower, "--folder", folder, "--precision", precision, "--batch-size", str(batch_size)
        )
        row = {
            "case": f"{tower} tower, {precision}",
            "own_mib": run["own_mib"],
            "bare_mib": bare_mib,
            "loaded_mib": run["loaded"]["VmRSS"],
            "after_mib": run["after"]["VmRSS"],
            "idle_mib": run["idle"]["VmRSS"],
            "peak_mib": run["after"]["VmHWM"],
            "ratio": (run["after"]["VmRSS"] - bare_mib) / run["own_mib"],
            "idle_ratio": (run["idle"]["VmRSS"] - bare_mib) / run["own_mib"],
        }
        rows.append(told(row))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--model", default="ViT-L-14", help="an architecture of OpenCLIP with a text tower of its own")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--bare", action="store_true", help="only import and compute a little, and print what that takes"
    )
    parser.add_argument("--tower", choices=TOWERS, help="only load and run this tower, and print what that takes")
    parser.add_argument("--folder", help="of the tower's checkpoint")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    arguments = parser.parse_args()
    if arguments.bare:
        compute_a_little(getattr(torch, arguments.precision))
        print(json.dumps({"after": memory_mib()}))
    elif arguments.tower:
        name = f"local-dir:{arguments.folder}"
        print(json.dumps(run_tower(arguments.tower, name, arguments.precision, arguments.batch_size)))
    else:
        settings = {"model": arguments.model, "batch size": arguments.batch_size, "threads": torch.get_num_threads()}
        write_report("memory", measure(arguments.model, arguments.batch_size), settings)


if __name__ == "__main__":
    main()
