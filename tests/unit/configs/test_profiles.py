"""Every profile names a model that OpenCLIP has, with weights that fit it, and shares its table with no other."""

from collections import Counter

import open_clip
import pytest
from open_clip.pretrained import get_pretrained_cfg

from configs.load import PROFILES, load_config
from configs.schema import AppConfig

NAMES = sorted(path.stem for path in PROFILES.glob("*.yaml"))
OF_A_HUB = [name for name in NAMES if name != "demo"]
profile = pytest.mark.parametrize("profile", OF_A_HUB)


def load(name: str) -> AppConfig:
    return load_config(name, environment={})


@profile
def test_the_model_and_its_tag_are_in_openclips_registry(profile: str) -> None:
    encoder = load(profile).encoder
    assert (encoder.model, encoder.pretrained) in open_clip.list_pretrained()


@profile
def test_architecture_and_weights_agree_on_quickgelu(profile: str) -> None:
    encoder = load(profile).encoder
    assert encoder.pretrained is not None
    weights = get_pretrained_cfg(encoder.model, encoder.pretrained)
    architecture = open_clip.get_model_config(encoder.model)
    assert bool(weights.get("quick_gelu")) == bool(architecture.get("quick_gelu"))


@profile
def test_a_batch_is_a_power_of_two_that_a_call_can_fill(profile: str) -> None:
    config = load(profile)
    for size in (config.encoder.max_batch_texts, config.encoder.max_batch_pictures):
        assert size & (size - 1) == 0
        assert 8 <= size <= config.calls.max_batch_size


def test_no_two_profiles_share_a_table_or_a_store() -> None:
    configs = [load(name) for name in NAMES]
    uses = Counter(uri for config in configs for uri in (config.table.uri, config.storage.uri))
    assert [uri for uri, count in uses.items() if count > 1] == []
