import asyncio
import contextvars
from collections.abc import Sequence

import numpy as np
import pytest

from serve_app.errors import Overloaded
from serve_app.services.query_cache import MAX_KEPT_CHARACTERS, CachedTextEncoding, Tally
from serve_app.types import Embedding, EncoderCard, ItemFailure
from tests.fakes.parts import CARD, DIMENSION, OTHER_CARD, FakeTextEncoding, until


class Gate(FakeTextEncoding):
    """Encodes when it is told to; `raises` is raised instead."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.calls: list[list[str]] = []
        self.cancelled = 0
        self.raises: Exception | None = None

    async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        self.calls.append(list(texts))
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.raises:
            raise self.raises
        return await super().encode_texts(texts)


def vectors(results: Sequence[Embedding | ItemFailure]) -> list[list[float]]:
    return [each.vector.tolist() for each in results if isinstance(each, Embedding)]


async def test_a_text_is_encoded_once_however_often_it_is_asked() -> None:
    inner, hits, misses = FakeTextEncoding(), Tally(), Tally()
    cache = CachedTextEncoding(inner, max_texts=10, hits=hits, misses=misses)
    first = await cache.encode_texts(["red boat", "cat", "red boat"])
    again = await cache.encode_texts(["cat", "red boat"])
    assert inner.encoded == ["red boat", "cat"]
    assert vectors(first) == vectors(await FakeTextEncoding().encode_texts(["red boat", "cat", "red boat"]))
    assert vectors(again) == vectors([first[1], first[0]])
    assert (hits.value, misses.value) == (3, 2)


async def test_the_text_that_was_not_asked_for_longest_makes_room() -> None:
    inner = FakeTextEncoding()
    cache = CachedTextEncoding(inner, max_texts=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await cache.encode_texts([text])
    assert inner.encoded == ["a", "b", "c", "b"]


@pytest.mark.parametrize(("max_texts", "text"), [(0, "cat"), (10, "x" * (MAX_KEPT_CHARACTERS + 1))])
async def test_nothing_is_kept_of_a_long_text_or_by_a_cache_that_is_off(max_texts: int, text: str) -> None:
    inner = FakeTextEncoding()
    cache = CachedTextEncoding(inner, max_texts=max_texts)
    assert vectors(await cache.encode_texts([text])) == vectors(await cache.encode_texts([text]))
    assert inner.encoded == [text, text]


async def test_a_text_that_is_under_way_is_not_sent_again() -> None:
    inner = Gate()
    cache = CachedTextEncoding(inner, max_texts=10)
    callers = [asyncio.create_task(cache.encode_texts(texts)) for texts in (["a", "b"], ["b"], ["b", "c"])]
    await until(lambda: len(inner.calls) == 2)
    inner.go_on.set()
    results = await asyncio.gather(*callers)
    assert inner.calls == [["a", "b"], ["c"]]
    assert vectors(results[1]) == vectors(results[0])[1:] == vectors(results[2])[:1]


async def test_a_caller_who_leaves_takes_nothing_from_those_who_stay() -> None:
    inner = Gate()
    cache = CachedTextEncoding(inner, max_texts=10)
    leaves, stays = (asyncio.create_task(cache.encode_texts(["a"])) for _ in range(2))
    await until(lambda: inner.calls)
    leaves.cancel()
    await asyncio.wait([leaves])
    inner.go_on.set()
    assert len(await stays) == 1
    assert (inner.calls, inner.cancelled) == ([["a"]], 0)


async def test_a_call_that_nobody_waits_for_is_given_up_and_made_again_when_it_is_wanted() -> None:
    inner = Gate()
    cache = CachedTextEncoding(inner, max_texts=10)
    leaves = asyncio.create_task(cache.encode_texts(["a"]))
    await until(lambda: inner.calls)
    leaves.cancel()
    await asyncio.wait([leaves])
    inner.go_on.set()
    assert len(await cache.encode_texts(["a"])) == 1
    assert (inner.calls, inner.cancelled) == ([["a"], ["a"]], 1)


async def test_a_call_runs_in_no_callers_context() -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="nobody's")
    seen: list[str] = []

    class Looking(FakeTextEncoding):
        async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
            seen.append(request.get())
            return await super().encode_texts(texts)

    cache = CachedTextEncoding(Looking(), max_texts=10)
    request.set("mine")
    await cache.encode_texts(["a"])
    assert seen == ["nobody's"]


async def test_a_failure_is_told_to_all_who_wait_and_never_kept() -> None:
    inner = Gate()
    cache = CachedTextEncoding(inner, max_texts=10)
    inner.raises = Overloaded("too many")
    inner.go_on.set()
    outcomes = await asyncio.gather(*(cache.encode_texts(["a"]) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [Overloaded, Overloaded]
    inner.raises = None
    assert len(vectors(await cache.encode_texts(["a"]))) == 1


async def test_a_failed_text_is_a_value_and_is_tried_again() -> None:
    class Picky(FakeTextEncoding):
        async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
            results = await super().encode_texts(texts)
            return [
                ItemFailure("internal", "no") if text == "bad" else result
                for text, result in zip(texts, results, strict=True)
            ]

    inner = Picky()
    cache = CachedTextEncoding(inner, max_texts=10)
    for _ in range(2):
        good, bad = await cache.encode_texts(["good", "bad"])
        assert isinstance(good, Embedding)
        assert bad == ItemFailure("internal", "no")
    assert inner.encoded == ["good", "bad", "bad"]


async def test_vectors_of_two_encoders_never_come_together() -> None:
    inner = FakeTextEncoding()
    cache = CachedTextEncoding(inner, max_texts=10)
    assert await cache.describe() is CARD
    await cache.encode_texts(["a", "b"])
    inner.card = OTHER_CARD
    results = await cache.encode_texts(["a", "c"])
    assert {each.fingerprint for each in results if isinstance(each, Embedding)} == {OTHER_CARD.fingerprint}
    assert await cache.describe() is OTHER_CARD
    await cache.encode_texts(["b"])
    assert inner.encoded == ["a", "b", "c", "a", "b"]


async def test_the_card_is_asked_for_once() -> None:
    class Counting(FakeTextEncoding):
        asked = 0

        async def describe(self) -> EncoderCard:
            self.asked += 1
            return await super().describe()

    inner = Counting()
    cache = CachedTextEncoding(inner, max_texts=0)
    await cache.describe()
    await cache.encode_texts(["a"])
    await cache.describe()
    assert inner.asked == 1


async def test_what_is_kept_holds_no_batch_in_memory_and_cannot_be_written_to() -> None:
    class Views(FakeTextEncoding):
        async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
            batch = np.ones((len(texts), DIMENSION), np.float32)
            return [Embedding(row, CARD.fingerprint) for row in batch]

    (embedding,) = await CachedTextEncoding(Views(), max_texts=1).encode_texts(["a"])
    assert isinstance(embedding, Embedding)
    assert embedding.vector.base is None
    assert not embedding.vector.flags.writeable
