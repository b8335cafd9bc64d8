"""A table of ours as a source: its documents in the order of their ids, with the times at which they came.

Parts are ranges of ids, read from the table as it is at that moment: what is written meanwhile is read or not, and nothing twice.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import pyarrow as pa

from serve_app.adapters.sources.parts import PART_ROWS, batches, failure, part
from serve_app.adapters.sources.spec import SourceSpec
from serve_app.core.source_items import SourceFailure, SourceItem, SourcePart
from serve_app.errors import InvalidRow, SourceNotFound
from serve_app.types import Compare, Filter, Modality, Operator, StoredDocument

if TYPE_CHECKING:
    from serve_app.adapters.lance_table import LanceTable

READ_ROWS = 256


@dataclass(frozen=True, slots=True)
class OwnTable:
    """Implements core.source_items.Source. An item's key is its id."""

    spec: SourceSpec

    def check(self) -> None:
        """Raises SourceNotFound if there is no such table, FingerprintMismatch if it is not ours."""
        if asyncio.run(self._open().head()).fingerprint is None:
            raise SourceNotFound(f"there is no table {self._named()[1]} under {self._named()[0]}")

    def parts(self) -> Iterator[SourcePart]:
        marks: list[str | None] = list(asyncio.run(self._open().id_marks(PART_ROWS)))
        uri, name = self._named()
        for after, last in pairwise(chain([None], marks, [None])):
            yield part(f"{name}>{after or ''}", uri, name, after, last, content=(after, last))

    def read_part(self, part: SourcePart) -> Iterator[pa.Table | SourceFailure]:
        with asyncio.Runner() as runner:
            rows = self._rows(*part.content)

            def found() -> Iterator[SourceItem | SourceFailure]:
                while portion := runner.run(anext(rows, None)):
                    yield from map(_item, portion)

            yield from batches(found())

    async def _rows(self, after: str | None, last: str | None) -> AsyncIterator[list[StoredDocument]]:
        table = self._open()
        until: Filter | None = None if last is None else Compare("id", Operator.LTE, last)
        while portion := await table.find(until, READ_ROWS, after):
            yield portion
            after = portion[-1].document.id

    def _open(self) -> "LanceTable":
        # Here and not above: other sources need no LanceDB, and its warnings of processes that are started after it.
        from serve_app.adapters.lance_table import LanceTable

        uri, name = self._named()
        return LanceTable(uri, name, self.spec.options)

    def _named(self) -> tuple[str, str]:
        """The database and the table in it; `.../documents.lance` says both."""
        location = self.spec.locations[0].rstrip("/")
        folder, _, name = location.rpartition("/")
        return (folder or ".", name.removesuffix(".lance")) if name.endswith(".lance") else (location, self.spec.table)


def _item(row: StoredDocument) -> SourceItem | SourceFailure:
    document = row.document
    if document.modality is Modality.VIDEO_FRAME:
        return failure(document.id, InvalidRow("a frame of a video is no source; give the video again"))
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in document.fields.items()}
    said = {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in fields.items()}
    return SourceItem(
        key=document.id,
        id=document.id,
        uri=document.uri,
        text=document.text,
        metadata=document.metadata,
        fields=said,
        created_at=document.created_at,
    )
