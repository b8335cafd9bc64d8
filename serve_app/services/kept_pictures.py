"""Remove kept pictures that no document points to any more. Knows nothing of how a picture is made or read.

A picture is kept before its document is committed, under the name of its content, so two documents may share one. What was
put lately is therefore never removed, whatever the table says: an orphan is found later, a lost picture never.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from serve_app.errors import CrossmodalError
from serve_app.ports import MaintainedTable, PictureRemoval
from serve_app.types import Orphans

log = logging.getLogger(__name__)

# Longer than the store waits to put a picture again (ten minutes), and than any request takes after that.
GRACE = timedelta(hours=1)
# The store is gone through by the first byte of the pictures' SHA-256, and for so long in one call.
PARTS = tuple(f"{byte:02x}" for byte in range(256))
TURN_S = 5.0
# So many freed pictures are remembered; beyond that the whole store is gone through.
MOST_FREED = 50_000
URIS_PER_READ = 1000


class KeptPictures:
    """`freed` after each commit that took rows away; `orphans` finds what was left behind, by crashes and by the grace."""

    def __init__(
        self,
        table: MaintainedTable,
        store: PictureRemoval,
        *,
        grace: timedelta = GRACE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._store = store
        self._grace = grace
        self._clock = clock
        self._freed: set[str] = set()
        self._sweep = False
        self._removing: asyncio.Task[None] | None = None

    def freed(self, uris: Iterable[str]) -> None:
        """Rows that pointed to these are gone. Their pictures are removed in the background, if nothing else uses them."""
        self._freed.update(uri for uri in uris if self._store.owns(uri))
        if len(self._freed) >= MOST_FREED:
            self._freed, self._sweep = set(), True
        if (self._freed or self._sweep) and (self._removing is None or self._removing.done()):
            self._removing = asyncio.get_running_loop().create_task(self._remove_freed())

    async def orphans(self, *, remove: bool, after: str | None = None) -> Orphans:
        """Count the pictures that nothing points to, and remove them if told, for TURN_S or a little longer.

        Goes through the parts after `after`, from the first if None; at least one. `next_after` is the last it looked at.
        """
        pictures = total_bytes = removed = removed_bytes = 0
        until_s = self._clock() + TURN_S
        for part in (each for each in PARTS if after is None or each > after):
            async for portion in self._store.stored(self._grace, part):
                unused = await self._unused(list(portion))
                pictures, total_bytes = pictures + len(unused), total_bytes + sum(portion[uri] for uri in unused)
                for uri in unused if remove else ():
                    size = await self._store.remove(uri, self._grace)
                    removed, removed_bytes = removed + bool(size), removed_bytes + size
            if self._clock() >= until_s and part != PARTS[-1]:
                return Orphans(pictures, total_bytes, removed, removed_bytes, next_after=part)
        return Orphans(pictures, total_bytes, removed, removed_bytes)

    async def settled(self) -> None:
        """Wait until nothing is being removed."""
        if self._removing is not None:
            await self._removing

    async def _remove_freed(self) -> None:
        try:
            while self._freed or self._sweep:
                uris, self._freed = list(self._freed), set()
                for start in range(0, len(uris), URIS_PER_READ):
                    for uri in await self._unused(uris[start : start + URIS_PER_READ]):
                        await self._store.remove(uri, self._grace)
                if self._sweep:
                    self._sweep = False
                    await self._remove_orphans()
        except CrossmodalError:
            # They are orphans now, which `crossmodal gc` finds.
            log.exception("pictures of deleted documents could not be removed")

    async def _remove_orphans(self) -> None:
        found = await self.orphans(remove=True)
        while found.next_after is not None:
            found = await self.orphans(remove=True, after=found.next_after)

    async def _unused(self, uris: Sequence[str]) -> list[str]:
        used = await self._table.used_uris(uris) if uris else set()
        return [uri for uri in uris if uri not in used]
