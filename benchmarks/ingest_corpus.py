"""What bulk work is measured on: many distinct pictures and texts on disk, made once for each size. Knows no job."""

import io
import json
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.reporting import FOLDER
from benchmarks.workload import texts
from serve_app.demo.corpus import PICTURE_SIZE
from serve_app.demo.drawing import draw
from serve_app.demo.scenes import sample_scene

# Drawing takes a hundred times as long as saving: each drawing is saved so often, each time moved and roughened otherwise.
COPIES = 40
# Further files are these with another comment inside: other bytes, and as much work for whoever reads them.
MOST_DIFFERENT = 8000
TEXTURE = 6.0


@dataclass(frozen=True, slots=True)
class Corpus:
    """`listed`: a JSON line for each picture and each text, mixed, for `crossmodal ingest`."""

    files: Sequence[Path]
    texts: Sequence[str]
    listed: Path


def corpus(pictures: int, words: int, size: int = PICTURE_SIZE, folder: Path = FOLDER / "ingest") -> Corpus:
    """So many JPEG files of `size` pixels square, and so many texts."""
    made = (folder / f"{pictures}x{size}").absolute()
    if not made.exists():
        partial = made.with_suffix(".partial")
        partial.mkdir(parents=True, exist_ok=True)
        different = min(pictures, MOST_DIFFERENT)
        tasks = [(partial, size, first, min(COPIES, different - first)) for first in range(0, different, COPIES)]
        with ProcessPoolExecutor() as pool:
            list(pool.map(_draw, tasks))
        for number in range(different, pictures):
            data = (partial / f"{number % different:06}.jpg").read_bytes()
            (partial / f"{number:06}.jpg").write_bytes(_commented(data, f"{number:08}"))
        partial.replace(made)
    files = [made / f"{number:06}.jpg" for number in range(pictures)]
    told = list(islice(texts(seed=words), words))
    rows = [{"id": file.stem, "uri": str(file)} for file in files]
    rows += [{"id": f"text-{number:06}", "text": text} for number, text in enumerate(told)]
    random.Random(pictures).shuffle(rows)
    listed = made.with_name(f"{made.name}-{words}.jsonl")
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Corpus(files, told, listed)


def _commented(jpeg: bytes, comment: str) -> bytes:
    """With a COM segment behind the two bytes that begin a JPEG."""
    return jpeg[:2] + b"\xff\xfe" + (2 + len(comment)).to_bytes(2, "big") + comment.encode() + jpeg[2:]


def _draw(task: tuple[Path, int, int, int]) -> None:
    folder, size, first, count = task
    drawn = np.asarray(draw(sample_scene(random.Random(first)), size), dtype=np.float32)
    for number in range(first, first + count):
        path = folder / f"{number:06}.jpg"
        if path.exists():  # of a run that was broken off
            continue
        chance = np.random.default_rng(number)
        moved = np.roll(drawn, chance.integers(size, size=2), axis=(0, 1)) + chance.normal(0, TEXTURE, (size, size, 1))
        file = io.BytesIO()
        Image.fromarray(np.clip(moved, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=87)
        path.write_bytes(file.getvalue())


def small_corpus(items: int, folder: Path) -> Corpus:
    """Pictures of 32 pixels of noise and texts, half and half: many in little time."""
    pictures = folder.absolute() / "pictures"
    pictures.mkdir()
    chance = np.random.default_rng(items)
    files = [pictures / f"{number:06}.png" for number in range(items // 2)]
    for file in files:
        Image.fromarray(chance.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(file, "PNG", compress_level=1)
    told = list(islice(texts(seed=items), items - len(files)))
    listed = folder / "list.jsonl"
    with listed.open("w", encoding="utf-8") as lines:
        for number, file in enumerate(files):
            lines.write(json.dumps({"id": f"picture-{number}", "uri": str(file)}) + "\n")
            lines.write(json.dumps({"id": f"text-{number}", "text": told[number]}) + "\n")
    return Corpus(files, told, listed)
