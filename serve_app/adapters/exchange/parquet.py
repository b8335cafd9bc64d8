"""Rows of the table as Parquet files, and back, bit for bit. Memory is bounded by a row group, however many rows there are.

Knows no table: rows come and go as Arrow has them. Pages carry checksums, so a damaged row group is told from a good one.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.parquet as pq

from serve_app.adapters.exchange.damage import readable
from serve_app.adapters.object_files import ObjectFiles
from serve_app.adapters.object_writing import ObjectWriting
from serve_app.core.manifests import EXPORT_KEY, MANIFEST, ExportedFile, ExportManifest, manifest_from_json
from serve_app.core.records import table_schema
from serve_app.core.row_checks import Portion, RowFailure, fitted
from serve_app.errors import CrossmodalError, InvalidSource, SourceNotFound, UnreadableSource
from serve_app.types import ItemFailure

GROUP_ROWS = 8_192
FILE_ROWS = 262_144
MANIFEST_BYTES = 64 * 1024 * 1024


class ParquetSink:
    """Takes rows and writes `documents-00000.parquet` and so on, each with many row groups."""

    target = "parquet"

    def __init__(self, writing: ObjectWriting, manifest: ExportManifest, file_rows: int = FILE_ROWS) -> None:
        schema = table_schema(manifest.identity, manifest.fields)
        self._schema = schema.with_metadata({**schema.metadata, EXPORT_KEY: manifest.id.encode()})
        self._writing = writing
        self._file_rows = file_rows
        self._rows: list[int] = []
        self._open = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def write(self, rows: pa.Table) -> None:
        self._waiting.append(fitted(rows, self._schema))
        while sum(map(len, self._waiting)) >= GROUP_ROWS:
            self._write_group()

    def close(self) -> list[ExportedFile]:
        """What was written; files without rows are none."""
        while self._waiting:
            self._write_group()
        self._open.close()
        return [
            ExportedFile(file.name, file.size, file.sha256, rows)
            for file, rows in zip(self._writing.files, self._rows, strict=True)
        ]

    def _write_group(self) -> None:
        found = pa.concat_tables(self._waiting)
        group, rest = found.slice(0, GROUP_ROWS), found.slice(GROUP_ROWS)
        self._waiting = [rest] if len(rest) else []
        writer = self._writer
        if writer is None or self._rows[-1] >= self._file_rows:
            writer = self._writer = self._next_file()
        writer.write_table(group.combine_chunks(), row_group_size=GROUP_ROWS)
        self._rows[-1] += len(group)

    def _next_file(self) -> pq.ParquetWriter:
        self._open.close()
        file = self._open.enter_context(self._writing.create(f"documents-{len(self._rows):05}.parquet"))
        self._rows.append(0)
        # Vectors are noise to a compressor and to a dictionary: both would only cost time.
        plain = [column.name for column in self._schema if column.name != "vector"]
        writer = pq.ParquetWriter(
            file,
            self._schema,
            compression={**dict.fromkeys(plain, "zstd"), "vector": "none"},
            use_dictionary=[name for name in plain if name not in ("id", "text", "content_sha256")],
            write_statistics=plain,
            write_page_checksum=True,
        )
        return self._open.enter_context(writer)


class ParquetExport:
    """An export that lies in a folder or under a prefix. Raises SourceNotFound where none lies, or one that was broken off."""

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        self._uri = uri.rstrip("/")
        self._files = ObjectFiles(uri, options)
        data = self._files.read(f"{self._uri}/{MANIFEST}", MANIFEST_BYTES)
        if data is None:
            raise SourceNotFound(
                f"no export lies under {uri}: {MANIFEST} is missing, as where an export was broken off; other Parquet is for "
                "crossmodal ingest"
            )
        self.manifest = manifest_from_json(data)
        if self.manifest.target != ParquetSink.target:
            raise InvalidSource(
                f"the export under {uri} is one for {self.manifest.target}, and only those to parquet come back"
            )

    @staticmethod
    def lies_at(uri: str, options: Mapping[str, str] | None = None) -> bool:
        """Whether a manifest lies there."""
        return ObjectFiles(uri, options).find(f"{uri.rstrip('/')}/{MANIFEST}") is not None

    def rows(self, batch_rows: int) -> Iterator[Portion | RowFailure]:
        """Every row in order, in the columns of core.records.table_schema; what cannot be read is a failure of its place."""
        for file in self.manifest.files:
            try:
                yield from self._rows_of(file, batch_rows)
            except CrossmodalError as error:
                yield RowFailure(file.name, ItemFailure(error.code, error.message), file.rows or 0)

    def _rows_of(self, file: ExportedFile, batch_rows: int) -> Iterator[Portion | RowFailure]:
        with self._files.open(f"{self._uri}/{file.name}") as opened:
            with readable(file.name):
                found = pq.ParquetFile(opened, page_checksum_verification=True)
                self._check(file, found)
            first = 0
            for group in range(found.metadata.num_row_groups):
                count = found.metadata.row_group(group).num_rows
                try:
                    yield from self._group(found, group, file.name, first, batch_rows)
                except UnreadableSource as error:
                    yield RowFailure(f"{file.name}#{first}", ItemFailure(error.code, error.message), count)
                first += count

    def _group(
        self, found: pq.ParquetFile, group: int, name: str, first: int, batch_rows: int
    ) -> Iterator[Portion | RowFailure]:
        """A row group is read whole before any of it is given, so that a damaged one gives nothing."""
        schema = table_schema(self.manifest.identity, self.manifest.fields)
        with readable(f"{name}#{first}"):
            rows = fitted(found.read_row_group(group), schema)
            rows.validate(full=True)
        for start in range(0, len(rows), batch_rows):
            yield Portion(name, first + start, rows.slice(start, batch_rows))

    def _check(self, file: ExportedFile, found: pq.ParquetFile) -> None:
        said = (found.schema_arrow.metadata or {}).get(EXPORT_KEY, b"").decode()
        if said != self.manifest.id:
            raise InvalidSource(f"{file.name} is a file of another export than the manifest beside it")
        if found.metadata.num_rows != file.rows:
            raise UnreadableSource(f"{file.name} has {found.metadata.num_rows:,} rows, the manifest says {file.rows:,}")
