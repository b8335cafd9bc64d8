"""Has writes wait for a short while, so that a table can be brought up to date and take the place of another, without a gap.

Knows nothing of tables: it holds the lock that the one writer takes for each commit, and gives it back in time by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class WriteHold:
    """Implements ports.WriteHolding. `version`: tells that of the table in service."""

    def __init__(self, writing: asyncio.Lock, version: Callable[[], Awaitable[int]]) -> None:
        self._writing = writing
        self._version = version
        self._ends: asyncio.TimerHandle | None = None

    async def hold_writes(self, seconds: float) -> int:
        """See ports.WriteHolding. The commit under way ends first."""
        if self._ends is None:
            await self._writing.acquire()
        else:
            self._ends.cancel()
        self._ends = asyncio.get_running_loop().call_later(seconds, self._end)
        return await self._version()

    async def release_writes(self) -> None:
        """See ports.WriteHolding."""
        self._end()

    @asynccontextmanager
    async def switching(self) -> AsyncIterator[None]:
        """The turn of who takes a table into service: at once where writes are held, which then go on; else after them.

        Where it fails, writes stay held for as long as they were to be.
        """
        if self._ends is None:
            async with self._writing:
                yield
            return
        until = self._ends.when()
        # Not to end in the middle of the switch.
        self._ends.cancel()
        try:
            yield
        except BaseException:
            self._ends = asyncio.get_running_loop().call_at(until, self._end)
            raise
        self._end()

    def _end(self) -> None:
        if self._ends is not None:
            self._ends.cancel()
            self._ends = None
            self._writing.release()
