"""Remembers the vectors of texts that are asked again and again. Knows neither models nor who asks.

A port around a port. It keeps short texts only, the latest used; identical texts that are under way travel once; failures are
never kept. For queries and labels, which repeat. Documents do not: a store of many would only push the queries out.
"""

import asyncio
import contextvars
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from serve_app.core.together import together
from serve_app.ports import TextEncoding
from serve_app.types import Embedding, EncoderCard, ItemFailure

MAX_KEPT_CHARACTERS = 1_000
"""A longer text is no query that people repeat; with the count of texts this bounds the memory of the keys."""


class Count(Protocol):
    """A number that only grows; a metric of the runtime is one too."""

    def inc(self, value: float) -> None: ...


class Tally:
    """A Count in memory."""

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, value: float) -> None:
        self.value += value


Results: TypeAlias = dict[str, Embedding | ItemFailure]


@dataclass(slots=True, eq=False)
class _Flight:
    """One call for texts that nobody had, and how many callers wait for it."""

    texts: Sequence[str]
    task: asyncio.Task[Results]
    waiting: int = 0


class CachedTextEncoding:
    """ports.TextEncoding around another. Belongs to one event loop.

    `max_texts`: texts whose vectors are kept; 0 keeps none. `hits` counts texts that cost no encoding, `misses` those that
    did. When an embedding of another fingerprint comes back, all older ones and the card are dropped: until then, a text that
    is kept is answered by the encoder that was there before.
    """

    def __init__(self, inner: TextEncoding, *, max_texts: int, hits: Count | None = None, misses: Count | None = None):
        self._inner = inner
        self._max_texts = max_texts
        self._hits = hits or Tally()
        self._misses = misses or Tally()
        self._kept: OrderedDict[str, Embedding] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._fingerprint: str | None = None
        self._card: EncoderCard | None = None
        # A flight belongs to no one caller: in the context of one, Ray would cancel it for all when that one gives up.
        self._context = contextvars.copy_context()

    async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        """An embedding or a failure for each text; the vectors are read-only. Raises what the inner encoding raises."""
        found = {text: self._kept[text] for text in texts if text in self._kept}
        for text in found:
            self._kept.move_to_end(text)
        results: Results = {**found, **await self._fly(texts)}
        if len({each.fingerprint for each in results.values() if isinstance(each, Embedding)}) > 1:
            # The encoder changed between the kept ones and the fresh ones; only vectors of one encoder go together.
            results.update(await self._fly(list(found)))
        return [results[text] for text in texts]

    async def describe(self) -> EncoderCard:
        """The inner encoder's card, asked for once as long as its fingerprint lasts."""
        if self._card is None:
            card = await self._inner.describe()
            self._notice(card.fingerprint)
            self._card = card
        return self._card

    async def _fly(self, texts: Sequence[str]) -> Results:
        """The results of those texts that are not kept: some are under way already, the others travel as one call."""
        wanted = [text for text in dict.fromkeys(texts) if text not in self._kept]
        new = [text for text in wanted if text not in self._flights]
        _count(self._hits, len(texts) - len(new))
        _count(self._misses, len(new))
        if not wanted:
            return {}
        if new:
            loop = asyncio.get_running_loop()
            flight = _Flight(new, loop.create_task(self._encode(new), context=self._context))
            self._flights.update(dict.fromkeys(new, flight))
        flights = {self._flights[text] for text in wanted}
        for flight in flights:
            flight.waiting += 1
        try:
            # Shielded: a caller who leaves must not take the call from those who stay.
            landed = await together(*(asyncio.shield(flight.task) for flight in flights))
        finally:
            for flight in flights:
                self._leave(flight)
        results = {text: result for each in landed for text, result in each.items()}
        return {text: results[text] for text in wanted}

    def _leave(self, flight: _Flight) -> None:
        flight.waiting -= 1
        if flight.waiting == 0:
            flight.task.cancel()  # does nothing to one that is done
            for text in flight.texts:
                del self._flights[text]

    async def _encode(self, texts: Sequence[str]) -> Results:
        results = await self._inner.encode_texts(texts)
        return {
            text: self._keep(text, result) if isinstance(result, Embedding) else result
            for text, result in zip(texts, results, strict=True)
        }

    def _keep(self, text: str, embedding: Embedding) -> Embedding:
        self._notice(embedding.fingerprint)
        # A copy: a view would keep the memory of the whole batch that it came with.
        vector = embedding.vector.copy()
        vector.setflags(write=False)  # many callers share it
        embedding = replace(embedding, vector=vector)
        if len(text) <= MAX_KEPT_CHARACTERS:
            self._kept[text] = embedding
            self._kept.move_to_end(text)
            if len(self._kept) > self._max_texts:
                self._kept.popitem(last=False)
        return embedding

    def _notice(self, fingerprint: str) -> None:
        if fingerprint != self._fingerprint:
            self._kept.clear()
            self._card = None
            self._fingerprint = fingerprint


def _count(count: Count, value: int) -> None:
    if value:  # a metric of Ray's refuses 0
        count.inc(value)
