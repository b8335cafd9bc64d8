"""The URIs that rows point to: where a picture or a video lies, and the kept picture of a frame. Knows nothing else of rows."""

from collections.abc import Sequence

import lancedb

_URI_COLUMNS = ("uri", "thumbnail_uri")
_URIS_PER_READ = 1000


async def uri_columns(table: lancedb.AsyncTable) -> list[str]:
    """Those that this version of the table has."""
    present = (await table.schema()).names
    return [column for column in _URI_COLUMNS if column in present]


async def pointed_to(table: lancedb.AsyncTable, uris: Sequence[str]) -> set[str]:
    """Those of these URIs that a row points to."""
    found: set[str] = set()
    for column in await uri_columns(table):
        for start in range(0, len(uris), _URIS_PER_READ):
            asked = lancedb.col(column).isin(list(uris[start : start + _URIS_PER_READ]))
            found.update((await table.query().where(asked).select([column]).to_arrow())[column].to_pylist())
    return found
