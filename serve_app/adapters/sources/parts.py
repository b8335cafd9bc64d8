"""Parts and batches: what all sources share. Bounds are here: of rows and bytes in a batch, of rows in a part."""

import hashlib
import json
from collections.abc import Iterable, Iterator

import pyarrow as pa

from serve_app.core.source_items import SourceFailure, SourceItem, SourcePart, items_to_rows
from serve_app.errors import CrossmodalError, InvalidRow

BATCH_ROWS = 256
BATCH_BYTES = 16 * 1024 * 1024
PART_ROWS = 1000


def part(name: str, *identity: object, content: object) -> SourcePart:
    """`identity`: all that the part's items depend on."""
    digest = hashlib.sha256("\n".join(map(str, identity)).encode(errors="surrogatepass")).hexdigest()
    return SourcePart(f"{name}@{digest[:16]}", content)


def failure(key: str, error: CrossmodalError) -> SourceFailure:
    return SourceFailure(key, error.code, error.message)


def failed_part(key: str, error: CrossmodalError) -> SourcePart:
    return part(key, error.message, content=failure(key, error))


def batches(found: Iterable[SourceItem | SourceFailure]) -> Iterator[pa.Table | SourceFailure]:
    """Items as tables, none of them larger than told above unless one item is. Failures come as they are met."""
    items: list[SourceItem] = []
    held = 0
    for each in map(_checked, found):
        if isinstance(each, SourceFailure):
            yield each
            continue
        size = len(each.data or b"") + 4 * len(each.text or "")
        if items and (held + size > BATCH_BYTES or len(items) == BATCH_ROWS):
            yield items_to_rows(items)
            items, held = [], 0
        items.append(each)
        held += size
    if items:
        yield items_to_rows(items)


def _checked(item: SourceItem | SourceFailure) -> SourceItem | SourceFailure:
    """What Arrow or JSON cannot say would spoil the batch of its neighbours."""
    if isinstance(item, SourceFailure):
        return item
    try:
        said = json.dumps(
            [item.id, item.uri, item.text, item.metadata, item.fields], ensure_ascii=False, allow_nan=False
        )
        said.encode()
    except (ValueError, TypeError, RecursionError) as error:
        what = "text that is not UTF-8" if isinstance(error, UnicodeEncodeError) else "a value that JSON cannot say"
        return failure(item.key, InvalidRow(f"the row holds {what}"))
    return item
