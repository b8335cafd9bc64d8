"""What one table has and another lacks, told by ids and times of change alone. Knows no store and no vector.

A row that is encoded anew keeps its `updated_at`. So a row is up to date where both tables have the same time for it: this holds
across restored snapshots and imports, whatever clocks say, and needs no other memory of what was done. 16 bytes a row are held.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Marks: TypeAlias = AsyncIterator[tuple[list[str], npt.NDArray[np.int64]]]
"""Ids and times of rows, some at a time."""
Hashes: TypeAlias = npt.NDArray[np.uint64]
FEW = 4096
_NOTHING = np.empty(0, np.uint64)


@dataclass(frozen=True, slots=True)
class RowTimes:
    """When rows were changed, by the sorted hashes of their ids."""

    hashes: Hashes
    times: npt.NDArray[np.int64]

    def has(self, hashes: Hashes, times: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.bool_]:
        """For each row whether it is here, with the same time if times are given."""
        if not len(self.hashes):
            return np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        found: npt.NDArray[np.bool_] = self.hashes[at] == hashes
        return found if times is None else found & (self.times[at] == times)

    def only(self, ids: Sequence[str]) -> "RowTimes":
        """Of those of these rows that are here."""
        kept = np.isin(self.hashes, hashes_of(ids))
        return RowTimes(self.hashes[kept], self.times[kept])

    def then(self, later: "RowTimes") -> "RowTimes":
        """Both; of rows that are in both the later times."""
        kept = ~np.isin(self.hashes, later.hashes)
        return _sorted([self.hashes[kept], later.hashes], [self.times[kept], later.times])


NO_ROWS = RowTimes(_NOTHING, np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Delta:
    """`changed`: rows that are to be done, `ids`: which, if they are few. `gone`: ids that are in the other table only."""

    changed: RowTimes
    ids: tuple[str, ...] | None
    gone: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.changed.hashes) + len(self.gone)


async def delta_between(old: Callable[[], Marks], new: Callable[[], Marks], failed: RowTimes) -> Delta:
    """What has to be done for `new` to hold the rows of `old`. `failed`: rows that could not be done, as they were then."""
    there = await times_of(new())
    present: list[Hashes] = []
    hashes: list[Hashes] = []
    times: list[npt.NDArray[np.int64]] = []
    ids: list[str] | None = []
    async for row_ids, row_times in old():
        row_hashes = hashes_of(row_ids)
        present.append(row_hashes)
        todo = ~there.has(row_hashes, row_times) & ~failed.has(row_hashes, row_times)
        hashes.append(row_hashes[todo])
        times.append(row_times[todo])
        if ids is not None:
            ids += [row_ids[at] for at in np.flatnonzero(todo)]
            ids = ids if len(ids) <= FEW else None
    kept = np.sort(np.concatenate(present)) if present else _NOTHING
    gone = await _ids_without(new(), RowTimes(kept, np.zeros(len(kept), np.int64)), there)
    return Delta(_sorted(hashes, times), None if ids is None else tuple(ids), gone)


async def times_of(marks: Marks) -> RowTimes:
    hashes: list[Hashes] = []
    times: list[npt.NDArray[np.int64]] = []
    async for row_ids, row_times in marks:
        hashes.append(hashes_of(row_ids))
        times.append(row_times)
    return _sorted(hashes, times)


def hashes_of(ids: Sequence[str]) -> Hashes:
    """64 bits of each id: at 100 million ids the chance that any two of them share a hash is one in four thousand."""
    digests = (hashlib.blake2b(each.encode(errors="surrogatepass"), digest_size=8).digest() for each in ids)
    return np.frombuffer(b"".join(digests), np.uint64)


async def _ids_without(marks: Marks, kept: RowTimes, there: RowTimes) -> tuple[str, ...]:
    if kept.has(there.hashes).all():
        return ()
    gone: list[str] = []
    async for row_ids, _ in marks:
        lost = ~kept.has(hashes_of(row_ids))
        gone += [row_ids[at] for at in np.flatnonzero(lost)]
    return tuple(gone)


def _sorted(hashes: Sequence[Hashes], times: Sequence[npt.NDArray[np.int64]]) -> RowTimes:
    if not hashes:
        return NO_ROWS
    all_hashes, all_times = np.concatenate(hashes), np.concatenate(times)
    order = np.argsort(all_hashes)
    return RowTimes(all_hashes[order], all_times[order])
