"""What the benchmarks work on: pictures, texts and checkpoints. The same seed gives the same bytes.

Speed does not depend on the values of weights, so the checkpoints have random ones in the true architecture.
"""

import io
import random
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.reporting import FOLDER
from serve_app.demo.drawing import draw
from serve_app.demo.scenes import sample_scene

MODELS = FOLDER / "models"
PICTURE_SIZE = (500, 375)
JPEG_QUALITY = 87
# Drawings are smoother than photographs. This much noise (standard deviation, of 255) brings a JPEG to a photograph's size.
TEXTURE = 6.0
VOCABULARY = """
a the two three old young small large red blue green yellow bright dark wooden golden little open quiet busy rainy
sunny snowy dog cat horse bird boat car train bicycle house bridge river lake mountain forest field garden street
market kitchen table chair window door lamp book cup plate apple bread flower tree stone tower church school woman
man child crowd farmer painter player driver walking running sitting standing sleeping eating holding looking
"""


@lru_cache(maxsize=4)
def jpegs(count: int, size: tuple[int, int] = PICTURE_SIZE, seed: int = 0) -> tuple[bytes, ...]:
    """Distinct JPEG files of scenes from the picture-book, with texture so that they weigh what photographs weigh."""
    chance = random.Random(f"benchmark pictures {seed}")
    return tuple(_jpeg(chance, size) for _ in range(count))


def _jpeg(chance: random.Random, size: tuple[int, int]) -> bytes:
    width, height = size
    drawn = draw(sample_scene(chance), max(size)).crop((0, 0, width, height))
    noise = np.random.default_rng(chance.getrandbits(32)).normal(0, TEXTURE, (height, width, 1))
    pixels = np.clip(np.asarray(drawn, dtype=np.float32) + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def texts(seed: int = 0) -> Iterator[str]:
    """Endless texts of 5 to 12 words, all distinct: no cache of queries can answer one of them."""
    chance = random.Random(f"benchmark texts {seed}")
    words = VOCABULARY.split()
    told: set[str] = set()
    while True:
        text = " ".join(chance.choices(words, k=chance.randint(5, 12)))
        if text not in told:
            told.add(text)
            yield text


def checkpoint(architecture: str, folder: Path = MODELS) -> Path:
    """A `local-dir:` checkpoint of an OpenCLIP architecture with random weights, made once. Returns its folder."""
    # Here and not above: who only draws pictures needs no torch.
    from benchmarks.random_checkpoints import CONFIG_NAME, write_architecture

    made = folder / architecture
    if not (made / CONFIG_NAME).exists():
        # Under another name first: a run that was broken off leaves no half checkpoint.
        partial = folder / f"{architecture}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        write_architecture(partial, architecture)
        partial.replace(made)
    return made
