"""The job `export`: a table, as it is at one moment, to files below a folder or a prefix.

crossmodal export s3://bucket/export                            # here
crossmodal export --address http://head:8265 s3://bucket/export  # on that cluster, followed
ray job submit --working-dir . -- python -m deployments.jobs.export s3://bucket/export

It reads, writes and computes nothing, so it is one process and no pipeline: the storage is what bounds it.
"""

import asyncio
import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import typer
from pydantic import ValidationError

from configs.schema import AppConfig
from deployments.declared import declared_fields
from deployments.jobs.configured import job_configuration, options_for
from deployments.jobs.telling import Teller, telling
from serve_app.adapters.exchange.numpy_files import NumpySink
from serve_app.adapters.exchange.parquet import ParquetSink
from serve_app.adapters.exchange.qdrant_files import QdrantSink
from serve_app.adapters.lance_table import LanceTable
from serve_app.adapters.object_writing import ObjectWriting
from serve_app.cli.common import plain_failures, stdout
from serve_app.cli.exporting import TARGETS, ExportArguments, export_command
from serve_app.core.filters import check_filter
from serve_app.core.manifests import MANIFEST, ExportManifest, manifest_to_json
from serve_app.core.records import TableIdentity
from serve_app.errors import DestinationConflict, InvalidConfig, InvalidFilter, InvalidRequest, NotReady
from serve_app.http.filter_wire import FilterText
from serve_app.services.moving import RowSink, sample_rows, send_rows
from serve_app.types import And, Compare, Filter, JobStatus, Modality, Operator, TableInfo

BATCH_ROWS = 4096
# What a compressed index of FAISS learns its lists and codes from, at most; 256 MB at 512 numbers a vector.
TRAINING_ROWS = 131_072
# LanceDB would read 2 GB ahead of who takes the rows: with that 400,000 rows took 912 MB of memory, with this 614.
READ_AHEAD_BYTES = 32 * 1024 * 1024


def run(arguments: ExportArguments) -> None:
    """Do it, say how it went, and leave with the status that tells a shell."""
    with plain_failures():
        config = job_configuration(arguments.config, arguments.profile)
        with telling("export", "exported", arguments.job_id, config, arguments.table) as teller:
            manifest = asyncio.run(export(arguments, config, teller))
            teller.save(JobStatus.FINISHED, stored=manifest.rows)
    if arguments.json:
        stdout().print_json(manifest_to_json(manifest))
        return
    size = sum(file.size for file in manifest.files)
    stdout().print(
        f"{manifest.rows:,} rows of version {manifest.table_version} exported to {arguments.destination} in "
        f"{teller.seconds:,.1f} s: {len(manifest.files)} files, {size / 1e6:,.1f} MB",
        markup=False,
        soft_wrap=True,
    )


async def export(arguments: ExportArguments, config: AppConfig, tell: Teller) -> ExportManifest:
    """Raises CrossmodalError with a sentence, before anything is written where the request is wrong."""
    if arguments.to not in TARGETS:
        raise InvalidRequest(f"there is no export to {arguments.to!r}; there are {', '.join(TARGETS)}")
    where = _chosen(arguments, config)
    writing = ObjectWriting(arguments.destination, options_for(arguments.destination, config))
    if not writing.is_empty():
        raise DestinationConflict(f"something lies under {arguments.destination} already: name a new folder or prefix")
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(READ_AHEAD_BYTES))
    table = await _table(arguments, config)
    info = await table.info()
    manifest = await _beginning(arguments, table, info, whole=where is None)
    sinks = await _sinks(arguments, writing, manifest, table, where)
    counts = await send_rows(table, sinks, where, BATCH_ROWS, tell)
    files = [file for sink in sinks for file in sink.close()]
    manifest = replace(manifest, counts=counts, files=tuple(files))
    writing.put(MANIFEST, manifest_to_json(manifest).encode())
    return manifest


async def _table(arguments: ExportArguments, config: AppConfig) -> LanceTable:
    """The table as it is now, or was then; what is written meanwhile changes nothing."""
    of = config.table
    table = LanceTable(of.uri, of.name, storage_options=of.options, read_consistency=timedelta(0))
    if arguments.table is not None and arguments.as_of is not None:
        raise InvalidRequest("--as-of names a table itself: leave out --table")
    if arguments.table is not None and arguments.table != of.name:
        table = table.beside(arguments.table)
    if arguments.as_of is not None:
        table = await table.at(arguments.as_of)
    return await table.frozen()


async def _beginning(arguments: ExportArguments, table: LanceTable, info: TableInfo, *, whole: bool) -> ExportManifest:
    if info.fingerprint is None or info.model is None or info.dimension is None:
        raise NotReady("there is no table to export")
    return ExportManifest(
        id=uuid.uuid4().hex,
        target=arguments.to,
        table=arguments.table or arguments.as_of or "in service",
        table_version=info.version,
        created_at=datetime.now(UTC),
        identity=TableIdentity(info.fingerprint, info.model, info.dimension),
        fields=info.fields,
        counts={},
        calibration=await table.calibration(),
        whole=whole,
    )


async def _sinks(
    arguments: ExportArguments,
    writing: ObjectWriting,
    manifest: ExportManifest,
    table: LanceTable,
    where: Filter | None,
) -> list[RowSink]:
    if arguments.to == "parquet":
        return [ParquetSink(writing, manifest)]
    if arguments.to == "qdrant":
        return [QdrantSink(writing, manifest)]
    try:
        from serve_app.adapters.exchange.faiss_index import FaissSink
    except ImportError as error:
        raise InvalidConfig("FAISS is not installed: install crossmodal with its extra faiss") from error
    index = FaissSink(writing, manifest.identity.dimension, arguments.index)
    count = sum((await table.info()).counts.values()) if where is None else await table.count(where)
    if index.needs_training:
        index.train(await sample_rows(table, where, BATCH_ROWS, count, TRAINING_ROWS))
    return [NumpySink(writing, manifest, count), index]


def _chosen(arguments: ExportArguments, config: AppConfig) -> Filter | None:
    """None for all documents. Raises InvalidFilter, InvalidRequest."""
    parts: list[Filter] = []
    if arguments.modality:
        if wrong := set(arguments.modality) - set(Modality):
            raise InvalidRequest(f"there is no modality {sorted(wrong)[0]!r}; there are {', '.join(Modality)}")
        parts.append(Compare("modality", Operator.IN, tuple(arguments.modality)))
    if arguments.filter is not None:
        try:
            given = FilterText.model_validate_json(arguments.filter).root.to_filter()
        except ValidationError as error:
            raise InvalidFilter(f"the filter cannot be read: {error.errors()[0]['msg']}") from error
        parts.append(check_filter(given, declared_fields(config.table)))
    return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(export_command(run))
    app()


if __name__ == "__main__":
    main()
