"""Memory of an encoder process: one tower of ViT-L/14 loaded by our loader and run, beside a process that only imports torch.

    .venv/bin/python -m benchmarks.memory [--model ViT-L-14]

Each row is a process of its own, read from /proc/self/status after it encoded two batches. The ratio is (resident - bare) divided by
the bytes of the tower's own parameters and buffers: 1.0 is a tower and nothing else. Weights are random: their values do not
matter. Writes JSON, and a Markdown table.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from serve_app.adapters.open_clip import OpenClipImageTower, load_image_tower, load_text_tower
from serve_app.adapters.open_clip.building import parameters_without_memory

TOWERS = ("image", "text")
PRECISIONS = ("float32", "bfloat16")
STATUS_FIELDS = ("VmRSS", "RssAnon", "RssFile", "VmHWM")
MIB = 1024 * 1024


def save_random_checkpoint(folder: Path, model: str) -> None:
    """A folder in `local-dir:` form with random float32 weights of an architecture. Holds the weights once while it writes."""
    folder.mkdir(parents=True)
    model_cfg = open_clip.get_model_config(model)
    custom = model_cfg.get("custom_text", False)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with parameters_without_memory():
        empty = kind(**{key: value for key, value in model_cfg.items() if key != "custom_text"})
    torch.manual_seed(0)
    state = {name: torch.randn(value.shape).mul_(0.02) for name, value in empty.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))


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
    return {"load_s": load_s, "own_mib": own / MIB, "loaded": loaded, "after": memory_mib()}


def in_own_process(*arguments: str) -> dict[str, Any]:
    """What this file prints when it is run with these arguments."""
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ourselves
    measured: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return measured


def measure(model: str, batch_size: int) -> list[dict[str, Any]]:
    """A row for each tower and precision."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_random_checkpoint(folder, model)
        bare = in_own_process("--bare")["after"]
        for precision in PRECISIONS:
            for tower in TOWERS:
                row = in_own_process(
                    "--tower", tower, "--folder", str(folder), "--precision", precision, "--batch-size", str(batch_size)
                )
                ratio = (row["after"]["VmRSS"] - bare["VmRSS"]) / row["own_mib"]
                rows.append(
                    {"model": model, "tower": tower, "precision": precision, "bare": bare, **row, "ratio": ratio}
                )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, in MiB."""
    lines = [
        "| model | tower | precision | own tensors | bare | loaded | after 2 batches | peak | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['model']} | {row['tower']} | {row['precision']} | {row['own_mib']:.0f} | {row['bare']['VmRSS']:.0f} "
        f"| {row['loaded']['VmRSS']:.0f} | {row['after']['VmRSS']:.0f} | {row['after']['VmHWM']:.0f} | {row['ratio']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--model", default="ViT-L-14", help="an architecture of OpenCLIP with a text tower of its own")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("var/benchmarks/memory.json"))
    parser.add_argument("--bare", action="store_true", help="only import, and print what that takes")
    parser.add_argument("--tower", choices=TOWERS, help="only load and run this tower, and print what that takes")
    parser.add_argument("--folder", help="of the tower's checkpoint")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    arguments = parser.parse_args()
    if arguments.bare:
        print(json.dumps({"after": memory_mib()}))
        return
    if arguments.tower:
        name = f"local-dir:{arguments.folder}"
        print(json.dumps(run_tower(arguments.tower, name, arguments.precision, arguments.batch_size)))
        return
    rows = measure(arguments.model, arguments.batch_size)
    machine = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**machine, "batch_size": arguments.batch_size, "rows": rows}, indent=2))
    print(markdown(rows))


if __name__ == "__main__":
    main()
