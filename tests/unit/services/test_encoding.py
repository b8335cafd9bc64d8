import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from serve_app.errors import ModelUnavailable
from serve_app.services.encoding import EncodingService, encoder_thread
from serve_app.types import Embedding, ItemFailure

VECTOR = np.array([1.0], np.float32)


def encode(items: Sequence[str]) -> list[Embedding | ItemFailure]:
    if "poison" in items:
        raise RuntimeError("the kernel fell over")
    return [Embedding(VECTOR, "f") for _ in items]


async def test_one_poisoned_item_fails_alone_and_the_service_goes_on() -> None:
    service = EncodingService[str](encode, max_batch_size=32, max_queued_items=100)
    results = await service.encode([*("good" for _ in range(15)), "poison", *("good" for _ in range(16))])
    assert [at for at, result in enumerate(results) if isinstance(result, ItemFailure)] == [15]
    assert all(isinstance(result, Embedding) for result in await service.encode(["good"] * 100))


async def test_what_broke_inside_is_not_told_outside() -> None:
    (failure,) = await EncodingService[str](encode, max_batch_size=8, max_queued_items=8).encode(["poison"])
    assert isinstance(failure, ItemFailure)
    assert failure.code == "internal"
    assert "kernel" not in failure.message


async def test_a_model_that_hangs_is_not_healthy() -> None:
    go_on, entered = threading.Event(), threading.Event()

    def hang(items: Sequence[str]) -> list[Embedding | ItemFailure]:
        entered.set()
        go_on.wait(5)
        return encode(items)

    service = EncodingService[str](
        hang, thread=encoder_thread(), max_batch_size=8, max_queued_items=8, stuck_after_s=0.0
    )
    service.check_health()
    task = asyncio.create_task(service.encode(["good"]))
    await asyncio.to_thread(entered.wait, 5)
    with pytest.raises(ModelUnavailable):
        service.check_health()
    go_on.set()
    await task
    service.check_health()


async def test_once_after_each_busy_time_it_tells_that_it_is_idle() -> None:
    told: list[str] = []
    thread = encoder_thread()
    service = EncodingService[str](
        encode,
        thread=thread,
        when_idle=lambda: told.append(threading.current_thread().name),
        idle_after_s=0.05,
        max_batch_size=8,
        max_queued_items=8,
    )
    for _ in range(3):
        await service.encode(["good"])
    assert told == []
    await asyncio.sleep(0.2)
    assert told == [thread.submit(lambda: threading.current_thread().name).result()]
