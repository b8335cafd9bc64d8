"""Where the things of a scene stand, and how one is cut out and pasted in: paper rim, outline, soft shadow."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageFilter

from serve_app.demo.drawing import living, made
from serve_app.demo.drawing.canvas import Canvas, Colour, Pen
from serve_app.demo.drawing.palette import TONES, Light, Tones
from serve_app.demo.scenes import KINDS, Scene, Thing

FLYING = frozenset({"balloon", "bird", "butterfly", "kite", "rocket", "star"})

ARTISTS: dict[str, Callable[[Pen, Tones], None]] = {
    kind: getattr(living, kind, None) or getattr(made, kind) for kind in KINDS
}

# Centres of the places a group's members take, and their half size; jittered by less than the room between them.
_GROUPS: dict[int, tuple[tuple[float, tuple[tuple[float, float], ...]], ...]] = {
    1: ((0.23, ((0.5, 0.64),)),),
    2: (
        (0.175, ((0.28, 0.66), (0.72, 0.66))),
        (0.175, ((0.29, 0.58), (0.71, 0.74))),
        (0.175, ((0.29, 0.74), (0.71, 0.58))),
    ),
    3: (
        (0.135, ((0.2, 0.7), (0.5, 0.66), (0.8, 0.7))),
        (0.14, ((0.27, 0.8), (0.5, 0.48), (0.73, 0.8))),
        (0.14, ((0.25, 0.48), (0.5, 0.8), (0.75, 0.48))),
    ),
    4: (
        (0.13, ((0.28, 0.49), (0.72, 0.49), (0.28, 0.8), (0.72, 0.8))),
        (0.13, ((0.17, 0.52), (0.38, 0.8), (0.61, 0.52), (0.83, 0.8))),
        (0.13, ((0.17, 0.8), (0.39, 0.52), (0.62, 0.8), (0.83, 0.52))),
    ),
}


@dataclass(frozen=True, slots=True)
class Placed:
    """A thing at its centre (x, y), `r` being half its side; all in shares of the picture's side."""

    thing: Thing
    x: float
    y: float
    r: float
    flip: bool

    @property
    def grounded(self) -> bool:
        """Whether it stands on the land rather than being in the air."""
        return self.y + self.r > 0.56


def arrange(scene: Scene, rng: random.Random) -> list[Placed]:
    """The things of a scene, farthest first. Members of a group never touch; relations are far from ambiguous."""
    if scene.other is None or scene.relation is None:
        half, centres = rng.choice(_GROUPS[scene.count])
        flip = rng.random() < 0.5
        wiggle = 0.06 if scene.count == 1 else 0.016
        return [
            Placed(
                scene.thing,
                x + rng.uniform(-wiggle, wiggle),
                y + rng.uniform(-wiggle, wiggle),
                half * rng.uniform(0.9, 1.02),
                flip,
            )
            for x, y in sorted(centres, key=lambda centre: centre[1])
        ]
    if scene.relation in ("left of", "right of"):
        level = rng.uniform(0.62, 0.72)
        spots = [(rng.uniform(0.23, 0.29), level), (rng.uniform(0.71, 0.77), level + rng.uniform(-0.03, 0.03))]
    else:
        middle = rng.uniform(0.4, 0.6)
        spots = [(middle, rng.uniform(0.21, 0.24)), (middle + rng.uniform(-0.05, 0.05), rng.uniform(0.74, 0.78))]
    things = [scene.thing, scene.other] if scene.relation in ("left of", "above") else [scene.other, scene.thing]
    return [
        Placed(thing, x, y, rng.uniform(0.165, 0.185), rng.random() < 0.5)
        for thing, (x, y) in zip(things, spots, strict=True)
    ]


def paste_thing(canvas: Canvas, placed: Placed, light: Light) -> None:
    """Draw one thing, cut out like paper, onto the canvas."""
    _ground_it(canvas, placed, light)
    scale = placed.r * canvas.side
    margin = round(0.03 * canvas.side) + 2
    side = round(2 * scale) + 2 * margin
    left, top = round(placed.x * canvas.side - side / 2), round(placed.y * canvas.side - side / 2)
    tones = TONES[placed.thing.colour]
    # The layer starts as transparent ink, so that its antialiased border fades into the outline.
    layer = Image.new("RGBA", (side, side), (*tones.ink, 0))
    ARTISTS[placed.thing.kind](Pen(layer, (side / 2, side / 2), scale, placed.flip), tones)
    alpha = layer.getchannel("A")
    shadow = alpha.filter(ImageFilter.BoxBlur(canvas.side * 0.008)).point(lambda v: v * 2 // 5)
    canvas.image.paste((16, 14, 44), (left + round(canvas.side * 0.008), top + round(canvas.side * 0.012)), shadow)
    rim = (255, 250, 238) if light.time != "night" else (222, 222, 240)
    canvas.image.paste(rim, (left, top), _grown(alpha, canvas.side * 0.0125))
    canvas.image.paste(tones.ink, (left, top), _grown(alpha, canvas.side * 0.0055))
    canvas.image.paste(layer, (left, top), alpha)


def _grown(alpha: Image.Image, by: float) -> Image.Image:
    """The mask, larger by about `by` pixels on every side."""
    return alpha.filter(ImageFilter.GaussianBlur(by * 0.75)).point(lambda v: min(255, max(0, (v - 14) * 8)))


def _ground_it(canvas: Canvas, placed: Placed, light: Light) -> None:
    foot = placed.y + placed.r
    if placed.grounded:
        shade: Colour = light.on((60, 60, 90))
        canvas.veil(placed.x, foot, placed.r * 0.95, placed.r * 0.2, shade, 0.55)
    elif placed.thing.kind not in FLYING:
        # A paper theatre: what cannot fly hangs from the top on two threads.
        thread: Colour = (250, 246, 236) if light.time == "night" else (96, 84, 96)
        for dx in (-0.3, 0.3):
            canvas.line([(placed.x + dx * placed.r * 0.4, 0.0), (placed.x + dx * placed.r, placed.y)], thread, 0.005)
