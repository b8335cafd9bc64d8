"""How many rows a filter leaves: what decides how an index is asked. Only speed and recall depend on it, never what is right."""

import time
from collections.abc import Callable

import lancedb

from serve_app.adapters.lance_table.filters import Predicate
from serve_app.core.index_policy import SPARSE_ROWS
from serve_app.types import Filter, Modality

_KEPT = 1_000
# Counting a wide filter costs half a search, and filters come again. A table hardly changes its shape within a minute.
_FRESH_S = 60.0


class FilterWidths:
    """Rows of a modality that match a filter, up to one more than SPARSE_ROWS; kept for a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[Modality, Filter], tuple[float, int]] = {}

    async def of(self, table: lancedb.AsyncTable, modality: Modality, where: Filter, predicate: Predicate) -> int:
        """`predicate`: the filter and the modality, as LanceDB takes them."""
        counted_at, rows = self._known.get((modality, where), (float("-inf"), 0))
        if self._clock() - counted_at < _FRESH_S:
            return rows
        # LanceDB counts by a filter only if that is SQL.
        found = await table.query().where(predicate).select(["modality"]).limit(SPARSE_ROWS + 1).to_arrow()
        while len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[modality, where] = self._clock(), len(found)
        return len(found)
