"""What clip-retrieval has written: `img_emb/img_emb_0.npy`, `text_emb/text_emb_0.npy`, `metadata/metadata_0.parquet`, and so on.

Row i of the three belongs together. A shard is read a portion of rows at a time, from disk as from a bucket. The files do not say
which model made the vectors: the caller knows, and finds in `samples` what can be compared. Fetches no picture.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from serve_app.adapters.exchange.clip_records import ClipRow, ClipRules, record_of_row
from serve_app.adapters.exchange.damage import readable
from serve_app.adapters.exchange.npy_rows import NpyRows
from serve_app.adapters.object_files import ObjectFiles, StoredFile
from serve_app.adapters.sources import SourceSpec
from serve_app.adapters.sources.mapping import RowMapping
from serve_app.core.failures import failure_of
from serve_app.core.row_checks import RowFailure
from serve_app.core.source_items import SourceFailure
from serve_app.errors import CrossmodalError, InvalidRow, InvalidSource, SourceNotFound, UnreadableSource
from serve_app.types import FieldType, ItemFailure, Modality, Record

IMAGES, TEXTS, METADATA = "img_emb", "text_emb", "metadata"
KINDS: Mapping[Modality, tuple[str, ...]] = {
    Modality.IMAGE: (IMAGES,),
    Modality.TEXT: (TEXTS,),
    Modality.IMAGE_TEXT: (IMAGES, TEXTS),
}
_SHARD = re.compile(r"\w+_(\d+)\.(?:npy|parquet)")
_ADDRESSES, _CAPTIONS = ("url", "image_path"), ("caption", "text")
# Where relative paths are said to begin, until somebody says where they do.
_NOWHERE = "nowhere://at-all"


@dataclass(frozen=True, slots=True)
class ClipLayout:
    """`columns`: role or declared field to column, where it is not the usual one. `base_uri`: where relative paths begin."""

    location: str
    columns: Mapping[str, str] = field(default_factory=dict)
    base_uri: str | None = None
    fields: Mapping[str, FieldType] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


class ClipRetrieval:
    """Raises InvalidSource where the folder is none of clip-retrieval's."""

    def __init__(self, layout: ClipLayout) -> None:
        self._layout = layout
        self._files = ObjectFiles(layout.location, layout.options)
        folder = layout.location.rstrip("/")
        self._shards = {kind: self._listed(f"{folder}/{kind}") for kind in (IMAGES, TEXTS, METADATA)}
        if not self._shards[METADATA] or not (self._shards[IMAGES] or self._shards[TEXTS]):
            raise InvalidSource(
                f"nothing of clip-retrieval lies under {layout.location}: it writes {METADATA}/{METADATA}_0.parquet and "
                f"{IMAGES}/{IMAGES}_0.npy, {TEXTS}/{TEXTS}_0.npy or both"
            )

    @staticmethod
    def lies_at(location: str, options: Mapping[str, str] | None = None) -> bool:
        """Whether a folder looks like one of clip-retrieval's."""
        try:
            found = ObjectFiles(location, options).below(f"{location.rstrip('/')}/{METADATA}")
            return any(_SHARD.fullmatch(file.name) for file in islice(found, 8))
        except SourceNotFound:
            return False

    def taken(self, wanted: str | None) -> Modality:
        """What documents are to be made: as wanted, by default pictures where there are any. Raises InvalidSource."""
        there = [modality for modality, kinds in KINDS.items() if all(self._shards[kind] for kind in kinds)]
        if wanted is not None and wanted not in there:
            raise InvalidSource(
                f"documents of the kind {wanted!r} cannot be taken from {self._layout.location}, only: {', '.join(there)}"
            )
        return there[0] if wanted is None else Modality(wanted)

    def dimension(self, take: Modality) -> int:
        """How many numbers the vectors of the first shard have."""
        file = next(iter(self._shards[KINDS[take][0]].values()))
        with self._files.open(file.uri) as opened, readable(file.path):
            return NpyRows(opened, file.path).dimension

    def samples(self, take: Modality, count: int) -> list[ClipRow]:
        """The first rows with something to compare: a caption and its vector where there are such, else pictures."""
        number = next(iter(self._shards[METADATA]))
        kind = TEXTS if take is not Modality.IMAGE or number in self._shards[TEXTS] else IMAGES
        rows = (row for part in self._rows(number, (kind,), None, count) for row in part if isinstance(row, ClipRow))
        return list(islice((row for row in rows if row.item.text or row.image is not None), count))

    def records(self, batch_rows: int, rules: ClipRules, dimension: int) -> Iterator[list[Record] | RowFailure]:
        """Everything, in the order of the shards; of what cannot be read, why."""
        for number, file in self._shards[METADATA].items():
            done = 0
            try:
                for rows in self._rows(number, KINDS[rules.take], dimension, batch_rows):
                    done += len(rows)
                    yield from _records(rows, rules)
            except (UnreadableSource, InvalidSource) as error:
                yield RowFailure(f"{file.name}#{done}", failure_of(error))

    def _rows(
        self, number: str, kinds: Sequence[str], dimension: int | None, batch_rows: int
    ) -> Iterator[list[ClipRow | RowFailure]]:
        file = self._shards[METADATA][number]
        with ExitStack() as stack:
            found = {kind: self._vectors(stack, kind, number, dimension) for kind in kinds}
            opened = stack.enter_context(self._files.open(file.uri))
            with readable(file.name):
                metadata = pq.ParquetFile(opened)
            for vectors in found.values():
                if vectors.count != metadata.metadata.num_rows:
                    raise UnreadableSource(
                        f"{file.name} has {metadata.metadata.num_rows:,} rows, and there are {vectors.count:,} vectors to it"
                    )
            read = self._reading(metadata.schema_arrow.names)
            first = 0
            for batch in _batches(metadata, batch_rows, file.name):
                rows = [read(f"{file.name}#{first + at}", row) for at, row in enumerate(batch)]
                matrices = {kind: vectors.next(len(batch)) for kind, vectors in found.items()}
                yield [
                    row
                    if isinstance(row, RowFailure)
                    else replace(
                        row,
                        image=matrices[IMAGES][at] if IMAGES in matrices else None,
                        text=matrices[TEXTS][at] if TEXTS in matrices else None,
                    )
                    for at, row in enumerate(rows)
                ]
                first += len(batch)

    def _vectors(self, stack: ExitStack, kind: str, number: str, dimension: int | None) -> NpyRows:
        file = self._shards[kind].get(number)
        if file is None:
            raise UnreadableSource(f"there are no vectors {kind}_{number}.npy")
        opened = stack.enter_context(self._files.open(file.uri))
        with readable(file.name):
            vectors = NpyRows(opened, file.name)
        if dimension is not None and vectors.dimension != dimension:
            raise InvalidSource(
                f"the vectors of {file.name} have {vectors.dimension} numbers, the table wants {dimension}"
            )
        return vectors

    def _reading(self, names: Sequence[str]) -> Callable[[str, Mapping[str, Any]], ClipRow | RowFailure]:
        """How a row of metadata is read, by the columns that it has."""
        layout = self._layout
        usual = {"uri": _first(_ADDRESSES, names), "text": _first(_CAPTIONS, names)}
        columns = {**{role: name for role, name in usual.items() if name}, **layout.columns}
        spec = SourceSpec((layout.location,), columns=columns, fields=layout.fields, base_uri=layout.base_uri)
        mapping = RowMapping(spec, _NOWHERE, names, unusual=("id", "image"))

        def read(key: str, row: Mapping[str, Any]) -> ClipRow | RowFailure:
            address = row.get(columns.get("uri", ""))
            if isinstance(address, str) and address.startswith("/"):
                row = {**row, columns["uri"]: Path(address).as_uri()}
            item = mapping.item(key, row)
            if isinstance(item, SourceFailure):
                return RowFailure(key, ItemFailure(item.code, item.message))
            if item.uri is not None and item.uri.startswith(_NOWHERE):
                item = replace(item, uri=None, metadata={**item.metadata, columns["uri"]: address})
            return ClipRow(item, address, None, None)

        return read

    def _listed(self, folder: str) -> dict[str, StoredFile]:
        try:
            files = [(found, file) for file in self._files.below(folder) if (found := _SHARD.fullmatch(file.name))]
        except SourceNotFound:
            return {}
        return {found[1]: file for found, file in sorted(files, key=lambda each: int(each[0][1]))}


def _records(rows: Sequence[ClipRow | RowFailure], rules: ClipRules) -> Iterator[list[Record] | RowFailure]:
    records: dict[str, Record] = {}
    for row in rows:
        if isinstance(row, RowFailure):
            yield row
            continue
        try:
            record = record_of_row(row, rules)
            if record.id in records:
                raise InvalidRow("an earlier row has the same id, and stands for both")
        except CrossmodalError as error:
            yield RowFailure(row.item.key, failure_of(error))
        else:
            records[record.id] = record
    yield list(records.values())


def _batches(file: pq.ParquetFile, batch_rows: int, name: str) -> Iterator[list[dict[str, Any]]]:
    columns = [column for column in file.schema_arrow.names if not column.startswith("__index_level_")]
    batches = file.iter_batches(batch_rows, columns=columns)
    while True:
        with readable(name):
            batch = next(batches, None)
            rows = None if batch is None else batch.to_pylist()
        if rows is None:
            return
        yield rows


def _first(usual: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in usual if name in names), None)
