"""Several awaitables at once."""

import asyncio

import pytest

from serve_app.core.together import together


async def later(value: str, seconds: float = 0.0) -> str:
    await asyncio.sleep(seconds)
    return value


async def test_results_come_in_order_with_none_for_none() -> None:
    assert await together(later("slow", 0.02), None, later("quick")) == ["slow", None, "quick"]


async def test_nothing_gives_nothing() -> None:
    assert await together() == []
    assert await together(None, None) == [None, None]


async def test_one_alone_is_awaited_without_a_task() -> None:
    async def whose() -> asyncio.Task[None] | None:
        return asyncio.current_task()

    assert await together(None, whose()) == [None, asyncio.current_task()]


async def test_the_first_error_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await together(later("good", 0.01), fails())
    with pytest.raises(ValueError, match="no"):
        await together(fails())
