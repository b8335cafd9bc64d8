"""Gather items while the device or the wire is busy, run them together when it is free. Knows nothing of what they are.

Why not `@serve.batch`: it forms a batch *before* it may run, so under load batches stay tiny, and an exception in its size
function stops it for good. Here a batch is taken at the moment when it can run, so it grows by itself with the load, and one
item alone is never delayed.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from serve_app.core.together import together
from serve_app.errors import InternalError, Overloaded

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Runs `run` on up to `max_batch_size` items, at most `max_in_flight` calls at once, in order of arrival.

    Urgent items have batches of their own, in turns with those of the others: they wait for what runs, and not for what waits.
    `run` takes a list and returns one of the same length; what it raises is raised for each item of that batch.
    An item whose caller gave up before its batch began is dropped. `cancel_abandoned`: so is a batch under way whose callers
    have all given up; not for work that goes on when its task is cancelled. `max_partial_in_flight`: while so many calls run, a
    batch that is not full waits until it is, or until one of them ends; what is to run is then cut into few large batches.
    `servers`: how many there are to run on at present; both bounds of calls are of each of them, and it is their batches that
    have to be full.
    Items are refused when more than `max_queued_items` of their kind would wait, or when, at the pace of the latest batches, they
    would wait longer than `max_wait_s`. Belongs to one event loop.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch_size: int,
        max_queued_items: int,
        max_wait_s: float = float("inf"),
        max_in_flight: int = 1,
        max_partial_in_flight: int | None = None,
        servers: Callable[[], int] = lambda: 1,
        cancel_abandoned: bool = False,
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._max_queued_items = max_queued_items
        self._max_wait_s = max_wait_s
        self._max_in_flight = max_in_flight
        self._max_partial_in_flight = min(max_partial_in_flight or max_in_flight, max_in_flight)
        self._servers = servers
        self._cancel_abandoned = cancel_abandoned
        self._urgent, self._others = _Queue[T, R](), _Queue[T, R]()
        self._latest = self._others  # where the latest batch came from
        self._running: set[asyncio.Task[None]] = set()
        self._pace = Pace()
        # A batch belongs to no one caller: run in the context of one, Ray would cancel it for all when that one gives up.
        self._context = contextvars.copy_context()

    @property
    def queued(self) -> int:
        """Items that wait and whose callers still want them."""
        return self._urgent.wanted + self._others.wanted

    async def submit(self, item: T, *, urgent: bool = False) -> R:
        """The result of one item. Raises Overloaded at once if the queue is full."""
        return (await self.submit_all([item], urgent=urgent))[0]

    async def submit_all(self, items: Sequence[T], *, urgent: bool = False) -> list[R]:
        """The results of several items, in order; they may travel in different batches.

        Raises Overloaded at once if they do not fit into the queue, all or none. More items than the queue is long are
        taken when nothing else waits, or a large request could never be served.
        """
        if not items:
            return []
        queue = self._urgent if urgent else self._others
        if self._is_full(queue, len(items)):
            raise Overloaded("too many requests are waiting; try again shortly")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[R]] = [loop.create_future() for _ in items]
        numbers = queue.put(items, futures)
        # Not at once: what arrives in the same turn of the loop travels together.
        loop.call_soon(self._start, context=self._context)
        try:
            return await together(*futures)
        finally:
            for future in futures:
                future.cancel()
            queue.give_up(numbers)

    def _is_full(self, queue: "_Queue[T, R]", more: int) -> bool:
        waiting = queue.wanted
        # Both kinds take turns, so that no more of the other kind go before the last of these than there are of these.
        before = waiting + min(waiting, self.queued - waiting)
        return waiting > 0 and (
            waiting + more > self._max_queued_items or before * self._pace.item_s > self._max_wait_s
        )

    def _start(self) -> None:
        while (queue := self._next_queue()) and len(self._running) < self._bound_now(queue):
            self._latest = queue
            if batch := queue.take(self._max_batch_size):
                task = asyncio.get_running_loop().create_task(self._finish(batch))
                self._running.add(task)
                task.add_done_callback(self._done)
                if self._cancel_abandoned:
                    _cancel_when_all_are_done(task, [future for _, future in batch])

    def _next_queue(self) -> "_Queue[T, R] | None":
        in_turn = (self._urgent, self._others) if self._latest is self._others else (self._others, self._urgent)
        return next((queue for queue in in_turn if queue), None)

    def _bound_now(self, queue: "_Queue[T, R]") -> int:
        servers = self._servers()
        # Shared out among the servers, one of the shares would be full.
        is_full = len(queue) > servers * (self._max_batch_size - 1)
        return servers * (self._max_in_flight if is_full else self._max_partial_in_flight)

    async def _finish(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        began = time.monotonic()
        try:
            results = await self._run([item for item, _ in batch])
            if len(results) != len(batch):
                raise InternalError(f"{len(batch)} items went in and {len(results)} came out")
        except Exception as error:  # noqa: BLE001 (whatever it is belongs to the callers)
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            self._pace.note(len(batch), began, time.monotonic())
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()


class _Queue(Generic[T, R]):
    """Items in order of arrival, each with the future of its result. Counts without going through them."""

    def __init__(self) -> None:
        self._items: deque[tuple[T, asyncio.Future[R]]] = deque()
        # Items are numbered as they come. Those below `_taken` have left; those here that nobody wants are noted.
        self._arrived = self._taken = 0
        self._given_up: set[int] = set()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def wanted(self) -> int:
        """Items whose callers still want them."""
        return len(self._items) - len(self._given_up)

    def put(self, items: Sequence[T], futures: Sequence[asyncio.Future[R]]) -> range:
        """Their numbers."""
        self._items.extend(zip(items, futures, strict=True))
        first = self._arrived
        self._arrived += len(items)
        return range(first, self._arrived)

    def give_up(self, numbers: range) -> None:
        """Nobody wants those of these that are still here."""
        self._given_up.update(range(max(numbers.start, self._taken), numbers.stop))

    def take(self, most: int) -> list[tuple[T, asyncio.Future[R]]]:
        """The next ones that are wanted."""
        taken: list[tuple[T, asyncio.Future[R]]] = []
        while self._items and len(taken) < most:
            item, future = self._items.popleft()
            self._given_up.discard(self._taken)
            self._taken += 1
            if not future.done():
                taken.append((item, future))
        return taken


class Pace:
    """How long an item takes, in seconds of the whole batcher: the mean over the latest batches, younger ones counting more."""

    MEMORY = 0.8  # what a batch still counts when the next has ended

    def __init__(self) -> None:
        self._busy_s = 0.0
        self._items = 0.0
        self._last_end = 0.0

    @property
    def item_s(self) -> float:
        """0 before anything has run."""
        return self._busy_s / self._items if self._items else 0.0

    def note(self, items: int, began: float, ended: float) -> None:
        """A batch of so many items ran from `began` to `ended`, on one clock in seconds; time that batches share counts once."""
        self._busy_s = self.MEMORY * self._busy_s + (ended - max(began, self._last_end))
        self._items = self.MEMORY * self._items + items
        self._last_end = ended


def _cancel_when_all_are_done(task: asyncio.Task[None], futures: Sequence[asyncio.Future[R]]) -> None:
    wanted = len(futures)

    def one_less(_: asyncio.Future[R]) -> None:
        nonlocal wanted
        wanted -= 1
        if not wanted and not task.done():
            task.cancel()

    for future in futures:
        future.add_done_callback(one_less)
