"""One tower, fed in batches from one thread. Knows nothing of what the tower encodes or who asks."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from serve_app.core.batching import Batcher
from serve_app.errors import CrossmodalError, InternalError, ModelUnavailable
from serve_app.ports import StagedTower
from serve_app.types import Embedding, ItemFailure

T = TypeVar("T")
log = logging.getLogger(__name__)


def encoder_thread() -> ThreadPoolExecutor:
    """One thread to load a tower in and to encode in, as models are not thread-safe.

    Load in it, too: OpenMP gives every thread that computes a team of threads, and two teams in a process slow each other down
    (one text on two cores: 11.9 ms if nothing else has computed, 17.6 and more afterwards).
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")


class EncodingService(Generic[T]):
    """Batches items for a blocking `encode`, which runs in `thread`, see `encoder_thread`.

    With a `stage`, `encode` takes what that makes of the items, and the next batch is staged, in another thread, while the
    present one is encoded; worth it where staging is a copy to another device. If a batch fails, its items are encoded one by
    one, so that one poisoned item fails alone. `observe` hears of each batch: items, and seconds in `encode`. Without `thread`,
    `encode` runs in the loop's: for one that has nothing else to do meanwhile, since a batch that changes threads may change
    cores, too. What is staged gets a thread in any case. `when_idle` is called, where `encode` is, once after each time that no
    batch has come for `idle_after_s`.
    """

    def __init__(
        self,
        encode: Callable[[Any], list[Embedding | ItemFailure]],
        *,
        max_batch_size: int,
        max_queued_items: int,
        max_wait_s: float = float("inf"),
        stage: Callable[[Sequence[T]], Any] | None = None,
        observe: Callable[[int, float], None] | None = None,
        stuck_after_s: float = 120.0,
        thread: ThreadPoolExecutor | None = None,
        when_idle: Callable[[], None] | None = None,
        idle_after_s: float = 5.0,
    ) -> None:
        self._encode = encode
        self._stage: Callable[[Sequence[T]], Any] = stage or (lambda items: items)
        self._observe = observe
        self._stuck_after_s = stuck_after_s
        self._when_idle = when_idle
        self._idle_after_s = idle_after_s
        self._idle: asyncio.TimerHandle | None = None
        self._began: float | None = None
        self._thread = thread or (encoder_thread() if stage else None)
        self._stager = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stager") if stage else None
        self._batcher = Batcher[T, Embedding | ItemFailure](
            self._staged_in_thread if stage else self._in_thread,
            max_batch_size=max_batch_size,
            max_queued_items=max_queued_items,
            max_wait_s=max_wait_s,
            max_in_flight=2 if stage else 1,
        )

    @classmethod
    def of_tower(cls, tower: StagedTower, **bounds: Any) -> "EncodingService[T]":
        """Feeds a tower, in two steps where that pays. `bounds`: the other arguments."""
        if tower.overlaps:
            return cls(tower.compute, stage=tower.stage, **bounds)
        return cls(tower.encode, **bounds)

    async def encode(self, items: Sequence[T], *, urgent: bool = False) -> list[Embedding | ItemFailure]:
        """An embedding or a failure for each item. Raises Overloaded if too many wait. `urgent`: see Batcher."""
        try:
            return await self._batcher.submit_all(items, urgent=urgent)
        finally:
            self._wait_for_idleness()

    def check_health(self) -> None:
        """Raises ModelUnavailable if a batch hangs in the device."""
        began = self._began
        if began is not None and time.monotonic() - began > self._stuck_after_s:
            raise ModelUnavailable(f"a batch has been in the model for over {self._stuck_after_s:.0f} s")

    def _wait_for_idleness(self) -> None:
        if self._when_idle is None:
            return
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._idle_after_s, loop.run_in_executor, self._thread, self._when_idle)

    async def _in_thread(self, items: Sequence[T]) -> list[Embedding | ItemFailure]:
        if self._thread is None:
            return self._timed(items, self._stage)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._timed, items, self._stage)

    async def _staged_in_thread(self, items: Sequence[T]) -> list[Embedding | ItemFailure]:
        loop = asyncio.get_running_loop()
        staging = await asyncio.wait({loop.run_in_executor(self._stager, self._stage, items)})
        # What staging raised is raised where a failing batch is taken apart.
        ready = staging[0].pop().result
        return await loop.run_in_executor(self._thread, self._timed, items, lambda _: ready())

    def _timed(self, items: Sequence[T], stage: Callable[[Sequence[T]], Any]) -> list[Embedding | ItemFailure]:
        self._began = began = time.monotonic()
        try:
            return self._poison_proof(items, stage)
        finally:
            self._began = None
            if self._observe is not None:
                self._observe(len(items), time.monotonic() - began)

    def _poison_proof(self, items: Sequence[T], stage: Callable[[Sequence[T]], Any]) -> list[Embedding | ItemFailure]:
        try:
            return self._encode(stage(items))
        except Exception as error:
            if len(items) > 1:
                log.warning("a batch of %d failed; encoding its items one by one", len(items), exc_info=error)
                return [result for item in items for result in self._poison_proof([item], self._stage)]
            if isinstance(error, CrossmodalError):
                return [ItemFailure(error.code, error.message)]
            log.exception("an item could not be encoded")
            return [ItemFailure(InternalError.code, "this item could not be encoded")]
