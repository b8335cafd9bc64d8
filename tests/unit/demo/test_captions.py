"""Captions: many wordings, true of their scene; complete ones true of no other."""

import random

import pytest

from serve_app.demo.captions import attribute_choices, caption, complete_caption, short_caption
from serve_app.demo.scenes import ATTRIBUTES, Scene, Thing, sample_scene

RNG_SCENES = [sample_scene(random.Random(seed)) for seed in range(200)]


def test_the_plain_caption_names_every_attribute_of_a_group() -> None:
    scene = Scene(Thing("red", "boat"), 2, "beach", "night", "rain")
    assert complete_caption(scene).text == "two red boats on the beach at night in the rain"


def test_the_plain_caption_names_every_attribute_of_a_pair() -> None:
    scene = Scene(Thing("orange", "apple"), 1, "meadow", "day", "clear", "left of", Thing("blue", "car"))
    expected = "an orange apple to the left of a blue car in a meadow by day in clear weather"
    assert complete_caption(scene).text == expected


@pytest.mark.parametrize("write", [caption, complete_caption, short_caption])
def test_what_a_caption_says_is_true(write: object) -> None:
    for seed, scene in enumerate(RNG_SCENES):
        assert write(scene, random.Random(seed)).fits(scene)  # type: ignore[operator]


def test_a_complete_caption_fits_no_variant_of_its_scene() -> None:
    for scene in RNG_SCENES:
        for attribute, captions in attribute_choices(scene).items():
            assert captions[0].fits(scene)
            assert not any(other.fits(scene) for other in captions[1:]), attribute
            assert len({each.text for each in captions}) == len(captions)


def test_a_scene_is_asked_about_the_attributes_it_has() -> None:
    group = Scene(Thing("red", "boat"), 2, "beach", "night", "rain")
    assert set(attribute_choices(group)) == set(ATTRIBUTES) - {"relation"}
    pair = Scene(Thing("red", "boat"), 1, "beach", "night", "rain", "above", Thing("blue", "car"))
    assert set(attribute_choices(pair)) == set(ATTRIBUTES) - {"count"}


def test_the_same_seed_gives_the_same_wording() -> None:
    for scene in RNG_SCENES[:50]:
        assert caption(scene, random.Random(5)) == caption(scene, random.Random(5))


def test_wordings_vary() -> None:
    scene = RNG_SCENES[0]
    assert len({complete_caption(scene, random.Random(seed)).text for seed in range(100)}) > 60


def test_a_short_caption_may_fit_other_scenes() -> None:
    fitting = [sum(short_caption(scene, random.Random(1)).fits(other) for other in RNG_SCENES) for scene in RNG_SCENES]
    assert max(fitting) > 1
