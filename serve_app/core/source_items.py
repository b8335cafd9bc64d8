"""What bulk work reads, before anything is fetched or encoded: one row per document, as Arrow carries it. Knows no source."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa

from serve_app.core.columns import INSTANT

SOURCE_SCHEMA = pa.schema(
    [
        # What reports and checkpoints call the item; unique in its source: "s3://b/a.jpg", "captions.csv#12", "0001.tar#a".
        pa.field("key", pa.string(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("uri", pa.string()),
        # The picture's bytes where the source holds them (tars, datasets); without a `uri` the service keeps the picture.
        pa.field("data", pa.large_binary()),
        pa.field("text", pa.string()),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("fields", pa.string(), nullable=False),
        # Only of a source that knows it, as another table of ours does.
        pa.field("created_at", INSTANT),
    ]
)


@dataclass(frozen=True, slots=True)
class SourceItem:
    """A document to be, as its source describes it. `fields` hold JSON values; core.fields checks them."""

    key: str
    id: str | None = None
    uri: str | None = None
    data: bytes | None = None
    text: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """What a source holds and cannot give: a row, a member of an archive, or the rest of a file. `code`: of serve_app.errors."""

    key: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A bounded share of a source, small and picklable. The same source has the same parts; one that changed, another `key`.

    `content` is for the source that made it, or the failure of what should have been there.
    """

    key: str
    content: Any


class Source(Protocol):
    """Where documents come from. Picklable: listed in one process, read in many."""

    def parts(self) -> Iterator[SourcePart]:
        """All of it, lazily and in order. Raises an error of ours where nothing can be read at all."""
        ...

    def read_part(self, part: SourcePart) -> Iterator[pa.Table | SourceFailure]:
        """Tables of SOURCE_SCHEMA, bounded in rows and bytes, in order, and what failed in between."""
        ...


def items_to_rows(items: Iterable[SourceItem]) -> pa.Table:
    """A table of SOURCE_SCHEMA. Raises ValueError for metadata or fields that are no JSON."""
    return pa.Table.from_pylist(
        [
            {
                "key": item.key,
                "id": item.id,
                "uri": item.uri,
                "data": item.data,
                "text": item.text,
                "metadata": json.dumps(item.metadata, ensure_ascii=False, allow_nan=False),
                "fields": json.dumps(item.fields, ensure_ascii=False, allow_nan=False),
                "created_at": item.created_at,
            }
            for item in items
        ],
        schema=SOURCE_SCHEMA,
    )


def rows_to_items(rows: pa.Table) -> list[SourceItem]:
    """The items of a table of SOURCE_SCHEMA."""
    return [
        SourceItem(**{**row, "metadata": json.loads(row["metadata"]), "fields": json.loads(row["fields"])})
        for row in rows.to_pylist()
    ]
