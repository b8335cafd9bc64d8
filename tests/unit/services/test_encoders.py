"""Two sets of encoders, and a table in service that goes over from one to the other while requests are under way."""

from collections.abc import Sequence

import pytest

from serve_app.core.failures import failure_of
from serve_app.errors import FingerprintMismatch, StaleTable, StorageUnavailable
from serve_app.services import encoders as module
from serve_app.services.encoders import EncoderSet, EncodersInService, FollowingTexts, OneSet, across_switches
from serve_app.types import EncoderCard, ItemFailure, TableInfo
from tests.fakes.parts import CARD, OTHER_CARD, FakePictureWork, FakeTextEncoding

OLD, NEW = CARD.fingerprint, OTHER_CARD.fingerprint


def set_of(card: EncoderCard) -> EncoderSet:
    texts = FakeTextEncoding(card)
    return EncoderSet(texts, texts, FakePictureWork(card))


class World:
    """A service at home in the old encoder. `beside`: the other sets that run. `served`: whose table is in service."""

    def __init__(self) -> None:
        self.served: str | None = OLD
        self.beside: dict[str, EncoderSet] = {}
        self.looks = 0
        self.encoders = EncodersInService(set_of(CARD), self._table, self._find, look_every_s=3600)

    async def _table(self) -> TableInfo:
        self.looks += 1
        if self.served == "broken":
            raise StorageUnavailable("out of breath")
        return TableInfo("memory://", 1, {}, self.served, None, None, calibration_version=0)

    async def _find(self, fingerprint: str) -> EncoderSet | None:
        return self.beside.get(fingerprint)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.0,) * 4)


async def encode(world: World, items: Sequence[str]) -> list[str | ItemFailure]:
    """What a writer does: the table takes its own encoder's vectors and refuses all others."""

    async def work(some: Sequence[str]) -> list[str | ItemFailure]:
        fingerprint = (await FollowingTexts(world.encoders, asked=False).describe()).fingerprint
        refused = failure_of(FingerprintMismatch("of another encoder"))
        return [f"{each} by {fingerprint[0]}" if fingerprint == world.served else refused for each in some]

    return await across_switches(world.encoders, items, work)


async def test_what_a_switch_refuses_is_done_again_by_the_new_encoders() -> None:
    world = World()
    world.beside[NEW] = set_of(OTHER_CARD)
    assert await encode(world, ["a"]) == ["a by f"]
    world.served = NEW
    assert await encode(world, ["a", "b"]) == ["a by e", "b by e"]
    world.served = OLD
    assert await encode(world, ["a"]) == ["a by f"]


async def test_without_encoders_for_the_table_the_refusal_stands_at_once() -> None:
    world = World()
    world.served = NEW
    (failure,) = await encode(world, ["a"])
    assert isinstance(failure, ItemFailure)
    assert failure.code == FingerprintMismatch.code
    # One look by the background, one by the refusal.
    assert world.looks <= 2


async def test_only_what_failed_is_done_again() -> None:
    world, done = World(), list[Sequence[str]]()

    async def work(items: Sequence[str]) -> list[str | ItemFailure]:
        done.append(items)
        refused = failure_of(FingerprintMismatch("of another encoder"))
        return [refused if each == "b" and len(done) == 1 else each for each in items]

    assert await across_switches(world.encoders, ["a", "b", "c"], work) == ["a", "b", "c"]
    assert done == [["a", "b", "c"], ["b"]]


async def test_a_stale_table_is_asked_again_only_where_the_encoders_have_changed() -> None:
    world, tries = World(), 0

    async def work(items: Sequence[str]) -> list[str | ItemFailure]:
        nonlocal tries
        tries += 1
        return [failure_of(StaleTable("too new"))] * len(items)

    await across_switches(world.encoders, ["a"], work)
    assert tries == 1
    world.beside[NEW], world.served = set_of(OTHER_CARD), NEW
    await across_switches(world.encoders, ["a"], work)
    assert tries == 3


async def test_a_look_that_fails_changes_nothing() -> None:
    world = World()
    world.served = "broken"
    assert not await world.encoders.look()
    assert world.encoders.present is world.encoders.home


async def test_one_set_never_changes() -> None:
    tries = 0

    async def work(items: Sequence[str]) -> list[str | ItemFailure]:
        nonlocal tries
        tries += 1
        return [failure_of(FingerprintMismatch("of another encoder"))] * len(items)

    await across_switches(OneSet(), ["a"], work)
    assert tries == 1
