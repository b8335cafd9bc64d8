"""The demo's corpus, drawn from a seed at run time: 1,000 pictures and 300 texts about other scenes. Knows no model.

A picture's caption is known to whoever measures and is never indexed: a picture is to be found by its pixels alone.
"""

# ruff: noqa: S311 - lots are drawn here, no secrets made

import io
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from serve_app.demo.captions import complete_caption
from serve_app.demo.drawing import draw
from serve_app.demo.scenes import COLOURS, KINDS, PLACES, TIMES, WEATHERS, Scene, Thing, held_out_scenes, sample_scene

PICTURES = 1000
TEXTS = 300
PICTURE_SIZE = 384

PictureFormat = Literal["png", "jpg"]


@dataclass(frozen=True, slots=True)
class DemoPicture:
    """A picture of the corpus; its pixels are drawn when asked for. `caption` is for measuring and not to be indexed."""

    id: str
    scene: Scene
    caption: str
    file_format: PictureFormat = "jpg"
    size: int = PICTURE_SIZE

    @property
    def file_name(self) -> str:
        """Such as `picture-0042.jpg`."""
        return f"{self.id}.{self.file_format}"

    @property
    def media_type(self) -> str:
        """`image/png` or `image/jpeg`."""
        return "image/png" if self.file_format == "png" else "image/jpeg"

    def encoded(self) -> bytes:
        """The PNG or JPEG file's bytes."""
        return encode_picture(draw(self.scene, self.size), self.file_format)


@dataclass(frozen=True, slots=True)
class DemoText:
    """A short text of the corpus. It describes a scene of which there is no picture."""

    id: str
    scene: Scene
    text: str


def encode_picture(picture: Image.Image, file_format: PictureFormat) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    if file_format == "png":
        picture.save(buffer, "PNG")
    else:
        picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def demo_pictures(seed: int = 0, count: int = PICTURES, file_format: PictureFormat = "jpg") -> Iterator[DemoPicture]:
    """The corpus's pictures, in a fixed order; a larger count goes on where a smaller one ended."""
    for index, scene in enumerate(_scenes(seed, TEXTS + count)[TEXTS:]):
        yield DemoPicture(f"picture-{index:04d}", scene, _caption(scene, seed), file_format)


def demo_texts(seed: int = 0, count: int = TEXTS) -> Iterator[DemoText]:
    """The corpus's texts, in a fixed order. Raises ValueError for more than `TEXTS`."""
    if count > TEXTS:
        raise ValueError(f"the corpus has {TEXTS} texts, not {count}")
    for index, scene in enumerate(_scenes(seed, count)):
        yield DemoText(f"text-{index:04d}", scene, _caption(scene, seed))


def _scenes(seed: int, count: int) -> tuple[Scene, ...]:
    """Scenes of different specs, none met in training: the first `TEXTS` are told, all others drawn."""
    return held_out_scenes(10_000 + seed, count)


def _caption(scene: Scene, seed: int) -> str:
    return complete_caption(scene, random.Random(f"corpus {seed} {scene.spec}")).text


def write_corpus(folder: Path, seed: int = 0, pictures: int = PICTURES, texts: int = TEXTS) -> None:
    """Write `pictures/*.jpg` and `texts.jsonl` (one object a line, with `id` and `text`) into a folder.

    Each file depends on seed and index only, so that writing again gives the same bytes.
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for picture in demo_pictures(seed, pictures):
        (folder / "pictures" / picture.file_name).write_bytes(picture.encoded())
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as file:
        for text in demo_texts(seed, texts):
            file.write(json.dumps({"id": text.id, "text": text.text}) + "\n")


def write_captioned(folder: Path, seed: int = 0, pictures: int = PICTURES, captions: int = 2) -> None:
    """Write `pictures/*.jpg` and `captions.jsonl` (an object a picture) into a folder, for `crossmodal evaluate`.

    The captions of a picture say the same in other words; the first is the corpus' own.
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    with (folder / "captions.jsonl").open("w", encoding="utf-8") as file:
        for picture in demo_pictures(seed, pictures):
            path = folder / "pictures" / picture.file_name
            path.write_bytes(picture.encoded())
            rng = random.Random(f"captioned {seed} {picture.scene.spec}")
            others = [complete_caption(picture.scene, rng).text for _ in range(captions - 1)]
            item = {"image": f"pictures/{picture.file_name}", "captions": [picture.caption, *others]}
            file.write(json.dumps(item) + "\n")


def write_classes(folder: Path, seed: int = 0, pictures: int = PICTURES) -> None:
    """Write pictures into a folder for each kind of thing that they show, for `crossmodal evaluate`; pairs are left out."""
    for picture in demo_pictures(seed, pictures):
        if picture.scene.other is None:
            inside = folder / picture.scene.thing.kind
            inside.mkdir(parents=True, exist_ok=True)
            (inside / picture.file_name).write_bytes(picture.encoded())


def contact_sheet(scenes: Sequence[Scene], columns: int, size: int = 192, gap: int = 6) -> Image.Image:
    """The scenes' pictures side by side on white, row by row."""
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * (size + gap) - gap, rows * (size + gap) - gap), (255, 255, 255))
    for index, scene in enumerate(scenes):
        row, column = divmod(index, columns)
        sheet.paste(draw(scene, size), (column * (size + gap), row * (size + gap)))
    return sheet


def showcase(seed: int = 0) -> tuple[Scene, ...]:
    """28 scenes that show every kind of thing, colour, place, time and weather: the README's picture."""
    rng = random.Random(f"showcase {seed}")
    scenes = []
    for index in range(28):
        scene = sample_scene(rng)
        first = Thing(COLOURS[(index * 7) % 10], KINDS[index % len(KINDS)])
        while scene.other is not None and scene.other.kind == first.kind:
            scene = sample_scene(rng)
        scenes.append(
            Scene(
                thing=first,
                count=scene.count,
                place=PLACES[(index * 3) % 8],
                time=TIMES[(0, 2, 0, 1)[index % 4]],
                weather=WEATHERS[(0, 3, 0, 1, 0, 2, 0)[index % 7]],
                relation=scene.relation,
                other=scene.other,
                seed=scene.seed,
            )
        )
    return tuple(scenes)
