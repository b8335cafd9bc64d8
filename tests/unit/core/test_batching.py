import asyncio
import contextvars
from collections.abc import Sequence

import pytest

from serve_app.core.batching import Batcher, Pace
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


async def test_urgent_items_and_the_others_take_turns() -> None:
    device = Device()
    batches = batcher(device, size=2)
    tasks = [asyncio.create_task(batches.submit(0))]
    await until(lambda: device.running)
    tasks += [asyncio.create_task(batches.submit(item)) for item in (1, 2, 3, 4)]
    tasks += [asyncio.create_task(batches.submit(item, urgent=True)) for item in (10, 11, 12)]
    await asyncio.sleep(0.01)
    device.free.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 20, 22, 24]
    assert device.batches == [[0], [10, 11], [1, 2], [12], [3, 4]]


async def test_no_more_calls_run_at_once_than_allowed() -> None:
    device = Device()
    batches = batcher(device, size=1, in_flight=2)
    tasks = [asyncio.create_task(batches.submit(item)) for item in range(6)]
    await until(lambda: device.running == 2)
    device.free.set()
    await asyncio.gather(*tasks)
    assert device.most_running == 2


async def test_a_batch_that_is_not_full_waits_for_company_while_enough_calls_run() -> None:
    device = Device()
    batches = Batcher(device.run, max_batch_size=4, max_queued_items=100, max_in_flight=3, max_partial_in_flight=1)
    tasks = [asyncio.create_task(batches.submit(0))]
    await until(lambda: device.running)
    tasks += [asyncio.create_task(batches.submit(item)) for item in (1, 2, 3)]
    await asyncio.sleep(0.01)
    assert device.batches == [[0]], "three items are no full batch"
    tasks += [asyncio.create_task(batches.submit(item)) for item in (4, 5)]
    await until(lambda: device.running == 2)
    assert device.batches == [[0], [1, 2, 3, 4]]
    device.free.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    assert device.batches[2:] == [[5]], "what waited goes when a call has ended, full or not"


async def test_both_bounds_are_of_each_server() -> None:
    device, servers = Device(), 1
    batches = Batcher(
        device.run,
        max_batch_size=2,
        max_queued_items=100,
        max_in_flight=2,
        max_partial_in_flight=1,
        servers=lambda: servers,
    )
    tasks = [asyncio.create_task(batches.submit(item)) for item in range(6)]
    await until(lambda: device.running == 2)
    await asyncio.sleep(0.01)
    assert device.batches == [[0, 1], [2, 3]]
    servers = 2
    tasks.append(asyncio.create_task(batches.submit(6)))
    await until(lambda: device.running == 3)
    tasks.append(asyncio.create_task(batches.submit(7)))
    await asyncio.sleep(0.01)
    assert device.running == 3, "one each for two servers: neither batch would be full"
    tasks.append(asyncio.create_task(batches.submit(8)))
    await until(lambda: device.running == 4)
    assert device.batches == [[0, 1], [2, 3], [4, 5], [6, 7]]
    device.free.set()
    assert await asyncio.gather(*tasks) == [2 * item for item in range(9)]


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


async def test_those_who_gave_up_take_nobodys_place() -> None:
    device = Device()
    batches = batcher(device, size=1, queue=2)
    running = asyncio.create_task(batches.submit(0))
    await until(lambda: device.running)
    gone = [asyncio.create_task(batches.submit(item)) for item in (1, 2)]
    await until(lambda: batches.queued == 2)
    for each in gone:
        each.cancel()
    await until(lambda: batches.queued == 0)
    waiting = asyncio.create_task(batches.submit_all([3, 4]))
    await until(lambda: batches.queued == 2)
    with pytest.raises(Overloaded):
        await batches.submit(5)
    device.free.set()
    assert [await running, await waiting] == [0, [6, 8]]
    assert (batches.queued, device.batches) == (0, [[0], [3], [4]])


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


async def test_a_batch_that_nobody_waits_for_any_more_is_cancelled_where_that_helps() -> None:
    device = Device()
    batches = Batcher(device.run, max_batch_size=4, max_queued_items=10, cancel_abandoned=True)
    tasks = [asyncio.create_task(batches.submit(item)) for item in (1, 2)]
    await until(lambda: device.running)
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    later = asyncio.create_task(batches.submit(3))
    await asyncio.sleep(0.01)
    assert device.batches == [[1, 2]], "somebody still waits for the first batch"
    tasks[1].cancel()
    await until(lambda: len(device.batches) == 2)
    device.free.set()
    assert await later == 6


async def test_work_that_cannot_be_stopped_keeps_its_place_when_its_callers_have_gone() -> None:
    device = Device()
    batches = batcher(device)
    gone = asyncio.create_task(batches.submit(1))
    await until(lambda: device.running)
    gone.cancel()
    later = asyncio.create_task(batches.submit(2))
    await asyncio.sleep(0.01)
    assert device.batches == [[1]]
    device.free.set()
    assert await later == 4


async def test_a_batch_runs_in_no_callers_context() -> None:
    caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")

    async def run(items: Sequence[int]) -> list[str]:
        return [caller.get() for _ in items]

    batches: Batcher[int, str] = Batcher(run, max_batch_size=4, max_queued_items=10)
    caller.set("somebody")
    assert await batches.submit_all([1, 2]) == ["nobody", "nobody"]


async def test_items_that_would_wait_too_long_are_refused_at_once() -> None:
    device = Device()
    batches = Batcher(device.run, max_batch_size=1, max_queued_items=100, max_wait_s=0.1)
    slow = asyncio.create_task(batches.submit(0))
    await asyncio.sleep(0.06)  # what one item takes
    device.free.set()
    await slow
    device.free.clear()
    taken = [asyncio.create_task(batches.submit(0))]
    await until(lambda: device.running)
    taken += [asyncio.create_task(batches.submit(item)) for item in (1, 2)]
    await until(lambda: batches.queued == 2)
    with pytest.raises(Overloaded):
        await asyncio.wait_for(batches.submit(9), 1)
    device.free.set()
    assert await asyncio.gather(*taken) == [0, 2, 4]


def test_the_pace_counts_time_that_batches_share_once() -> None:
    pace = Pace()
    assert pace.item_s == 0.0
    pace.note(10, began=0.0, ended=1.0)
    assert pace.item_s == pytest.approx(0.1)
    pace.note(8, began=0.0, ended=1.0)  # side by side with the first
    assert pace.item_s == pytest.approx(0.8 / 16)


def test_the_pace_follows_the_latest_batches() -> None:
    pace = Pace()
    for at in range(50):
        pace.note(1, began=10.0 * at, ended=10.0 * at + 9)
    for at in range(50):
        pace.note(1, began=1000.0 + at, ended=1000.5 + at)
    assert pace.item_s == pytest.approx(0.5, rel=0.01)
