"""Manifests and datasets in columns: Parquet by row groups, and the Arrow shards of `datasets`' save_to_disk.

Only the part asked for is decoded, a bounded number of rows at a time. What is damaged ends its part, and is said.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serve_app.adapters.object_files import StoredFile
from serve_app.adapters.sources.features import features_of
from serve_app.adapters.sources.mapping import RowMapping
from serve_app.adapters.sources.parts import PART_ROWS, batches, failed_part, failure, part
from serve_app.adapters.sources.places import Named, named_files, open_files
from serve_app.adapters.sources.spec import SourceSpec
from serve_app.core.source_items import SourceFailure, SourceItem, SourcePart
from serve_app.errors import InvalidSource, SourceNotFound, UnreadableSource

PARQUET_SUFFIXES = (".parquet",)
ARROW_SUFFIXES = (".arrow",)
READ_ROWS = 64  # of pictures of a megabyte each no more are to be in memory at once
STREAM_BYTES = 1024 * 1024
FOREIGN = (pa.ArrowException, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of a file. `group`: a row group of Parquet, or None for Arrow. `first`: number of its first row in the file.

    `skipped`: rows of the group before it. `count`: None for all that follow.
    """

    name: str
    uri: str
    group: int | None
    first: int
    skipped: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Columnar:
    """Implements core.source_items.Source. An item's key is `train.parquet#12`, with the number of its row from 0."""

    spec: SourceSpec
    is_parquet: bool

    def check(self) -> None:
        """Raises InvalidSource if there is no such file, or the first has not the columns that are named."""
        for named in self._files():
            if named.file is not None:
                self._check_columns(named.file)
                return
        what = "Parquet" if self.is_parquet else "saved dataset"
        raise InvalidSource(f"there is no {what} below {', '.join(self.spec.locations)}")

    def parts(self) -> Iterator[SourcePart]:
        for named in self._files():
            if named.file is None:
                yield failed_part(named.name, SourceNotFound(f"nothing lies under {named.name}"))
                continue
            try:
                self._check_columns(named.file)
                for stretch in self._stretches(named.name, named.file):
                    name = f"{named.name}#{stretch.first}"
                    yield part(name, named.file.uri, named.file.size, named.file.tag, stretch, content=stretch)
            except InvalidSource as error:
                yield failed_part(named.name, error)

    def read_part(self, part: SourcePart) -> Iterator[pa.Table | SourceFailure]:
        if isinstance(part.content, SourceFailure):
            yield part.content
            return
        yield from batches(self._items(part.content))

    def _files(self) -> Iterator[Named]:
        for named in named_files(self.spec, PARQUET_SUFFIXES if self.is_parquet else ARROW_SUFFIXES):
            # What `datasets` leaves of its own computations beside the data.
            if named.file is None or not named.file.name.startswith("cache-"):
                yield named

    def _check_columns(self, file: StoredFile) -> None:
        with _readable(file.name), open_files(self.spec).open(file.uri, STREAM_BYTES) as opened:
            schema = pq.ParquetFile(opened).schema_arrow if self.is_parquet else _arrow(opened)[0]
        RowMapping(self.spec, "", schema.names, features_of(schema).pictures)

    def _stretches(self, name: str, file: StoredFile) -> Iterator[Stretch]:
        if not self.is_parquet:
            yield Stretch(name, file.uri, None, 0, 0, None)
            return
        with _readable(file.name), open_files(self.spec).open(file.uri, STREAM_BYTES) as opened:
            footer = pq.ParquetFile(opened).metadata
            counts = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        first = 0
        for group, count in enumerate(counts):
            for skipped in range(0, count, PART_ROWS):
                yield Stretch(name, file.uri, group, first + skipped, skipped, min(PART_ROWS, count - skipped))
            first += count

    def _items(self, stretch: Stretch) -> Iterator[SourceItem | SourceFailure]:
        at = stretch.first
        try:
            for mapping, rows in self._rows(stretch):
                for row in rows:
                    yield mapping.item(f"{stretch.name}#{at}", row)
                    at += 1
        except UnreadableSource as error:
            yield failure(f"{stretch.name}#{at}", error)

    def _rows(self, stretch: Stretch) -> Iterator[tuple[RowMapping, list[Any]]]:
        base = stretch.uri.rpartition("/")[0]
        with _readable(stretch.name), open_files(self.spec).open(stretch.uri) as opened:
            if stretch.group is None:
                schema, found = _arrow(opened)
            else:
                file = pq.ParquetFile(opened, buffer_size=STREAM_BYTES, page_checksum_verification=True)
                schema = file.schema_arrow
                found = file.iter_batches(READ_ROWS, row_groups=[stretch.group])
            features = features_of(schema)
            mapping = RowMapping(self.spec, base, schema.names, features.pictures)
            named = features.named()
            for batch in _cut(found, stretch.skipped, stretch.count):
                yield mapping, [named(row) for row in batch.to_pylist()]


def _cut(found: Iterator[pa.RecordBatch], skipped: int, count: int | None) -> Iterator[pa.RecordBatch]:
    """`count` rows after the first `skipped`, in small batches."""
    end = None if count is None else skipped + count
    at = 0
    for batch in found:
        first, last = max(skipped - at, 0), len(batch) if end is None else min(end - at, len(batch))
        at += len(batch)
        for start in range(first, last, READ_ROWS):
            yield batch.slice(start, min(READ_ROWS, last - start))
        if end is not None and at >= end:
            return


def _arrow(opened: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Schema and batches of an Arrow file, in the format of streams or of files."""
    magic = opened.read(6)
    opened.seek(0)
    if magic == b"ARROW1":
        file = pa.ipc.open_file(opened)
        return file.schema, (file.get_batch(at) for at in range(file.num_record_batches))
    stream = pa.ipc.open_stream(opened)
    return stream.schema, iter(stream)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Arrow's errors as ours. What a caller raises while rows are handed out is its own, and of our tree."""
    try:
        yield
    except FOREIGN as error:
        raise UnreadableSource(f"{name} cannot be read any further: {str(error).splitlines()[0][:200]}") from error
