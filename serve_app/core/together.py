"""Several awaitables at once. Knows nothing of what they do."""

import asyncio
from collections.abc import Awaitable
from typing import Any


async def together(*awaitables: Awaitable[Any] | None) -> list[Any]:
    """What each gives, in order, and None for None: `asyncio.gather`, which makes a task of each, but one alone is awaited here.

    A request asks for one thing most of the time, and a task takes as long as much else that is done for it.
    """
    wanted = [each for each in awaitables if each is not None]
    found = iter([await wanted[0]] if len(wanted) == 1 else await asyncio.gather(*wanted))
    return [None if each is None else next(found) for each in awaitables]
