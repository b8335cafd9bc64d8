"""Gather items while the device or the wire is busy, run them together when it is free. Knows nothing of what they are.

Why not `@serve.batch`: it forms a batch *before* it may run, so under load batches stay tiny, and an exception in its size
function stops it for good. Here a batch is taken at the moment when it can run, so it grows by itself with the load, and one
item alone is never delayed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from serve_app.errors import InternalError, Overloaded

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Runs `run` on up to `max_batch_size` items, at most `max_in_flight` calls at once, in order of arrival.

    `run` takes a list and returns one of the same length; what it raises is raised for each item of that batch.
    An item whose caller gave up before its batch began is dropped. Belongs to one event loop.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch_size: int,
        max_queued_items: int,
        max_in_flight: int = 1,
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_queued_items = max_queued_items
        self._max_in_flight = max_in_flight
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        """Items that wait and whose callers still want them."""
        return sum(not future.done() for _, future in self._queue)

    async def submit(self, item: T) -> R:
        """The result of one item. Raises Overloaded at once if the queue is full."""
        return (await self.submit_all([item]))[0]

    async def submit_all(self, items: Sequence[T]) -> list[R]:
        """The results of several items, in order; they may travel in different batches.

        Raises Overloaded at once if they do not fit into the queue, all or none. More items than the queue is long are
        taken when nothing else waits, or a large request could never be served.
        """
        if not items:
            return []
        waiting = self.queued
        if waiting and waiting + len(items) > self._max_queued_items:
            raise Overloaded("too many requests are waiting; try again shortly")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[R]] = [loop.create_future() for _ in items]
        self._queue.extend(zip(items, futures, strict=True))
        # Not at once: what arrives in the same turn of the loop travels together.
        loop.call_soon(self._start)
        try:
            return list(await asyncio.gather(*futures))
        finally:
            for future in futures:
                future.cancel()

    def _start(self) -> None:
        while self._queue and len(self._running) < self._max_in_flight:
            batch = self._take()
            if batch:
                task = asyncio.get_running_loop().create_task(self._finish(batch))
                self._running.add(task)
                task.add_done_callback(self._done)

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._queue and len(batch) < self._max_batch_size:
            item, future = self._queue.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _finish(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
            if len(results) != len(batch):
                raise InternalError(f"{len(batch)} items went in and {len(results)} came out")
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the callers)
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()
