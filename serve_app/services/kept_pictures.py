"""Remove kept pictures that no document points to any more. Knows nothing of how a picture is made or read.

A picture is kept before its document is committed, under the name of its content, so two documents may share one. What was
put lately is therefore never removed, whatever the table says: an orphan is found later, a lost picture never.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta

from serve_app.errors import CrossmodalError
from serve_app.ports import MaintainedTable, PictureRemoval
from serve_app.types import Orphans

log = logging.getLogger(__name__)

# Longer than the store waits to put a picture again (ten minutes), and than any request takes after that.
GRACE = timedelta(hours=1)


class KeptPictures:
    """`freed` after each commit that took rows away; `orphans` finds what was left behind, by crashes and by the grace."""

    def __init__(self, table: MaintainedTable, store: PictureRemoval, *, grace: timedelta = GRACE) -> None:
        self._table = table
        self._store = store
        self._grace = grace
        self._freed: set[str] = set()
        self._removing: asyncio.Task[None] | None = None

    def freed(self, uris: Iterable[str | None]) -> None:
        """Rows that pointed to these are gone. Their pictures are removed in the background, if nothing else uses them."""
        self._freed.update(uri for uri in uris if uri is not None and self._store.owns(uri))
        if self._freed and (self._removing is None or self._removing.done()):
            self._removing = asyncio.get_running_loop().create_task(self._remove_freed())

    async def orphans(self, *, remove: bool) -> Orphans:
        """Count the pictures that nothing points to, and remove them if told."""
        pictures = removed = removed_bytes = 0
        async for uris in self._store.stored(self._grace):
            unused = await self._unused(uris)
            pictures += len(unused)
            for uri in unused if remove else ():
                size = await self._store.remove(uri, self._grace)
                removed, removed_bytes = removed + bool(size), removed_bytes + size
        return Orphans(pictures, removed, removed_bytes)

    async def settled(self) -> None:
        """Wait until nothing is being removed."""
        if self._removing is not None:
            await self._removing

    async def _remove_freed(self) -> None:
        try:
            while self._freed:
                uris, self._freed = list(self._freed), set()
                for uri in await self._unused(uris):
                    await self._store.remove(uri, self._grace)
        except CrossmodalError:
            # They are orphans now, which `crossmodal gc` finds.
            log.exception("pictures of deleted documents could not be removed")

    async def _unused(self, uris: Sequence[str]) -> list[str]:
        used = await self._table.used_uris(uris) if uris else set()
        return [uri for uri in uris if uri not in used]
