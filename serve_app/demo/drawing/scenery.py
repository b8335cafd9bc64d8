"""The eight places, painted from the horizon forward. Knows no things and no weather but its light."""

import math
import random
from collections.abc import Callable

from serve_app.demo.drawing.canvas import Canvas, Colour, Point, mix
from serve_app.demo.drawing.palette import Light
from serve_app.demo.scenes import Place

HORIZON = 0.52


def ridge(rng: random.Random, y: float, height: float, bumps: float) -> list[Point]:
    """Rolling line from left to right about `y`."""
    phase, second = rng.uniform(0, 6.28), rng.uniform(0, 6.28)
    line = []
    for i in range(25):
        x = i / 24
        wave = math.sin(phase + bumps * 6.28 * x) + 0.4 * math.sin(second + bumps * 13 * x)
        line.append((x, y - height * wave / 1.4))
    return line


def peaks(rng: random.Random, y: float, height: float, count: int) -> list[Point]:
    """Jagged line of mountains from left to right."""
    line: list[Point] = [(-0.1, y)]
    for i in range(count):
        x = (i + 0.5 + rng.uniform(-0.2, 0.2)) / count
        line.append((x, y - height * rng.uniform(0.7, 1.0)))
        line.append(((i + 1) / count, y - height * rng.uniform(0.1, 0.3)))
    line[-1] = (1.1, y)
    return line


def pine(canvas: Canvas, x: float, foot: float, height: float, green: Colour, snow: Colour | None = None) -> None:
    """Fir tree of three tiers."""
    canvas.box(x - height * 0.05, foot - height * 0.2, x + height * 0.05, foot, mix(green, (70, 44, 30), 0.7))
    for tier in range(3):
        low, top, half = (
            foot - height * (0.12 + 0.26 * tier),
            foot - height * (0.5 + 0.25 * tier),
            height * (0.3 - 0.07 * tier),
        )
        canvas.polygon([(x - half, low), (x, top), (x + half, low)], mix(green, (255, 255, 255), 0.07 * tier))
        canvas.polygon([(x, low), (x, top), (x + half, low)], mix(green, (0, 0, 30), 0.16))
        if snow:
            canvas.polygon(
                [(x - half * 0.5, low - (low - top) * 0.5), (x, top), (x + half * 0.5, low - (low - top) * 0.5)], snow
            )


def meadow(canvas: Canvas, light: Light, rng: random.Random) -> None:
    canvas.fill_below(ridge(rng, 0.46, 0.04, 0.9), light.on((150, 204, 128)), light.on((120, 186, 104)))
    canvas.fill_below(ridge(rng, 0.51, 0.035, 1.2), light.on((128, 196, 92)), light.on((98, 172, 76)))
    canvas.fill_below(ridge(rng, 0.62, 0.02, 0.8), light.on((116, 188, 78)), light.on((76, 148, 62)))
    for _ in range(12):
        x, y = rng.random(), rng.uniform(0.66, 0.98)
        blade = light.on((66, 136, 56))
        for dx in (-0.012, 0.0, 0.012):
            canvas.line([(x, y), (x + dx, y - 0.028)], blade, 0.006)
    for _ in range(14):
        x, y, r = rng.random(), rng.uniform(0.6, 0.98), rng.uniform(0.006, 0.01)
        canvas.oval(x, y, r, r, light.on(rng.choice([(255, 250, 220), (255, 236, 140), (250, 214, 232)])))


def beach(canvas: Canvas, light: Light, rng: random.Random) -> None:
    canvas.fill_below([(0, 0.46), (1, 0.46)], light.on((52, 150, 200)), light.on((120, 214, 220)))
    for _ in range(9):
        x, y = rng.random(), rng.uniform(0.48, 0.58)
        canvas.line([(x, y), (x + rng.uniform(0.03, 0.08), y)], light.on((170, 226, 236)), 0.006)
    shore = ridge(rng, 0.62, 0.018, 0.8)
    canvas.fill_below([(x, y - 0.022) for x, y in shore], light.on((240, 250, 248)), light.on((240, 250, 248)))
    canvas.fill_below(shore, light.on((250, 226, 160)), light.on((232, 192, 116)))
    for _ in range(26):
        canvas.oval(rng.random(), rng.uniform(0.67, 0.99), 0.004, 0.003, light.on((206, 162, 92)))
    x, side = rng.choice([(0.06, 1), (0.94, -1)])
    palm = [(x, 0.72), (x + side * 0.02, 0.5), (x + side * 0.06, 0.34)]
    canvas.line(palm, light.on((150, 104, 60)), 0.026)
    for angle in (-200, -165, -120, -60, -20, 20):
        dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        tip = (palm[2][0] + dx * 0.15, palm[2][1] + dy * 0.07 + 0.05)
        middle = (palm[2][0] + dx * 0.09, palm[2][1] + dy * 0.07 - 0.025)
        under = (palm[2][0] + dx * 0.08, palm[2][1] + dy * 0.05 + 0.012)
        canvas.blob([palm[2], middle, tip, under], light.on((56, 150, 84)))


def desert(canvas: Canvas, light: Light, rng: random.Random) -> None:
    canvas.fill_below(ridge(rng, 0.47, 0.05, 0.8), light.on((240, 186, 120)), light.on((226, 160, 96)))
    canvas.fill_below(ridge(rng, 0.55, 0.045, 0.7), light.on((236, 170, 92)), light.on((216, 142, 72)))
    canvas.fill_below(ridge(rng, 0.68, 0.04, 0.6), light.on((228, 152, 76)), light.on((200, 118, 58)))
    for x, foot, tall in (
        (rng.uniform(0.03, 0.12), 0.62, 0.22),
        (rng.uniform(0.88, 0.97), 0.58, 0.17),
        (rng.uniform(0.4, 0.6), 0.55, 0.08),
    ):
        green = light.on((84, 140, 84))
        width = tall * 0.2
        canvas.line([(x, foot), (x, foot - tall)], green, width)
        for side, up in ((-1, 0.4), (1, 0.55)):
            arm = x + side * tall * 0.3
            canvas.line(
                [(x, foot - tall * up), (arm, foot - tall * up), (arm, foot - tall * (up + 0.3))], green, width * 0.75
            )
    for _ in range(7):
        x, y = rng.random(), rng.uniform(0.72, 0.98)
        canvas.arc(x, y, 0.06, 0.015, 200, 340, light.on((186, 104, 52)), 0.005)


def city(canvas: Canvas, light: Light, rng: random.Random) -> None:
    for row, (low, high, tone) in enumerate(((0.24, 0.34, (168, 178, 204)), (0.32, 0.44, (112, 122, 160)))):
        x = -0.03
        while x < 1.0:
            width, top = rng.uniform(0.09, 0.15), rng.uniform(low, high)
            wall = light.on(mix(tone, rng.choice([(214, 150, 140), (150, 170, 214), (210, 196, 160)]), 0.3))
            canvas.box(x, top, x + width, 0.6, wall)
            if rng.random() < 0.4:
                canvas.polygon([(x, top), (x + width / 2, top - 0.05), (x + width, top)], wall)
            _windows(canvas, light, rng, x, top, width, row)
            x += width + 0.008
    canvas.fill_below([(0, 0.57), (1, 0.57)], light.on((190, 190, 196)), light.on((176, 176, 184)))
    canvas.fill_below([(0, 0.62), (1, 0.62)], light.on((120, 122, 134)), light.on((92, 94, 108)))
    offset = rng.random() * 0.2
    for i in range(-1, 6):
        x = offset + i * 0.2
        canvas.polygon([(x, 0.8), (x + 0.1, 0.8), (x + 0.095, 0.82), (x - 0.005, 0.82)], light.on((240, 236, 214)))


def _windows(canvas: Canvas, light: Light, rng: random.Random, x: float, top: float, width: float, row: int) -> None:
    glow, dark = (255, 222, 130), light.on((210, 224, 240))
    for column in range(3):
        for floor in range(5):
            wx, wy = x + width * (0.14 + 0.27 * column), top + 0.025 + 0.05 * floor
            if wy > 0.54:
                continue
            lit = light.time != "day" and rng.random() < 0.55
            if lit or row == 1:
                canvas.box(wx, wy, wx + width * 0.17, wy + 0.026, glow if lit else dark)


def forest(canvas: Canvas, light: Light, rng: random.Random) -> None:
    canvas.fill_below(ridge(rng, 0.42, 0.03, 1.4), light.on((104, 158, 122)), light.on((80, 136, 100)))
    for depth, (count, foot, tall, green) in enumerate(
        ((13, 0.53, 0.24, (84, 146, 106)), (9, 0.58, 0.34, (48, 112, 80)))
    ):
        for i in range(count):
            x = (i + rng.uniform(0.1, 0.9)) / count
            # The middle is left lower, a glade for the things to stand in.
            near = 0.65 if depth and 0.25 < x < 0.75 else 1.0
            pine(canvas, x, foot, tall * near * rng.uniform(0.85, 1.1), light.on(green))
    canvas.fill_below(ridge(rng, 0.58, 0.012, 1.6), light.on((92, 128, 66)), light.on((62, 92, 50)))
    for _ in range(22):
        x, y = rng.random(), rng.uniform(0.63, 0.98)
        canvas.oval(
            x, y, rng.uniform(0.01, 0.024), 0.007, light.on(rng.choice([(126, 104, 58), (78, 122, 60), (54, 84, 46)]))
        )


def mountains(canvas: Canvas, light: Light, rng: random.Random) -> None:
    back, front = peaks(rng, 0.56, 0.36, 3), peaks(rng, 0.58, 0.24, 4)
    canvas.fill_below(back, light.on((140, 146, 180)), light.on((168, 174, 200)))
    for i in range(1, len(back) - 1, 2):
        x, y = back[i]
        (lx, ly), (rx, ry) = back[i - 1], back[i + 1]
        canvas.polygon([(x, y), (x + (rx - x) * 0.9, y + (ry - y) * 0.9), (x + 0.02, 0.56)], light.on((118, 122, 160)))
        left, right = (x + (lx - x) * 0.36, y + (ly - y) * 0.36), (x + (rx - x) * 0.36, y + (ry - y) * 0.36)
        low = max(left[1], right[1])
        zigzag = [(x + 0.028, low - 0.035), (x, low + 0.012), (x - 0.03, low - 0.03)]
        canvas.polygon([(x, y), right, *zigzag, left], light.on((250, 252, 255)))
    canvas.fill_below(front, light.on((98, 120, 132)), light.on((84, 116, 110)))
    canvas.fill_below(ridge(rng, 0.59, 0.015, 1.1), light.on((150, 176, 110)), light.on((108, 132, 84)))
    for _ in range(11):
        x, y, r = rng.random(), rng.uniform(0.64, 0.98), rng.uniform(0.01, 0.022)
        canvas.oval(x, y, r, r * 0.6, light.on((128, 130, 138)))
        canvas.oval(x - r * 0.2, y - r * 0.2, r * 0.6, r * 0.3, light.on((176, 178, 186)))


def sea(canvas: Canvas, light: Light, rng: random.Random) -> None:
    canvas.fill_below([(0, 0.48), (1, 0.48)], light.on((60, 140, 196)), light.on((40, 116, 180)))
    side = rng.choice([0.1, 0.9])
    canvas.blob(
        [(side - 0.12, 0.49), (side - 0.04, 0.455), (side + 0.05, 0.46), (side + 0.12, 0.49)], light.on((104, 96, 100))
    )
    canvas.polygon(
        [(side - 0.022, 0.46), (side - 0.014, 0.31), (side + 0.014, 0.31), (side + 0.022, 0.46)],
        light.on((250, 246, 240)),
    )
    for y in (0.34, 0.4):
        canvas.box(side - 0.018, y, side + 0.018, y + 0.026, light.on((206, 90, 84)))
    canvas.box(side - 0.014, 0.28, side + 0.014, 0.312, (255, 228, 130))
    canvas.polygon([(side - 0.022, 0.282), (side, 0.25), (side + 0.022, 0.282)], light.on((150, 70, 74)))
    for row in range(6):
        y, offset, span = 0.53 + 0.085 * row, rng.random(), 0.1 + 0.02 * row
        top = light.on(mix((70, 156, 206), (20, 84, 150), row / 5))
        crest = [(x / 40, y - 0.012 * abs(math.sin((x / 40 + offset) * math.pi / span))) for x in range(41)]
        canvas.fill_below([(x, y - 0.007) for x, y in crest], light.on((176, 222, 240)), light.on((176, 222, 240)))
        canvas.fill_below(crest, top, mix(top, (0, 20, 80), 0.12))


def arctic(canvas: Canvas, light: Light, rng: random.Random) -> None:
    canvas.fill_below([(0, 0.5), (1, 0.5)], light.on((110, 176, 204)), light.on((150, 204, 222)))
    for x in (rng.uniform(0.05, 0.25), rng.uniform(0.75, 0.95), rng.uniform(0.4, 0.6)):
        tall, half = rng.uniform(0.09, 0.17), rng.uniform(0.08, 0.13)
        berg = [
            (x - half, 0.54),
            (x - half * 0.7, 0.5 - tall * 0.5),
            (x - half * 0.2, 0.5 - tall),
            (x + half * 0.4, 0.5 - tall * 0.7),
            (x + half, 0.54),
        ]
        canvas.polygon(berg, light.on((236, 248, 255)))
        canvas.polygon([berg[2], berg[3], berg[4], (x + half * 0.1, 0.54)], light.on((176, 212, 236)))
    canvas.fill_below(ridge(rng, 0.58, 0.014, 1.0), light.on((246, 250, 255)), light.on((212, 228, 244)))
    x = rng.choice([0.14, 0.86])
    canvas.chord(x, 0.65, 0.1, 0.12, 180, 360, light.on((228, 240, 252)))
    for y in (0.57, 0.61):
        canvas.line([(x - 0.085, y), (x + 0.085, y)], light.on((178, 206, 230)), 0.005)
    canvas.chord(x, 0.65, 0.036, 0.06, 180, 360, light.on((96, 124, 164)))
    for _ in range(9):
        x, y = rng.random(), rng.uniform(0.68, 0.98)
        canvas.arc(x, y, 0.07, 0.014, 200, 340, light.on((182, 206, 230)), 0.006)


PAINTERS: dict[Place, Callable[[Canvas, Light, random.Random], None]] = {
    "meadow": meadow,
    "beach": beach,
    "desert": desert,
    "city": city,
    "forest": forest,
    "mountains": mountains,
    "sea": sea,
    "arctic": arctic,
}
