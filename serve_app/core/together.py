"""Several awaitables at once. Knows nothing of what they do."""

import asyncio
from collections.abc import Awaitable
from typing import Any


async def together(*awaitables: Awaitable[Any] | None) -> list[Any]:
    """What each gives, in order, and None for None. As `asyncio.gather`, but one alone is awaited here, without a task.

    Most requests ask for one thing, and a task costs as much as a good part of what is done for them.
    """
    wanted = [each for each in awaitables if each is not None]
    found = iter([await wanted[0]] if len(wanted) == 1 else await asyncio.gather(*wanted))
    return [None if each is None else next(found) for each in awaitables]
