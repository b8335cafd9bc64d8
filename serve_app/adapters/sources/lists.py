"""Manifests of lines: JSONL and CSV, also compressed with gzip. One pass: parts carry their rows, so nothing is read twice.

Rows are cut here and understood where the part is read. A line that is broken, or longer than any document, fails alone.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias, cast

import pyarrow as pa

from serve_app.adapters.object_files import StoredFile
from serve_app.adapters.sources.mapping import RowMapping
from serve_app.adapters.sources.parts import PART_ROWS, batches, failed_part, failure, part
from serve_app.adapters.sources.places import Named, named_files, open_files
from serve_app.adapters.sources.spec import SourceSpec
from serve_app.core.source_items import SourceFailure, SourceItem, SourcePart
from serve_app.errors import CrossmodalError, InvalidRow, InvalidSource, SourceNotFound, UnreadableSource

MAX_LINE_BYTES = 16 * 1024 * 1024
PART_BYTES = 1024 * 1024
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)

Row: TypeAlias = tuple[int, Any]
"""The number of the line, and what it holds: bytes of JSONL, cells of a CSV, or the error that it is."""


@dataclass(frozen=True, slots=True)
class Rows:
    """`header`: of a CSV. `base`: where relative URIs begin."""

    name: str
    base: str
    header: tuple[str, ...] | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Implements core.source_items.Source. An item's key is `captions.csv#12`, with the number of its line."""

    spec: SourceSpec
    is_csv: bool

    def check(self) -> None:
        """Raises InvalidSource if there is no manifest, or the first has not the columns that are named."""
        for named in self._files():
            if named.file is not None:
                with self._open(named.file) as file:
                    self._begin(named.file, file)
                return
        raise InvalidSource(f"there is no {'CSV' if self.is_csv else 'JSONL'} below {', '.join(self.spec.locations)}")

    def parts(self) -> Iterator[SourcePart]:
        for named in self._files():
            if named.file is None:
                yield failed_part(named.name, SourceNotFound(f"nothing lies under {named.name}"))
                continue
            try:
                with self._open(named.file) as file:
                    yield from self._parts_of(named.name, named.file, file)
            except InvalidSource as error:
                yield failed_part(named.name, error)

    def read_part(self, part: SourcePart) -> Iterator[pa.Table | SourceFailure]:
        if isinstance(part.content, SourceFailure):
            yield part.content
            return
        content: Rows = part.content
        mapping = RowMapping(self.spec, content.base, content.header)
        yield from batches(_item(mapping, content, *row) for row in content.rows)

    def _files(self) -> Iterator[Named]:
        endings = (".csv", ".tsv") if self.is_csv else (".jsonl", ".ndjson")
        return named_files(self.spec, tuple(ending + packed for ending in endings for packed in ("", ".gz")))

    def _open(self, file: StoredFile) -> BinaryIO:
        opened = open_files(self.spec).open(file.uri)
        return cast(BinaryIO, gzip.GzipFile(fileobj=opened)) if file.name.lower().endswith(".gz") else opened

    def _begin(self, stored: StoredFile, file: BinaryIO) -> tuple[tuple[str, ...] | None, Iterator[Row]]:
        """The header, of a CSV, and the rows. Raises InvalidSource for columns that are not there."""
        header, rows = _csv(file, stored.name) if self.is_csv else (None, _lines(file))
        RowMapping(self.spec, "", header)
        return header, rows

    def _parts_of(self, name: str, stored: StoredFile, file: BinaryIO) -> Iterator[SourcePart]:
        header, rows = self._begin(stored, file)
        base = stored.uri.rpartition("/")[0]
        for cut in _cut(rows):
            content = Rows(name, base, header, cut)
            yield part(f"{name}#{cut[0][0]}", base, header, cut, content=content)


def _cut(rows: Iterator[Row]) -> Iterator[tuple[Row, ...]]:
    cut: list[Row] = []
    held = 0
    for number, row in rows:
        size = sum(map(len, row)) if isinstance(row, tuple) else len(row) if isinstance(row, bytes) else 0
        if cut and (len(cut) == PART_ROWS or held + size > PART_BYTES):
            yield tuple(cut)
            cut, held = [], 0
        cut.append((number, row))
        held += size
    if cut:
        yield tuple(cut)


def _lines(file: BinaryIO) -> Iterator[Row]:
    number = 0
    try:
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield number, InvalidRow(f"the line has more than {MAX_LINE_BYTES:,} bytes")
            elif line.strip():
                yield number, line
    except DAMAGED:
        yield number + 1, UnreadableSource("the compressed file is damaged, or ends too early")


def _csv(file: BinaryIO, name: str) -> tuple[tuple[str, ...], Iterator[Row]]:
    # Bytes that are not UTF-8 pass as surrogates, and fail with their row.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter="\t" if name.lower().removesuffix(".gz").endswith(".tsv") else ",", strict=True)
    try:
        header = tuple(next(reader, ()))
    except (csv.Error, *DAMAGED) as error:
        raise UnreadableSource(f"the first line of {name} cannot be read") from error
    if len(set(header)) != len(header):
        raise InvalidSource(f"two columns of {name} have the same name")

    def rows() -> Iterator[Row]:
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield reader.line_num, InvalidRow(f"the row is not CSV: {error}")
            except DAMAGED:
                yield reader.line_num + 1, UnreadableSource("the compressed file is damaged, or ends too early")
                return
            else:
                if row is None:
                    return
                if row:
                    yield reader.line_num, tuple(row)

    return header, rows()


def _item(mapping: RowMapping, content: Rows, number: int, row: Any) -> SourceItem | SourceFailure:
    key = f"{content.name}#{number}"
    if isinstance(row, CrossmodalError):
        return failure(key, row)
    if content.header is not None:
        if len(row) != len(content.header):
            return failure(key, InvalidRow(f"the row has {len(row)} fields and the first line {len(content.header)}"))
        return mapping.item(key, dict(zip(content.header, row, strict=True)))
    try:
        found = json.loads(row.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "it is not UTF-8"
        return failure(key, InvalidRow(f"the line is not JSON: {why}"))
    if not isinstance(found, dict):
        return failure(key, InvalidRow("the line is not a JSON object"))
    return mapping.item(key, found)
