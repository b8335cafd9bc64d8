"""The encoders in process, without Ray and HTTP: images/s by batch and precision, decode, and texts/s beside plain OpenCLIP.

    .venv/bin/python -m benchmarks.encoder

`transform` is what one picture costs before the tower: decoding, turning and resizing, ours (uint8, in the Preprocessor) and
OpenCLIP's own. `vs_plain` divides by OpenCLIP's plain loop at the same precision and batch. `largest_difference` and
`smallest_cosine` compare our vectors with those of plain OpenCLIP in float32.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.plain import PlainOpenClip, batches
from benchmarks.reporting import machine_facts, write_report
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.adapters.open_clip import load_image_tower, load_text_tower
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.types import Embedding, FloatMatrix, ItemFailure

BATCHES = (1, 8, 32)
PRECISIONS = ("float32", "bfloat16")
DECODER = PictureDecoder(max_bytes=20_000_000, max_pixels=50_000_000, max_aspect_ratio=50)


def rate(work: Callable[[], object], items: int, seconds: float) -> float:
    """Items a second of a `work` that does so many at a time; its first run, which sets things up, does not count."""
    work()
    began, runs = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds or not runs:
        work()
        runs += 1
    return items * runs / took


def vectors(encoded: Sequence[Embedding | ItemFailure]) -> FloatMatrix:
    """[n, dimension] of embeddings that all went well. Raises ValueError for a failure."""
    failed = [item for item in encoded if isinstance(item, ItemFailure)]
    if failed:
        raise ValueError(f"{len(failed)} items failed: {failed[0].message}")
    return np.stack([item.vector for item in encoded if isinstance(item, Embedding)])


def agreement(ours: FloatMatrix, plain: FloatMatrix) -> dict[str, float]:
    """How near two matrices of unit vectors are, row by row."""
    return {
        "largest_difference": float(np.abs(ours - plain).max()),
        "smallest_cosine": float((ours * plain).sum(axis=1).min()),
    }


def measure_transform(
    plain: PlainOpenClip, files: Sequence[bytes], preprocessing: Any, seconds: float
) -> dict[str, Any]:
    """Milliseconds of one thread for one picture: ours, and OpenCLIP's transform."""
    queue = itertools.cycle(files)
    ours = rate(lambda: DECODER.to_pixels(next(queue), preprocessing), 1, seconds)
    theirs = rate(lambda: plain.transformed(next(queue)), 1, seconds)
    return {"case": "transform, one thread", "items_per_s": ours, "ms_per_item": 1000 / ours, "vs_plain": ours / theirs}


def measure_images(
    folder: Path, precision: str, exact: PlainOpenClip, files: Sequence[bytes], seconds: float
) -> list[dict[str, Any]]:
    """Our image tower on pixels that are ready, by batch size, beside OpenCLIP's encode_image on ready tensors."""
    tower = load_image_tower(model=f"local-dir:{folder.resolve()}", device="cpu", precision=precision)
    plain = PlainOpenClip(folder, precision)
    pixels = [DECODER.to_pixels(file, tower.card.preprocessing) for file in files]
    tensors = [plain.transformed(file) for file in files]
    rows = []
    for size in BATCHES:
        ours, theirs = batches(pixels, size), batches(tensors, size)
        ours_per_s = rate(lambda feed=ours: tower.encode(next(feed)), size, seconds)  # type: ignore[misc]
        plain_per_s = rate(lambda feed=theirs: plain.encode_transformed(next(feed)), size, seconds)  # type: ignore[misc]
        rows.append(
            {
                "case": f"images, {precision}, batch {size}",
                "items_per_s": ours_per_s,
                "ms_per_item": 1000 / ours_per_s,
                "vs_plain": ours_per_s / plain_per_s,
                **agreement(vectors(tower.encode(pixels[:size])), exact.encode_transformed(tensors[:size])),
            }
        )
    return rows


def measure_texts(folder: Path, precision: str, exact: PlainOpenClip, seconds: float) -> list[dict[str, Any]]:
    """Our text tower on texts of 5 to 12 words, tokenising included, beside encode_text on all 77 tokens."""
    tower = load_text_tower(model=f"local-dir:{folder.resolve()}", device="cpu", precision=precision)
    plain = PlainOpenClip(folder, precision)
    rows = []
    for size in BATCHES:
        feed = texts()

        def some(feed: Any = feed, size: int = size) -> list[str]:
            return list(itertools.islice(feed, size))

        ours_per_s = rate(lambda some=some: tower.encode(some()), size, seconds)  # type: ignore[misc]
        plain_per_s = rate(lambda some=some: plain.encode_texts(some()), size, seconds)  # type: ignore[misc]
        told = some()
        rows.append(
            {
                "case": f"texts, {precision}, batch {size}",
                "items_per_s": ours_per_s,
                "ms_per_item": 1000 / ours_per_s,
                "vs_plain": ours_per_s / plain_per_s,
                **agreement(vectors(tower.encode(told)), exact.encode_texts(told)),
            }
        )
    return rows


def measure(architecture: str, precisions: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """All rows of one architecture."""
    folder = checkpoint(architecture)
    files = jpegs(max(BATCHES))
    card = load_image_tower(model=f"local-dir:{folder.resolve()}", device="cpu", precision="float32").card
    exact = PlainOpenClip(folder)
    rows = [measure_transform(exact, files, card.preprocessing, seconds)]
    for precision in precisions:
        rows += measure_images(folder, precision, exact, files, seconds)
    for precision in precisions:
        rows += measure_texts(folder, precision, exact, seconds)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder", description=__doc__)
    parser.add_argument(
        "--model", default="ViT-B-32", help="an architecture of OpenCLIP; random weights are made for it"
    )
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=None, help="of torch; all cores without it")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each single measurement")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = machine_facts()
    rows = measure(options.model, options.precisions, options.seconds)
    settings = {"model": options.model, "threads": torch.get_num_threads(), "seconds": options.seconds}
    write_report("encoder", rows, settings, machine=machine)


if __name__ == "__main__":
    main()
