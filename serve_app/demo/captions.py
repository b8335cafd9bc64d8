"""Captions of scenes in many wordings, and which scenes a wording fits. Knows no pixels and no models.

A caption carries its *facts*: what it claims, in words of the scene and not of the sentence. It fits every scene that has
all of them, so "a red boat" fits many pictures and a complete caption exactly one spec.
"""

# ruff: noqa: S311 - lots are drawn here, no secrets made

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serve_app.demo.scenes import ATTRIBUTES, OPPOSITE, Attribute, Relation, Scene, Thing, variants

Detail = Literal["complete", "partial", "short"]

_NAMES: dict[str, tuple[str, ...]] = {
    "bird": ("bird", "little bird"),
    "boat": ("boat", "sailboat", "ship", "sailing boat"),
    "car": ("car", "automobile"),
    "cat": ("cat", "kitten", "kitty"),
    "cup": ("cup", "mug", "coffee cup"),
    "flower": ("flower", "blossom"),
    "hat": ("hat", "top hat"),
    "house": ("house", "cottage", "home"),
    "mushroom": ("mushroom", "toadstool"),
    "rabbit": ("rabbit", "bunny", "hare"),
    "rocket": ("rocket", "spaceship"),
    "turtle": ("turtle", "tortoise"),
    "umbrella": ("umbrella", "parasol"),
}
_PLURALS = {"fish": "fish", "butterfly": "butterflies", "bunny": "bunnies", "kitty": "kitties"}
_COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "bright red", "crimson", "scarlet"),
    "green": ("green", "emerald green"),
    "blue": ("blue", "bright blue"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy pink"),
    "brown": ("brown", "chocolate brown"),
    "black": ("black", "jet black"),
    "white": ("white", "snow-white"),
}
_NUMBERS: dict[int, tuple[str, ...]] = {
    1: ("one", "a", "a single", "just one", "1"),
    2: ("two", "2", "a pair of"),
    3: ("three", "3", "a group of three"),
    4: ("four", "4", "a group of four"),
}
_RELATIONS: dict[Relation, tuple[str, ...]] = {
    "left of": ("to the left of", "left of", "on the left of", "on the left side of"),
    "right of": ("to the right of", "right of", "on the right of", "on the right side of"),
    "above": ("above", "over", "hanging above", "higher up than"),
    "below": ("below", "under", "beneath", "underneath"),
}
_SIDES: dict[Relation, tuple[tuple[str, str], ...]] = {
    "left of": (("on the left", "on the right"), ("left", "right")),
    "right of": (("on the right", "on the left"), ("right", "left")),
    "above": (("at the top", "at the bottom"), ("up in the air", "on the ground below")),
    "below": (("at the bottom", "at the top"), ("on the ground", "up in the air above")),
}
_PLACES: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on a meadow", "in a green field", "on the grass", "in a grassy meadow"),
    "beach": ("on the beach", "at the beach", "on a sandy beach", "at the seaside", "on the shore"),
    "desert": ("in the desert", "in a desert", "among the dunes", "among cacti", "in the sandy desert"),
    "city": ("in the city", "in a city", "in town", "on a city street", "in front of the skyline", "downtown"),
    "forest": ("in the forest", "in a forest", "in the woods", "among pine trees", "in the pine forest"),
    "mountains": ("in the mountains", "in front of the mountains", "in the alps", "among high peaks"),
    "sea": ("at sea", "on the sea", "on the ocean", "out on the water", "on the waves"),
    "arctic": ("in the arctic", "at the north pole", "on the ice", "among icebergs", "in the polar ice"),
}
_TIMES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "during the day", "in the daytime", "in daylight"),
    "sunset": ("at sunset", "at dusk", "in the evening", "in the evening light"),
    "night": ("at night", "by night", "in the dark", "at nighttime"),
}
_WEATHERS: dict[str, tuple[str, ...]] = {
    "clear": ("in clear weather", "under a clear sky", "in fine weather", "in dry weather"),
    "rain": ("in the rain", "in rainy weather", "while it rains", "in pouring rain"),
    "snow": ("in the snow", "in falling snow", "while it snows", "in snowy weather"),
    "rainbow": ("under a rainbow", "with a rainbow", "beneath a rainbow", "with a rainbow in the sky"),
}
_JOINT = {"day": ("day",), "sunset": ("evening", "sunset"), "night": ("night",)}
_JOINT_WEATHER = {"clear": ("clear", "fine"), "rain": ("rainy", "wet"), "snow": ("snowy",), "rainbow": ("rainbow",)}
_OPENINGS = (
    "a picture of",
    "a drawing of",
    "an illustration of",
    "show me",
    "there is",
    "find",
    "a picture-book page with",
)


@dataclass(frozen=True, slots=True)
class Caption:
    """A wording and what it claims."""

    text: str
    facts: frozenset[str]

    def fits(self, scene: Scene) -> bool:
        """Whether everything the caption says is true of the scene."""
        return self.facts <= scene_facts(scene)


def scene_facts(scene: Scene) -> frozenset[str]:
    """Everything that captions may truly say of the scene."""
    facts = {f"place {scene.place}", f"time {scene.time}", f"weather {scene.weather}"}
    for thing in scene.things:
        facts |= {thing.kind, str(thing)}
    if scene.other is None or scene.relation is None:
        for name in (scene.thing.kind, str(scene.thing)):
            facts |= {f"{scene.count} {name}"} | ({f"several {name}"} if scene.count > 1 else set())
        return frozenset(facts)
    for first, second in ((str(scene.thing), str(scene.other)), (scene.thing.kind, scene.other.kind)):
        facts.add(_relation_fact(first, scene.relation, second))
        if scene.relation in ("left of", "right of"):
            facts.add(_beside_fact(first, second))
    return frozenset(facts)


def _relation_fact(first: str, relation: Relation, second: str) -> str:
    if relation in ("left of", "above"):
        return f"{first} {relation} {second}"
    return f"{second} {OPPOSITE[relation]} {first}"


def _beside_fact(first: str, second: str) -> str:
    return " beside ".join(sorted((first, second)))


class _Voice:
    """Chooses among wordings; without a generator always the first, plainest one."""

    def __init__(self, rng: random.Random | None) -> None:
        self._rng = rng

    def pick(self, options: Sequence[str], plain: float = 0.0) -> str:
        """One of the options: the first with probability `plain`, else any."""
        if self._rng is None or (plain and self._rng.random() < plain):
            return options[0]
        return options[int(self._rng.random() * len(options))]

    def chance(self, probability: float) -> bool:
        """True with this probability; never without a generator."""
        return self._rng is not None and self._rng.random() < probability

    def shuffled(self, parts: list[str]) -> list[str]:
        """The parts in any order."""
        if self._rng is not None:
            self._rng.shuffle(parts)
        return parts


def complete_caption(scene: Scene, rng: random.Random | None = None) -> Caption:
    """A caption that names every attribute and so fits this spec only; in the plainest words without `rng`."""
    return _caption(scene, "complete", _Voice(rng))


def caption(scene: Scene, rng: random.Random) -> Caption:
    """A caption as people may type it: mostly complete, else partial or very short."""
    roll = rng.random()
    return _caption(scene, "complete" if roll < 0.6 else "partial" if roll < 0.82 else "short", _Voice(rng))


def short_caption(scene: Scene, rng: random.Random) -> Caption:
    """A few words that fit the scene, and others too: "red boats", "three cups", "boats in the snow"."""
    return _caption(scene, "short", _Voice(rng))


def choices(scene: Scene, attribute: Attribute, seed: int = 0) -> list[Caption]:
    """The scene's complete caption, then those of all variants in that attribute, alike in wording.

    Empty where the scene lacks the attribute.
    """
    found = variants(scene, attribute)
    if not found:
        return []
    return [complete_caption(each, random.Random(f"choices {seed} {scene.spec}")) for each in (scene, *found)]


def attribute_choices(scene: Scene, seed: int = 0) -> dict[Attribute, list[Caption]]:
    """`choices` of every attribute that the scene has."""
    return {attribute: found for attribute in ATTRIBUTES if (found := choices(scene, attribute, seed))}


def _caption(scene: Scene, detail: Detail, voice: _Voice) -> Caption:
    facts: set[str] = set()
    if detail == "short" and voice.chance(0.08):
        text = " ".join(_circumstances(scene, detail, voice, facts)) or scene.place
        return Caption(text, frozenset(facts or {f"place {scene.place}"}))
    body = _group(scene, detail, voice, facts) if scene.other is None else _pair(scene, detail, voice, facts)
    around = _circumstances(scene, detail, voice, facts)
    if around and voice.chance(0.18):
        first = around.pop(0)
        text = " ".join([f"{first},", body, *around])
    else:
        text = " ".join([body, *around])
        if voice.chance(0.2):
            text = f"{voice.pick(_OPENINGS)} {text}"
    return Caption(text, frozenset(facts))


def _circumstances(scene: Scene, detail: Detail, voice: _Voice, facts: set[str]) -> list[str]:
    """Phrases for place, time and weather, in some order; what they say is added to `facts`."""
    keep = {"complete": 1.0, "partial": 0.5, "short": 0.2}[detail]
    place, time, weather = (keep == 1.0 or voice.chance(keep) for _ in range(3))
    parts: list[str] = []
    if place:
        facts.add(f"place {scene.place}")
        parts.append(voice.pick(_PLACES[scene.place], plain=0.35))
    if time and weather and voice.chance(0.3):
        joint = f"{voice.pick(_JOINT_WEATHER[scene.weather], plain=0.5)} {voice.pick(_JOINT[scene.time], plain=0.6)}"
        facts |= {f"time {scene.time}", f"weather {scene.weather}"}
        return voice.shuffled([*parts, f"on a {joint}"])
    if time:
        facts.add(f"time {scene.time}")
        parts.append(voice.pick(_TIMES[scene.time], plain=0.35))
    if weather:
        facts.add(f"weather {scene.weather}")
        parts.append(voice.pick(_WEATHERS[scene.weather], plain=0.35))
    return voice.shuffled(parts) if voice.chance(0.6) else parts


def _name(thing: Thing, voice: _Voice, plural: bool, coloured: bool) -> str:
    noun = voice.pick(_NAMES.get(thing.kind, (thing.kind,)), plain=0.55)
    if plural:
        noun = _PLURALS.get(noun, f"{noun}s")
    return f"{voice.pick(_COLOURS.get(thing.colour, (thing.colour,)), plain=0.8)} {noun}" if coloured else noun


def _article(name: str, voice: _Voice) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if not voice.chance(0.1) else f"the {name}"


def _group(scene: Scene, detail: Detail, voice: _Voice, facts: set[str]) -> str:
    thing, count = scene.thing, scene.count
    coloured = detail != "short" or not voice.chance(0.35)
    counted = detail != "short" or voice.chance(0.45)
    said = str(thing) if coloured else thing.kind
    facts |= {thing.kind, said}
    if not counted:
        several = count > 1 and voice.chance(0.8)
        if several:
            facts.add(f"several {said}")
        name = _name(thing, voice, plural=several, coloured=coloured)
        return name if several or voice.chance(0.4) else _article(name, voice)
    facts |= {f"{count} {said}", f"{count} {thing.kind}"}
    number = voice.pick(_NUMBERS[count], plain=0.5)
    if coloured and voice.chance(0.05):
        return f"{_numbered(number, _name(thing, voice, count > 1, coloured=False))}, {'all ' * (count > 1)}{thing.colour},"
    return _numbered(number, _name(thing, voice, count > 1, coloured))


def _numbered(number: str, name: str) -> str:
    return f"an {name}" if number == "a" and name[0] in "aeiou" else f"{number} {name}"


def _pair(scene: Scene, detail: Detail, voice: _Voice, facts: set[str]) -> str:
    first, second, relation = scene.thing, scene.other, scene.relation
    if second is None or relation is None:
        raise ValueError("a group has no relation to tell of")
    if voice.chance(0.5):
        first, second, relation = second, first, OPPOSITE[relation]
    coloured = detail != "short" or not voice.chance(0.3)
    if detail == "short" and voice.chance(0.5):
        facts |= {first.kind} | ({str(first)} if coloured else set())
        name = _name(first, voice, plural=False, coloured=coloured)
        return name if voice.chance(0.4) else _article(name, voice)
    said = [str(thing) if coloured else thing.kind for thing in (first, second)]
    facts |= {first.kind, second.kind, *said}
    a, b = (_article(_name(thing, voice, plural=False, coloured=coloured), voice) for thing in (first, second))
    if detail != "complete" and voice.chance(0.3):
        if relation in ("left of", "right of") and voice.chance(0.6):
            facts.add(_beside_fact(*said))
            return f"{a} {voice.pick(('next to', 'beside'))} {b}"
        return f"{a} and {b}"
    facts |= {_relation_fact(said[0], relation, said[1]), _relation_fact(first.kind, relation, second.kind)}
    if voice.chance(0.2):
        one, two = _SIDES[relation][1 if voice.chance(0.3) else 0]
        return f"{a} {one} and {b} {two}"
    return f"{a} {voice.pick(_RELATIONS[relation], plain=0.4)} {b}"
