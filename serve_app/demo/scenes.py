"""Scenes of the picture-book: what is in a picture, as a plain value. Knows nothing of pixels, words or models.

A scene is a *group* (one to four equal things) or a *pair* (one thing left of, right of, above or below another), in a
place, at a time, in a weather. Its `spec` is everything but the seed of the drawing; scenes are split by the spec's hash,
so that a scene held out for measuring never occurs in training, whatever seeds and run lengths are chosen.
"""

# ruff: noqa: S311 - lots are drawn here, no secrets made

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

Relation = Literal["left of", "right of", "above", "below"]
Place = Literal["meadow", "beach", "desert", "city", "forest", "mountains", "sea", "arctic"]
Time = Literal["day", "sunset", "night"]
Weather = Literal["clear", "rain", "snow", "rainbow"]
Attribute = Literal["object", "colour", "count", "relation", "place", "time", "weather"]

KINDS = (
    "apple", "ball", "balloon", "bell", "bird", "boat", "book", "butterfly", "car", "cat", "crown", "cup", "fish",
    "flower", "hat", "heart", "house", "key", "kite", "mushroom", "rabbit", "rocket", "star", "tree", "turtle", "umbrella",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
COUNTS = (1, 2, 3, 4)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
PLACES: tuple[Place, ...] = get_args(Place)
TIMES: tuple[Time, ...] = get_args(Time)
WEATHERS: tuple[Weather, ...] = get_args(Weather)
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)

OPPOSITE: dict[Relation, Relation] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

HELD_OUT_ONE_IN = 20
_PAIR_SHARE = 0.5


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """One coloured object, such as a red boat."""

    colour: str
    kind: str

    def __str__(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True, slots=True)
class Scene:
    """What one picture shows. `other` and `relation` are both given (a pair, `count` is 1) or both None (a group).

    `seed` varies the drawing only: positions, sizes, clouds, trees in the distance.
    """

    thing: Thing
    count: int
    place: Place
    time: Time
    weather: Weather
    relation: Relation | None = None
    other: Thing | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.relation is None) != (self.other is None):
            raise ValueError("a scene has a relation and another thing, or neither")
        if self.other is not None and (self.count != 1 or self.other.kind == self.thing.kind):
            raise ValueError("a pair is one thing beside one thing of another kind")

    @property
    def spec(self) -> str:
        """All of the scene but its seed. Two ways to say the same picture (A left of B, B right of A) give one spec."""
        where = f"{self.place} | {self.time} | {self.weather}"
        if self.relation is None or self.other is None:
            return f"{self.count} {self.thing} | {where}"
        if self.relation in ("left of", "above"):
            return f"{self.thing} {self.relation} {self.other} | {where}"
        return f"{self.other} {OPPOSITE[self.relation]} {self.thing} | {where}"

    @property
    def things(self) -> tuple[Thing, ...]:
        """The different things in the picture: one of a group, two of a pair."""
        return (self.thing,) if self.other is None else (self.thing, self.other)


def is_held_out(scene: Scene) -> bool:
    """Whether the scene is kept for measuring (one spec in twenty, by SHA-256 of the spec)."""
    return int(hashlib.sha256(scene.spec.encode()).hexdigest()[:12], 16) % HELD_OUT_ONE_IN == 0


def sample_scene(rng: random.Random) -> Scene:
    """Any scene, of either split."""
    thing = Thing(rng.choice(COLOURS), rng.choice(KINDS))
    count, relation, other = rng.choice(COUNTS), None, None
    if rng.random() < _PAIR_SHARE:
        kind = rng.choice([kind for kind in KINDS if kind != thing.kind])
        count, relation, other = 1, rng.choice(RELATIONS), Thing(rng.choice(COLOURS), kind)
    return Scene(
        thing=thing,
        count=count,
        place=rng.choice(PLACES),
        time=rng.choice(TIMES),
        weather=rng.choice(WEATHERS),
        relation=relation,
        other=other,
        seed=rng.getrandbits(32),
    )


def training_scenes(seed: int) -> Iterator[Scene]:
    """Scenes without end, none of them held out. Specs may come again, drawn differently."""
    rng = random.Random(f"training {seed}")
    while True:
        scene = sample_scene(rng)
        if not is_held_out(scene):
            yield scene


def held_out_scenes(seed: int, count: int) -> tuple[Scene, ...]:
    """`count` held-out scenes of pairwise different specs."""
    rng = random.Random(f"held out {seed}")
    found: dict[str, Scene] = {}
    while len(found) < count:
        scene = sample_scene(rng)
        if is_held_out(scene):
            found.setdefault(scene.spec, scene)
    return tuple(found.values())


def variants(scene: Scene, attribute: Attribute) -> tuple[Scene, ...]:
    """All scenes that differ from this one in that attribute only (of one thing, for object and colour).

    Empty where the scene has no such attribute: a pair has no count, a group no relation.
    """
    if attribute == "place":
        return tuple(replace(scene, place=place) for place in PLACES if place != scene.place)
    if attribute == "time":
        return tuple(replace(scene, time=time) for time in TIMES if time != scene.time)
    if attribute == "weather":
        return tuple(replace(scene, weather=weather) for weather in WEATHERS if weather != scene.weather)
    if attribute == "count":
        counts = COUNTS if scene.other is None else ()
        return tuple(replace(scene, count=count) for count in counts if count != scene.count)
    if attribute == "relation":
        relations = RELATIONS if scene.other is not None else ()
        return tuple(replace(scene, relation=relation) for relation in relations if relation != scene.relation)
    return _thing_variants(scene, attribute)


def _thing_variants(scene: Scene, attribute: Attribute) -> tuple[Scene, ...]:
    def changed(thing: Thing) -> list[Thing]:
        if attribute == "colour":
            return [replace(thing, colour=colour) for colour in COLOURS if colour != thing.colour]
        return [replace(thing, kind=kind) for kind in KINDS if kind not in {each.kind for each in scene.things}]

    found = [replace(scene, thing=thing) for thing in changed(scene.thing)]
    if scene.other is not None:
        found += [replace(scene, other=thing) for thing in changed(scene.other)]
    return tuple(found)
