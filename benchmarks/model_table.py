"""What the models of the profiles cost: parameters and memory of each tower, and their speed beside ViT-B-32's.

    .venv/bin/python -m benchmarks.model_table             # sizes: from OpenCLIP's configs, in seconds
    .venv/bin/python -m benchmarks.model_table --speed     # and speed, one model after the other in one run

Parameters are counted on torch's meta device. Memory is that of the parameters alone; a replica adds torch and its activations.
Speed is that of our towers in this process, on checkpoints with random weights, as ratios to the first profile: it does not
depend on what the weights are. Prints Markdown rows and writes JSON.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from transformers import PreTrainedConfig

from benchmarks.random_checkpoints import TEXT_CONFIGS, on_meta, parameters_of, write_architecture
from configs.load import load_config
from serve_app.adapters.open_clip import load_image_tower, load_text_tower

PROFILES = (
    "clip-vit-b-32",
    "clip-vit-l-14",
    "siglip-vit-b-16",
    "siglip2-vit-b-16",
    "openclip-vit-h-14",
    "openclip-vit-bigg-14",
    "mobileclip2-s2",
    "xlm-roberta-vit-b-32",
)
TOWERS = ("image", "text")
GIGABYTE = 1e9
TEXT = "a small red boat on a quiet lake at night"


def sizes(architecture: str) -> dict[str, Any]:
    """Dimension, pixels, tokens, and parameters of both towers with the gigabytes that they take."""
    config = open_clip.get_model_config(architecture)
    text_cfg = config["text_cfg"]
    with tempfile.TemporaryDirectory() as folder:
        if text_cfg.get("hf_model_name") in TEXT_CONFIGS:
            text_config: PreTrainedConfig = TEXT_CONFIGS[text_cfg["hf_model_name"]]
            text_config.save_pretrained(folder)
            text_cfg.update(hf_model_name=folder, hf_model_pretrained=False)
        parameters = parameters_of(on_meta(config))
    return {
        "dimension": config["embed_dim"],
        "size_px": config["vision_cfg"]["image_size"],
        "context_length": text_cfg.get("context_length", 77),
        "parameters": parameters,
        "float32_gb": {tower: count * 4 / GIGABYTE for tower, count in parameters.items()},
        "bfloat16_gb": {tower: count * 2 / GIGABYTE for tower, count in parameters.items()},
    }


def speeds(architecture: str, precision: str, batch: int, seconds: float) -> dict[str, float]:
    """Pictures and texts in a second, batch after batch for some seconds; the median batch counts."""
    with tempfile.TemporaryDirectory(prefix="model-table-") as folder:
        checkpoint = Path(folder) / architecture
        write_architecture(checkpoint, architecture, torch.float16)
        name = f"local-dir:{checkpoint}"
        return {
            "images_per_s": images_per_s(name, precision, batch, seconds),
            "texts_per_s": texts_per_s(name, precision, batch, seconds),
        }


def images_per_s(name: str, precision: str, batch: int, seconds: float) -> float:
    """Of random pixels, through our image tower alone."""
    tower = load_image_tower(model=name, precision=precision)
    way = tower.card.preprocessing
    shape = (batch, way.height, way.width, 3)
    pictures = list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    return batch / median_seconds(lambda: tower.encode(pictures), seconds)


def texts_per_s(name: str, precision: str, batch: int, seconds: float) -> float:
    """Of a query of ten words, through our text tower alone."""
    tower = load_text_tower(model=name, precision=precision)
    return batch / median_seconds(lambda: tower.encode([TEXT] * batch), seconds)


def median_seconds(work: Callable[[], object], seconds: float) -> float:
    """Of one call, after one that warms up; at least three are timed."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_table", description=__doc__)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="PROFILE", default=PROFILES)
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing, for each tower")
    parser.add_argument("--out", type=Path, default=Path("var/benchmarks/model_table.json"))
    options = parser.parse_args()
    models: dict[str, Any] = {}
    columns = ["profile", "dimension", "pixels", "image tower", "text tower", "float32", "bfloat16"]
    columns += ["images/s", "texts/s"] if options.speed else []
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for profile in options.only:
        architecture = load_config(profile, environment={}).encoder.model
        row = sizes(architecture)
        if options.speed:
            row |= speeds(architecture, options.precision, options.batch, options.seconds)
        models[profile] = row
        first = models[options.only[0]]
        count, single, half = row["parameters"], row["float32_gb"], row["bfloat16_gb"]
        cells = [
            f"`{profile}`",
            str(row["dimension"]),
            str(row["size_px"]),
            *(f"{count[tower] / 1e6:.0f} M" for tower in TOWERS),
            *(" + ".join(f"{memory[tower]:.2f}" for tower in TOWERS) + " GB" for memory in (single, half)),
            *(f"{row[speed] / first[speed]:.2f}" for speed in ("images_per_s", "texts_per_s") if options.speed),
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
    report = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "precision": options.precision,
        "batch": options.batch,
        "versions": {"open_clip": open_clip.__version__, "torch": torch.__version__},
        "models": models,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
