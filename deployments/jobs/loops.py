"""Runs coroutines in a worker, which is no coroutine itself."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """An event loop of its own, for all that one worker runs.

    What asyncio.Runner is, without its handler of SIGINT, which Ray's workers get otherwise: Python's signal module, asked what
    handler there is, writes a message for each that it does not know, with all that the task returned in it. For a thousand
    rows with their vectors that takes ten times as long as to store them.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)
