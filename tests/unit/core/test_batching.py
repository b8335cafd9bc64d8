import asyncio
from collections.abc import Sequence

import pytest

from serve_app.core.batching import Batcher
from serve_app.errors import InternalError, Overloaded
from tests.fakes.parts import until


class Device:
    """Doubles numbers; holds every batch until it is let go; notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = asyncio.Event()
        self.running = 0
        self.most_running = 0

    async def run(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await self.free.wait()
        self.running -= 1
        return [2 * item for item in items]


def batcher(device: Device, size: int = 4, queue: int = 100, in_flight: int = 1) -> Batcher[int, int]:
    return Batcher(device.run, max_batch_size=size, max_queued_items=queue, max_in_flight=in_flight)


async def test_one_item_alone_runs_at_once() -> None:
    device = Device()
    device.free.set()
    assert await asyncio.wait_for(batcher(device).submit(3), 1) == 6
    assert device.batches == [[3]]


async def test_what_gathers_while_the_device_is_busy_runs_together_in_order_of_arrival() -> None:
    device = Device()
    batches = batcher(device)
    first = asyncio.create_task(batches.submit(0))
    await until(lambda: device.running)
    rest = [asyncio.create_task(batches.submit(item)) for item in range(1, 7)]
    await asyncio.sleep(0.01)
    device.free.set()
    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10, 12]
    assert device.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_no_more_calls_run_at_once_than_allowed() -> None:
    device = Device()
    batches = batcher(device, size=1, in_flight=2)
    tasks = [asyncio.create_task(batches.submit(item)) for item in range(6)]
    await until(lambda: device.running == 2)
    device.free.set()
    await asyncio.gather(*tasks)
    assert device.most_running == 2


async def test_a_cancelled_item_costs_nothing() -> None:
    device = Device()
    batches = batcher(device)
    first = asyncio.create_task(batches.submit(0))
    await until(lambda: device.running)
    gone, kept = asyncio.create_task(batches.submit(1)), asyncio.create_task(batches.submit(2))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.sleep(0)
    device.free.set()
    assert await asyncio.gather(first, kept) == [0, 4]
    assert device.batches == [[0], [2]]


async def test_a_full_queue_refuses_at_once_and_takes_items_again_when_it_has_room() -> None:
    device = Device()
    batches = batcher(device, size=1, queue=2)
    running = asyncio.create_task(batches.submit(0))
    await until(lambda: device.running)
    waiting = [asyncio.create_task(batches.submit(item)) for item in (1, 2)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded):
        await batches.submit(3)
    device.free.set()
    await asyncio.gather(running, *waiting)
    assert await batches.submit(4) == 8


async def test_a_request_larger_than_the_queue_is_served_when_nothing_waits() -> None:
    device = Device()
    device.free.set()
    assert await batcher(device, size=2, queue=2).submit_all(range(5)) == [0, 2, 4, 6, 8]


async def test_an_error_reaches_every_item_of_its_batch_and_no_other() -> None:
    async def run(items: Sequence[int]) -> list[int]:
        if 13 in items:
            raise ValueError("unlucky")
        return list(items)

    batches: Batcher[int, int] = Batcher(run, max_batch_size=2, max_queued_items=10)
    results = await asyncio.gather(*(batches.submit(item) for item in (1, 2, 13, 4, 5)), return_exceptions=True)
    assert [type(result) for result in results] == [int, int, ValueError, ValueError, int]
    assert await batches.submit(6) == 6


async def test_a_device_that_loses_items_is_an_error_and_not_a_wrong_answer() -> None:
    async def run(items: Sequence[int]) -> list[int]:
        return list(items)[1:]

    with pytest.raises(InternalError):
        await Batcher[int, int](run, max_batch_size=4, max_queued_items=10).submit_all([1, 2])
