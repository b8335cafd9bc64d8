"""Canvas and pens: antialiased shapes in coordinates that do not depend on the picture's size. Knows no scenes."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLE = 2


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Colour between `a` (share 0) and `b` (share 1)."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def smooth(points: Sequence[Point], steps: int = 6) -> list[Point]:
    """Closed Catmull-Rom curve through the points, as a polygon."""
    curve: list[Point] = []
    n = len(points)
    for i in range(n):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (points[(i + k - 1) % n] for k in range(4))
        for step in range(steps):
            t = step / steps
            a, b, c, d = -t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2
            curve.append(((a * x0 + b * x1 + c * x2 + d * x3) / 2, (a * y0 + b * y1 + c * y2 + d * y3) / 2))
    return curve


def gradient(size: tuple[int, int], stops: Sequence[Colour]) -> Image.Image:
    """Vertical gradient through evenly spaced colours."""
    column = Image.new("RGB", (1, len(stops)))
    column.putdata(list(stops))
    # Sampling between pixel centres only keeps the first and last colour from being stretched.
    return column.resize(size, Image.Resampling.BILINEAR, box=(0, 0.5, 1, len(stops) - 0.5))


class Pen:
    """Draws in a frame of its own: `at(x, y)` is `origin + scale * (x, y)` pixels, y pointing down."""

    def __init__(self, image: Image.Image, origin: Point, scale: float, flip: bool = False) -> None:
        self.image = image
        self._draw = ImageDraw.Draw(image)
        self._origin = origin
        self._scale = scale
        self._across = -scale if flip else scale
        self._flip = flip

    def at(self, point: Point) -> Point:
        """The pixel of a point."""
        return (self._origin[0] + self._across * point[0], self._origin[1] + self._scale * point[1])

    def _box(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        px, py = self.at((x, y))
        return (px - rx * self._scale, py - ry * self._scale, px + rx * self._scale, py + ry * self._scale)

    def _angles(self, start: float, end: float) -> tuple[float, float]:
        return (180 - end, 180 - start) if self._flip else (start, end)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """Filled polygon."""
        self._draw.polygon([self.at(point) for point in points], fill=fill)

    def blob(self, points: Sequence[Point], fill: Colour) -> None:
        """Filled closed curve through the points."""
        self.polygon(smooth(points), fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """Filled ellipse about (x, y)."""
        self._draw.ellipse(self._box(x, y, rx, ry), fill=fill)

    def chord(self, x: float, y: float, rx: float, ry: float, start: float, end: float, fill: Colour) -> None:
        """Part of an ellipse cut off by a straight line; degrees, clockwise from the right."""
        self._draw.chord(self._box(x, y, rx, ry), *self._angles(start, end), fill=fill)

    def arc(
        self, x: float, y: float, rx: float, ry: float, start: float, end: float, fill: Colour, width: float
    ) -> None:
        """Bow along an ellipse; degrees, clockwise from the right."""
        self._draw.arc(
            self._box(x, y, rx, ry), *self._angles(start, end), fill=fill, width=max(1, round(width * self._scale))
        )

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0.0) -> None:
        """Filled rectangle, its corners rounded by `radius`."""
        (ax, ay), (bx, by) = self.at((x0, y0)), self.at((x1, y1))
        box = (min(ax, bx), ay, max(ax, bx), by)
        self._draw.rounded_rectangle(box, radius * self._scale, fill=fill)

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        """Open line with rounded bends and ends."""
        pixels = [self.at(point) for point in points]
        thick = max(1, round(width * self._scale))
        self._draw.line(pixels, fill=fill, width=thick, joint="curve")
        if thick > 3:
            for x, y in (pixels[0], pixels[-1]):
                r = thick / 2 - 0.5
                self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def eye(self, x: float, y: float, r: float, ink: Colour = (35, 30, 45)) -> None:
        """White eye with a dark pupil and a glint."""
        self.oval(x, y, r, r, (255, 255, 255))
        self.oval(x + r * 0.25, y + r * 0.1, r * 0.62, r * 0.68, ink)
        self.oval(x + r * 0.05, y - r * 0.2, r * 0.22, r * 0.22, (255, 255, 255))

    def smile(self, x: float, y: float, r: float, ink: Colour = (35, 30, 45)) -> None:
        """Friendly mouth."""
        self.arc(x, y, r, r, 20, 160, ink, max(0.03, r * 0.3))


class Canvas(Pen):
    """A picture: (0, 0) is its upper left, (1, 1) its lower right corner. Drawn larger and reduced at the end."""

    def __init__(self, size: int) -> None:
        self.side = size * SUPERSAMPLE
        super().__init__(Image.new("RGB", (self.side, self.side)), (0.0, 0.0), float(self.side))

    def fill_sky(self, stops: Sequence[Colour]) -> None:
        """Cover everything by a vertical gradient."""
        self.image.paste(gradient((self.side, self.side), stops), (0, 0))

    def fill_below(self, ridge: Sequence[Point], top: Colour, bottom: Colour) -> None:
        """Land: everything below the line `ridge` (left to right), shaded from `top` to `bottom`."""
        highest = min(y for _, y in ridge)
        start = max(0, math.floor(highest * self.side))
        if start >= self.side:
            return
        height = self.side - start
        mask = Image.new("1", (self.side, height))
        outline = [(x * self.side, y * self.side - start) for x, y in ridge]
        ImageDraw.Draw(mask).polygon(
            [*outline, (self.side * ridge[-1][0], height), (self.side * ridge[0][0], height)], fill=1
        )
        self.image.paste(gradient((self.side, height), (top, bottom)), (0, start), mask)

    def veil(self, x: float, y: float, rx: float, ry: float, colour: Colour, strength: float) -> None:
        """Soft ellipse of light or shade."""
        side = 48
        spot = Image.new("L", (side, side))
        ImageDraw.Draw(spot).ellipse((12, 12, side - 13, side - 13), fill=round(255 * strength))
        spot = spot.filter(ImageFilter.GaussianBlur(5))
        left, top, right, bottom = (round(v) for v in self._box(x, y, rx * 1.6, ry * 1.6))
        spot = spot.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR)
        self.image.paste(colour, (left, top), spot)

    def finish(self) -> Image.Image:
        """The finished RGB picture at its true size."""
        return self.image.reduce(SUPERSAMPLE)
