"""Draw a scene: one value, one seed, always the same pixels. Knows no captions and no models.

Every random choice is taken from generators seeded by the scene alone, in coordinates from 0 to 1, so a picture drawn at
another size shows the same scene.
"""

# ruff: noqa: S311 - lots are drawn here, no secrets made

import random

from PIL import Image

from serve_app.demo.drawing.canvas import Canvas
from serve_app.demo.drawing.palette import Light
from serve_app.demo.drawing.scenery import PAINTERS
from serve_app.demo.drawing.sky import paint_sky, paint_weather
from serve_app.demo.drawing.things import arrange, paste_thing
from serve_app.demo.scenes import Scene

__all__ = ["draw"]


def draw(scene: Scene, size: int = 256) -> Image.Image:
    """The scene as an RGB picture of `size` x `size` pixels, antialiased."""

    def chance(layer: str) -> random.Random:
        # Strings are hashed by SHA-512 in `random`, the same in every process.
        return random.Random(f"{layer} {scene.seed} {scene.spec}")

    light = Light(scene.time, scene.weather)
    canvas = Canvas(size)
    paint_sky(canvas, light, chance("sky"))
    PAINTERS[scene.place](canvas, light, chance("place"))
    paint_weather(canvas, light, chance("weather"))
    for placed in arrange(scene, chance("things")):
        paste_thing(canvas, placed, light)
    paint_weather(canvas, light, chance("near weather"), share=0.2)
    return canvas.finish()
