"""What `pictures.decode: fast` saves and what it changes: seconds of decoding, pixels, and vectors of the demo model.

    .venv/bin/python -m benchmarks.decode_fast

Draws scenes of the picture-book with the grain of a sensor as JPEGs of quality 90, from small to 15 megapixels, and reads
each both ways in one process and one thread. Times are CPU seconds for an encoder of 224 pixels, the best of `--repeats`.
Vectors are the demo model's, which wants 64 pixels and so drafts much harder than a real model. Writes JSON, and a Markdown
row for each size.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from serve_app.adapters.open_clip import OpenClipImageTower, load_image_tower
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.demo.corpus import demo_pictures
from serve_app.demo.drawing import draw
from serve_app.types import Embedding, FloatVector, ImagePreprocessing, Pixels

SIZES = ((500, 375), (1024, 768), (2048, 1536), (4480, 3360))  # the last is of 15 megapixels
GRAIN = 6.0  # standard deviation, of 255
QUALITY = 90
CLIP = ImagePreprocessing(224, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "shortest", 0)
EXACT = PictureDecoder(max_bytes=100_000_000, max_pixels=50_000_000, max_aspect_ratio=50)
FAST = PictureDecoder(max_bytes=100_000_000, max_pixels=50_000_000, max_aspect_ratio=50, decode="fast")


def jpegs(width: int, height: int, count: int) -> Iterator[bytes]:
    """Grainy pictures of this size, the same in every run."""
    chance = np.random.default_rng(0)
    for picture in demo_pictures(count=count):
        drawn = np.asarray(draw(picture.scene, max(width, height)), np.float32)[:height, :width]
        grainy = drawn + chance.normal(0, GRAIN, drawn.shape).astype(np.float32)
        file = BytesIO()
        Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        yield file.getvalue()


def best_ms(decoder: PictureDecoder, files: list[bytes], repeats: int) -> float:
    """CPU milliseconds for one picture, in the best round over all of them."""
    rounds = []
    for _ in range(repeats):
        began = time.process_time()
        for data in files:
            decoder.to_pixels(data, CLIP)
        rounds.append(time.process_time() - began)
    return 1000 * min(rounds) / len(files)


def vectors(tower: OpenClipImageTower, pixels: list[Pixels]) -> list[FloatVector]:
    """Unit vectors, one for each picture."""
    encoded = tower.encode(pixels)
    return [each.vector for each in encoded if isinstance(each, Embedding)]


def compare(width: int, height: int, count: int, repeats: int, tower: OpenClipImageTower) -> dict[str, object]:
    """The figures of one size."""
    files = list(jpegs(width, height, count))
    exact_ms, fast_ms = best_ms(EXACT, files, repeats), best_ms(FAST, files, repeats)
    strays = [np.abs(FAST.to_pixels(data, CLIP).astype(int) - EXACT.to_pixels(data, CLIP)) for data in files]
    wanted = tower.card.preprocessing
    exact = vectors(tower, [EXACT.to_pixels(data, wanted) for data in files])
    fast = vectors(tower, [FAST.to_pixels(data, wanted) for data in files])
    cosines = [float(a @ b) for a, b in zip(exact, fast, strict=True)]
    return {
        "size": f"{width} x {height}",
        "pictures": count,
        "file_kb": round(sum(map(len, files)) / count / 1000),
        "exact_ms": round(exact_ms, 2),
        "fast_ms": round(fast_ms, 2),
        "ratio": round(exact_ms / fast_ms, 2),
        "pixel_mean_difference": round(float(np.mean(strays)), 3),
        "pixel_largest_difference": int(np.max(strays)),
        "cosine_mean": round(float(np.mean(cosines)), 6),
        "cosine_min": round(min(cosines), 6),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode_fast", description=__doc__)
    parser.add_argument("--pictures", type=int, default=32, help="of the smallest size; fewer of the larger ones")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("var/benchmarks/decode_fast.json"))
    options = parser.parse_args()
    tower = load_image_tower(model="demo", device="cpu", precision="float32")
    counts = [max(4, options.pictures >> step) for step in range(len(SIZES))]
    rows = [compare(*size, count, options.repeats, tower) for size, count in zip(SIZES, counts, strict=True)]
    report = {
        "machine": platform.processor() or platform.machine(),
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version_feature("libjpeg_turbo"),
        "encoder_px": CLIP.width,
        "vectors_px": tower.card.preprocessing.width,
        "sizes": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


if __name__ == "__main__":
    main()
