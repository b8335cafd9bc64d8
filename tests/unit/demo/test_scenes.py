"""Scenes: one spec a picture, and a split that training cannot cross."""

import itertools
import random

import pytest

from serve_app.demo.pool import family
from serve_app.demo.scenes import (
    ATTRIBUTES,
    Scene,
    Thing,
    held_out_scenes,
    is_held_out,
    sample_scene,
    training_scenes,
    variants,
)

BOAT, TREE = Thing("red", "boat"), Thing("yellow", "tree")


def test_both_ways_to_say_a_pair_are_one_spec() -> None:
    said = Scene(BOAT, 1, "beach", "day", "clear", "left of", TREE)
    turned = Scene(TREE, 1, "beach", "day", "clear", "right of", BOAT)
    assert said.spec == turned.spec
    assert is_held_out(said) == is_held_out(turned)


def test_the_seed_is_no_part_of_the_spec() -> None:
    assert Scene(BOAT, 2, "sea", "day", "snow", seed=1).spec == Scene(BOAT, 2, "sea", "day", "snow", seed=2).spec


def test_a_relation_without_another_thing_is_refused() -> None:
    with pytest.raises(ValueError, match="relation and another thing"):
        Scene(BOAT, 1, "sea", "day", "clear", relation="above")


def test_a_pair_of_the_same_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="another kind"):
        Scene(BOAT, 1, "sea", "day", "clear", "above", Thing("blue", "boat"))


def test_training_never_meets_a_held_out_scene() -> None:
    assert not any(is_held_out(scene) for scene in itertools.islice(training_scenes(3), 4000))
    assert not any(is_held_out(scene) for index in range(300) for scene in family(7, index))


def test_held_out_scenes_are_held_out_and_of_different_specs() -> None:
    scenes = held_out_scenes(1, 300)
    assert all(is_held_out(scene) for scene in scenes)
    assert len({scene.spec for scene in scenes}) == 300


def test_more_held_out_scenes_begin_with_the_fewer() -> None:
    assert held_out_scenes(1, 50)[:20] == held_out_scenes(1, 20)


def test_about_one_scene_in_twenty_is_held_out() -> None:
    rng = random.Random(0)
    share = sum(is_held_out(sample_scene(rng)) for _ in range(4000)) / 4000
    assert 0.035 < share < 0.065


def test_the_scenes_of_a_family_differ_and_come_again_the_same() -> None:
    scenes = family(7, 11)
    assert len({scene.spec for scene in scenes}) == 4
    assert family(7, 11) == scenes


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_variants_are_different_specs(attribute: str) -> None:
    rng = random.Random(attribute)
    for scene in (sample_scene(rng) for _ in range(40)):
        specs = [each.spec for each in (scene, *variants(scene, attribute))]  # type: ignore[arg-type]
        assert len(set(specs)) == len(specs)
