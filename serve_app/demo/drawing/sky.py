"""Sun, moon, stars and clouds behind the scenery; rain and snow. Knows no things."""

import math
import random

from serve_app.demo.drawing.canvas import Canvas, Colour, mix
from serve_app.demo.drawing.palette import Light

RAINBOW: tuple[Colour, ...] = (
    (238, 72, 72), (250, 154, 56), (252, 226, 84), (96, 200, 104), (74, 148, 232), (150, 92, 204),
)  # fmt: skip


def paint_sky(canvas: Canvas, light: Light, rng: random.Random) -> None:
    """Everything behind the land."""
    canvas.fill_sky((*light.sky, light.sky[-1]))
    x, y = rng.choice([rng.uniform(0.1, 0.24), rng.uniform(0.76, 0.9)]), rng.uniform(0.1, 0.17)
    if light.time == "night":
        _stars(canvas, rng, 16 if light.overcast else 46)
    if not light.overcast:
        _lamp_of_the_sky(canvas, light, x, y)
    if light.weather == "rainbow":
        _rainbow(canvas, light, rng)
    if light.overcast:
        for i in range(7):
            _cloud(canvas, light, (i + rng.random()) / 7, rng.uniform(0.02, 0.13), rng.uniform(0.08, 0.13))
        return
    for _ in range(3):
        # Clouds drift on the other side, so that the sun, the moon and the hour they tell stay in sight.
        drift = rng.uniform(0.26, 0.96)
        _cloud(canvas, light, drift if x < 0.5 else 1 - drift, rng.uniform(0.06, 0.28), rng.uniform(0.06, 0.11))


def _lamp_of_the_sky(canvas: Canvas, light: Light, x: float, y: float) -> None:
    if light.time == "day":
        canvas.veil(x, y, 0.13, 0.13, (255, 244, 190), 0.7)
        for i in range(12):
            a = math.radians(30 * i)
            dx, dy = math.cos(a), math.sin(a)
            canvas.line([(x + dx * 0.085, y + dy * 0.085), (x + dx * 0.112, y + dy * 0.112)], (255, 206, 80), 0.011)
        canvas.oval(x, y, 0.07, 0.07, (255, 214, 84))
        canvas.oval(x - 0.008, y - 0.008, 0.056, 0.056, (255, 230, 128))
    elif light.time == "sunset":
        canvas.veil(x, 0.42, 0.28, 0.2, (255, 226, 140), 0.75)
        canvas.oval(x, 0.43, 0.1, 0.1, (255, 176, 70))
        canvas.oval(x, 0.43, 0.082, 0.082, (255, 214, 120))
    else:
        canvas.veil(x, y, 0.15, 0.15, (150, 160, 220), 0.5)
        angles = [math.radians(50 + 26 * i) for i in range(11)]
        outer = [(x + 0.074 * math.cos(a), y + 0.074 * math.sin(a)) for a in angles]
        inner = [(x + 0.03 + 0.056 * math.cos(a), y + 0.056 * math.sin(a)) for a in reversed(angles)]
        canvas.polygon(outer + inner, (255, 246, 206))


def _stars(canvas: Canvas, rng: random.Random, count: int) -> None:
    for _ in range(count):
        x, y, r = rng.random(), rng.uniform(0.0, 0.42), rng.choice([0.003, 0.004, 0.007])
        if r < 0.006:
            canvas.oval(x, y, r, r, (226, 230, 255))
        else:
            canvas.polygon([(x, y - r * 2), (x + r * 0.5, y), (x, y + r * 2), (x - r * 0.5, y)], (255, 248, 214))
            canvas.polygon([(x - r * 2, y), (x, y + r * 0.5), (x + r * 2, y), (x, y - r * 0.5)], (255, 248, 214))


def _rainbow(canvas: Canvas, light: Light, rng: random.Random) -> None:
    x, radius = rng.uniform(0.42, 0.58), rng.uniform(0.46, 0.52)
    for i, colour in enumerate(RAINBOW):
        shown = mix(colour, light.sky[1], 0.12 if light.time == "day" else 0.22)
        canvas.arc(x, 0.58, radius - 0.024 * i, (radius - 0.024 * i) * 1.02, 178, 362, shown, 0.027)


def _cloud(canvas: Canvas, light: Light, x: float, y: float, size: float) -> None:
    fair: Colour = {"day": (255, 255, 255), "sunset": (255, 206, 196), "night": (70, 78, 132)}[light.time]
    dull: Colour = {"day": (126, 138, 156), "sunset": (128, 98, 128), "night": (54, 56, 84)}[light.time]
    base = dull if light.overcast else fair
    shade = mix(base, light.sky[0], 0.22)
    puffs = ((-0.9, 0.1, 0.42), (-0.35, -0.14, 0.56), (0.3, -0.05, 0.5), (0.9, 0.14, 0.36))
    for dx, dy, r in puffs:
        canvas.oval(x + dx * size, y + dy * size + size * 0.1, r * size, r * size * 0.8, shade)
    for dx, dy, r in puffs:
        canvas.oval(x + dx * size, y + dy * size, r * size, r * size * 0.76, base)


def paint_weather(canvas: Canvas, light: Light, rng: random.Random, share: float = 1.0) -> None:
    """What falls from the sky; `share` of it, so that most can fall behind the things and some before them."""
    if light.weather == "rain":
        drop: Colour = {"day": (214, 234, 255), "sunset": (236, 222, 255), "night": (150, 186, 250)}[light.time]
        # One drop to a cell of a grid: even rain, never a gap that looks like a dry sky.
        for i in range(90):
            x, y, falls = (i % 10 + rng.random()) / 10, (i // 10 + rng.random()) / 9, rng.random() < share
            if falls:
                canvas.line([(x, y), (x - 0.022, y + 0.062)], drop, 0.0085)
        for _ in range(round(8 * share)):
            x, y = rng.random(), rng.uniform(0.7, 0.97)
            canvas.arc(x, y, 0.035, 0.012, 0, 360, drop, 0.005)
    elif light.weather == "snow":
        for i in range(72):
            x, y, falls = (i % 9 + rng.random()) / 9, (i // 9 + rng.random()) / 8, rng.random() < share
            r = rng.choice([0.008, 0.011, 0.015])
            if falls:
                canvas.oval(x, y, r + 0.0035, r + 0.0035, mix(light.sky[0], (90, 110, 160), 0.35))
                canvas.oval(x, y, r, r, (255, 255, 255))
