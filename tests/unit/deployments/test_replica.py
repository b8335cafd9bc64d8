"""What a replica sets for its process."""

import gc
from collections.abc import Iterator

import pytest

from deployments.replica import collect_garbage_seldom


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations that are looked through meanwhile, with Python's own thresholds before and after."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)


def test_a_thousand_requests_under_way_are_not_gone_through_for_garbage(collections: list[int]) -> None:
    def hold() -> list[list[int]]:
        return [[number] for number in range(20_000)]

    hold()
    usual = len(collections)
    assert usual > 10
    collect_garbage_seldom()
    hold()
    assert len(collections) - usual <= 1


def test_cyclic_garbage_is_collected_all_the_same(collections: list[int]) -> None:
    collect_garbage_seldom()
    for _ in range(60_000):
        cycle: list[object] = []
        cycle.append(cycle)
    assert collections
