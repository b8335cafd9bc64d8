"""A film of the picture-book: one drawn scene after the other, the camera drifting over each. Encoded by PyAV."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from serve_app.demo.drawing import draw
from serve_app.demo.scenes import Place, Relation, Scene, Thing, Time, Weather
from tests.unit.adapters.video_zoo import RATE, video

SECONDS = 2.0
WIDTH, HEIGHT = 480, 320


def group(count: int, colour: str, kind: str, place: Place, time: Time = "day", weather: Weather = "clear") -> Scene:
    return Scene(Thing(colour, kind), count, place, time, weather, seed=7)


def pair(one: str, relation: Relation, other: str, place: Place, time: Time = "day") -> Scene:
    first, second = (Thing(*thing.split()) for thing in (one, other))
    return Scene(first, 1, place, time, "clear", relation, second, seed=7)


# The moment that is asked for is the eighth scene: from second 14 on.
SCENES: tuple[tuple[str, Scene], ...] = (
    ("a yellow star above a green tree in the meadow", pair("yellow star", "above", "green tree", "meadow")),
    ("three pink flowers in the meadow", group(3, "pink", "flower", "meadow")),
    ("two red boats by day", group(2, "red", "boat", "sea")),
    ("a black cat in the snow", group(1, "black", "cat", "arctic", "day", "snow")),
    ("a blue car left of a white house in the city", pair("blue car", "left of", "white house", "city")),
    ("four orange balloons over the beach", group(4, "orange", "balloon", "beach", "sunset")),
    ("one blue boat at night", group(1, "blue", "boat", "sea", "night")),
    ("two red boats at night", group(2, "red", "boat", "sea", "night")),
    ("a purple mushroom in the forest", group(1, "purple", "mushroom", "forest")),
    ("a rainbow over the mountains with a brown rabbit", group(1, "brown", "rabbit", "mountains", "day", "rainbow")),
    ("a green turtle in the desert at sunset", group(1, "green", "turtle", "desert", "sunset")),
    ("two white birds in the rain", group(2, "white", "bird", "sea", "day", "rain")),
)


def frames_of(scene: Scene, seconds: float = SECONDS) -> list[np.ndarray]:
    """The scene, seen by a camera that drifts by a few pixels."""
    picture = draw(scene, WIDTH + 32)
    count = round(seconds * RATE)
    taken = []
    for step in range(count):
        left, top = round(24 * step / count), (WIDTH - HEIGHT) // 2
        taken.append(np.asarray(picture.crop((left, top, left + WIDTH, top + HEIGHT)).convert("RGB")))
    return taken


def film(scenes: Sequence[Scene] = tuple(scene for _, scene in SCENES), seconds: float = SECONDS) -> bytes:
    """An MP4 of these scenes that a player can begin anywhere in."""
    frames = [frame for scene in scenes for frame in frames_of(scene, seconds)]
    return video(frames, options={"movflags": "faststart"})


def poster(scene: Scene) -> Image.Image:
    """The middle of the scene, as the camera sees it."""
    return Image.fromarray(frames_of(scene)[RATE])
