"""Training pictures, drawn once at the model's resolution by a process of their own. Knows no model.

Scenes come in families of four: one, and three that differ from it in a single respect each (another colour, one more,
the other side ...). Family `i` of a seed is always the same, so that the pool is only a cache and may be thrown away.
"""

# ruff: noqa: S311 - lots are drawn here, no secrets made

import hashlib
import multiprocessing as mp
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.demo.drawing import draw
from serve_app.demo.scenes import ATTRIBUTES, Scene, is_held_out, sample_scene, variants

FAMILY = 4

Pixels = NDArray[np.uint8]


def family(seed: int, index: int) -> tuple[Scene, ...]:
    """The four scenes of a family: pairwise different specs, none of them held out."""
    rng = random.Random(f"family {seed} {index}")
    scene = sample_scene(rng)
    while is_held_out(scene):
        scene = sample_scene(rng)
    found = {scene.spec: scene}
    while len(found) < FAMILY:
        near = replace(_neighbour(scene, rng), seed=rng.getrandbits(32))
        if not is_held_out(near):
            found.setdefault(near.spec, near)
    return tuple(found.values())


def _neighbour(scene: Scene, rng: random.Random) -> Scene:
    """A scene unlike this one in a single respect."""
    if scene.other is not None and scene.thing.colour != scene.other.colour and rng.random() < 0.2:
        # Which colour goes with which thing is learnt only where the same words are bound otherwise.
        thing, other = scene.thing, scene.other
        return replace(scene, thing=replace(thing, colour=other.colour), other=replace(other, colour=thing.colour))
    options: tuple[Scene, ...] = ()
    while not options:
        options = variants(scene, rng.choice(ATTRIBUTES))
    return rng.choice(options)


def shrink(picture: Image.Image, size: int) -> Image.Image:
    """The picture as the model's own transform sees it: squashed to a square, bicubic."""
    return picture.resize((size, size), Image.Resampling.BICUBIC)


def family_pixels(seed: int, index: int, size: int) -> Pixels:
    """The family's pictures, uint8 (4, size, size, 3)."""
    # Mostly the cheap size; the others teach that the same scene may come from a larger drawing.
    drawn = (128, 128, 128, 192, 256)[index % 5]
    return np.stack([np.asarray(shrink(draw(scene, drawn), size)) for scene in family(seed, index)])


def drawing_digest() -> str:
    """Names the drawing code, so that pictures of an older one are not taken for those of this one."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in (here / "scenes.py", here / "pool.py", *sorted((here / "drawing").glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Pool:
    """A growing file of families' pictures, filled by a background process and mapped into memory.

    Use as a context manager; the process ends with it. `ready` tells how many families may be read.
    """

    def __init__(self, folder: Path, seed: int, families: int, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"pool-{drawing_digest()}-{seed}-{size}.u8"
        self._arguments = (str(self._file), seed, families, size)
        self._shape = (families, FAMILY, size, size, 3)
        mode = "r+" if self._file.exists() else "w+"
        if mode == "r+" and self._file.stat().st_size < int(np.prod(self._shape)):
            os.truncate(self._file, int(np.prod(self._shape)))
        self._pixels = np.memmap(self._file, np.uint8, mode, shape=self._shape)  # type: ignore[call-overload]
        context = mp.get_context("spawn")
        self._count = context.Value("q", _stored(self._file))
        self._process = context.Process(target=_fill, args=(*self._arguments, self._count), daemon=True)
        self.seed = seed

    def __enter__(self) -> "Pool":
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    @property
    def ready(self) -> int:
        """How many families are drawn.

        Raises RuntimeError when the drawing process has died.
        """
        if self._process.exitcode not in (None, 0):
            raise RuntimeError("the process that draws the training pictures has ended with an error")
        return min(int(self._count.value), self._shape[0])

    @property
    def full(self) -> bool:
        """Whether all families are drawn."""
        return self.ready == self._shape[0]

    def pixels(self, index: int) -> Pixels:
        """Pictures of a family that is ready, uint8 (4, size, size, 3)."""
        return np.asarray(self._pixels[index])


def _stored(file: Path) -> int:
    counter = file.with_suffix(".count")
    return int(counter.read_text()) if counter.exists() else 0


def _fill(file: str, seed: int, families: int, size: int, count: "mp.sharedctypes.Synchronized[int]") -> None:
    os.nice(3)
    pixels = np.memmap(file, np.uint8, "r+", shape=(families, FAMILY, size, size, 3))
    for index in range(int(count.value), families):
        pixels[index] = family_pixels(seed, index, size)
        count.value = index + 1
        if index % 100 == 99 or index + 1 == families:
            pixels.flush()
            Path(file).with_suffix(".count").write_text(str(index + 1))
