"""One tower, fed in batches from one thread. Knows nothing of what the tower encodes or who asks."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from serve_app.core.batching import Batcher
from serve_app.errors import CrossmodalError, InternalError, ModelUnavailable
from serve_app.types import Embedding, ItemFailure

T = TypeVar("T")
log = logging.getLogger(__name__)


class EncodingService(Generic[T]):
    """Batches items for a blocking `encode`, which runs in one thread of its own: models are not thread-safe.

    If `encode` raises on a batch, its items are encoded one by one, so that one poisoned item fails alone.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[T]], list[Embedding | ItemFailure]],
        *,
        max_batch_size: int,
        max_queued_items: int,
        stuck_after_s: float = 120.0,
    ) -> None:
        self._encode = encode
        self._stuck_after_s = stuck_after_s
        self._began: float | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self._batcher = Batcher[T, Embedding | ItemFailure](
            self._in_thread, max_batch_size=max_batch_size, max_queued_items=max_queued_items
        )

    async def encode(self, items: Sequence[T]) -> list[Embedding | ItemFailure]:
        """An embedding or a failure for each item. Raises Overloaded if too many wait."""
        return await self._batcher.submit_all(items)

    def check_health(self) -> None:
        """Raises ModelUnavailable if a batch hangs in the device."""
        began = self._began
        if began is not None and time.monotonic() - began > self._stuck_after_s:
            raise ModelUnavailable(f"a batch has been in the model for over {self._stuck_after_s:.0f} s")

    async def _in_thread(self, items: Sequence[T]) -> list[Embedding | ItemFailure]:
        self._began = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._poison_proof, items)
        finally:
            self._began = None

    def _poison_proof(self, items: Sequence[T]) -> list[Embedding | ItemFailure]:
        try:
            return self._encode(items)
        except Exception as error:
            if len(items) > 1:
                log.warning("a batch of %d failed; encoding its items one by one", len(items), exc_info=error)
                return [result for item in items for result in self._poison_proof([item])]
            if isinstance(error, CrossmodalError):
                return [ItemFailure(error.code, error.message)]
            log.exception("an item could not be encoded")
            return [ItemFailure(InternalError.code, "this item could not be encoded")]
