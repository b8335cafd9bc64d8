"""The picture-book's colours: tones of each thing's colour, and the light of each hour. Knows no shapes."""

from dataclasses import dataclass

from serve_app.demo.drawing.canvas import Colour, mix
from serve_app.demo.scenes import Time, Weather

BASES: dict[str, Colour] = {
    "red": (222, 40, 44),
    "orange": (250, 138, 20),
    "yellow": (252, 214, 36),
    "green": (46, 160, 62),
    "blue": (36, 96, 214),
    "purple": (134, 58, 176),
    "pink": (252, 140, 190),
    "brown": (122, 72, 36),
    "black": (44, 44, 54),
    "white": (248, 248, 246),
}


@dataclass(frozen=True, slots=True)
class Tones:
    """One colour as base, lit side, shaded side and outline."""

    base: Colour
    light: Colour
    dark: Colour
    ink: Colour


def _tones(name: str) -> Tones:
    base = BASES[name]
    if name == "white":
        return Tones(base, (255, 255, 255), (212, 216, 228), (92, 96, 120))
    if name == "black":
        return Tones(base, (92, 92, 108), (24, 24, 32), (10, 10, 16))
    return Tones(base, mix(base, (255, 255, 255), 0.38), mix(base, (20, 0, 40), 0.26), mix(base, (20, 8, 30), 0.72))


TONES: dict[str, Tones] = {name: _tones(name) for name in BASES}

SKIES: dict[tuple[Time, bool], tuple[Colour, ...]] = {
    ("day", False): ((84, 172, 240), (150, 212, 248), (226, 244, 250)),
    ("day", True): ((116, 136, 160), (160, 176, 192), (204, 212, 218)),
    ("sunset", False): ((122, 84, 168), (246, 122, 102), (255, 208, 128)),
    ("sunset", True): ((104, 84, 132), (204, 118, 112), (236, 182, 138)),
    ("night", False): ((10, 14, 52), (28, 36, 92), (62, 66, 132)),
    ("night", True): ((22, 25, 52), (42, 47, 82), (72, 77, 112)),
}

_LIGHTS: dict[Time, tuple[Colour, float]] = {
    "day": ((255, 255, 255), 0.0),
    "sunset": ((206, 84, 96), 0.28),
    "night": ((22, 30, 96), 0.52),
}


@dataclass(frozen=True, slots=True)
class Light:
    """How an hour and a weather colour the scenery (never the things themselves, whose colour has to stay legible)."""

    time: Time
    weather: Weather

    @property
    def overcast(self) -> bool:
        """Whether the sky is covered."""
        return self.weather in ("rain", "snow")

    @property
    def sky(self) -> tuple[Colour, ...]:
        """The sky's gradient from the top to the horizon."""
        return SKIES[self.time, self.overcast]

    def on(self, colour: Colour) -> Colour:
        """The colour of scenery in this light."""
        tint, share = _LIGHTS[self.time]
        lit = mix(colour, tint, share)
        return mix(lit, (124, 134, 150) if self.time == "day" else (78, 78, 108), 0.16) if self.overcast else lit
