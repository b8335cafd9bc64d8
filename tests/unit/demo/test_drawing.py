"""Drawing: the same value gives the same pixels, and different scenes different ones."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from serve_app.demo.drawing import draw
from serve_app.demo.drawing.things import arrange
from serve_app.demo.scenes import COLOURS, KINDS, PLACES, TIMES, WEATHERS, Scene, Thing, held_out_scenes, variants

from serve_app.demo.scenes import ATTRIBUTES, Attribute  # isort: skip

SCENE = Scene(Thing("red", "cat"), 3, "forest", "sunset", "snow", seed=5)


def pixel_hash(scene: Scene, size: int = 96) -> str:
    return hashlib.sha256(draw(scene, size).tobytes()).hexdigest()


def test_a_scene_is_drawn_alike_twice() -> None:
    assert pixel_hash(SCENE) == pixel_hash(SCENE)


def test_a_scene_is_drawn_alike_in_another_process() -> None:
    code = (
        "import hashlib; from serve_app.demo.drawing import draw; from serve_app.demo.scenes import Scene, Thing\n"
        "scene = Scene(Thing('red', 'cat'), 3, 'forest', 'sunset', 'snow', seed=5)\n"
        "print(hashlib.sha256(draw(scene, 96).tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == pixel_hash(SCENE)


def test_another_seed_is_another_drawing() -> None:
    assert pixel_hash(SCENE) != pixel_hash(Scene(SCENE.thing, 3, "forest", "sunset", "snow", seed=6))


def test_a_picture_has_the_size_asked_for() -> None:
    picture = draw(SCENE, 200)
    assert (picture.size, picture.mode) == ((200, 200), "RGB")


def test_the_same_scene_at_another_size_looks_alike() -> None:
    small, large = (np.asarray(draw(SCENE, size).resize((64, 64)), dtype=np.float32) for size in (128, 256))
    assert np.abs(small - large).mean() < 6


def test_every_kind_in_every_colour_is_a_picture_of_its_own() -> None:
    hashes = {
        pixel_hash(Scene(Thing(colour, kind), 1, "meadow", "day", "clear"), 48) for colour in COLOURS for kind in KINDS
    }
    assert len(hashes) == len(COLOURS) * len(KINDS)


def test_every_place_at_every_hour_in_every_weather_is_a_picture_of_its_own() -> None:
    thing = Thing("blue", "ball")
    scenes = [Scene(thing, 1, place, time, weather) for place in PLACES for time in TIMES for weather in WEATHERS]
    assert len({pixel_hash(scene, 48) for scene in scenes}) == len(scenes)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_change_of_one_attribute_is_seen_at_the_models_size(attribute: Attribute) -> None:
    for scene in held_out_scenes(4, 12):
        here = np.asarray(draw(scene, 64), dtype=np.int16)
        for other in variants(scene, attribute)[:4]:
            assert (np.abs(here - np.asarray(draw(other, 64))).max(axis=2) > 40).sum() > 30


def test_members_of_a_group_do_not_overlap() -> None:
    import random

    for count in (2, 3, 4):
        for seed in range(200):
            placed = arrange(Scene(SCENE.thing, count, "sea", "day", "clear"), random.Random(seed))
            assert len(placed) == count
            for i, a in enumerate(placed):
                for b in placed[:i]:
                    assert max(abs(a.x - b.x), abs(a.y - b.y)) >= (a.r + b.r) * 0.95


def test_relations_are_far_from_ambiguous() -> None:
    import random

    tree = Thing("green", "tree")
    for seed in range(200):
        left, right = arrange(Scene(SCENE.thing, 1, "sea", "day", "clear", "left of", tree), random.Random(seed))
        assert (left.thing, right.thing) == (SCENE.thing, tree)
        assert right.x - left.x > 0.4 > 0.05 > abs(right.y - left.y)
        low, high = reversed(arrange(Scene(SCENE.thing, 1, "sea", "day", "clear", "below", tree), random.Random(seed)))
        assert (low.thing, high.thing) == (SCENE.thing, tree)
        assert low.y - high.y > 0.45 > 0.1 > abs(low.x - high.x)
