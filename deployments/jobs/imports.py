"""The job `imports`: rows that bring their vectors, from an export to Parquet or from clip-retrieval, into a table.

crossmodal import s3://bucket/export                            # here
crossmodal import --address http://head:8265 s3://bucket/export  # on that cluster, followed
ray job submit --working-dir . -- python -m deployments.jobs.imports s3://bucket/export

Nothing is encoded, so it is one process; what it writes is merged by id, beside whoever else writes.
"""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from configs.schema import AppConfig
from deployments.jobs.configured import job_configuration, options_for
from deployments.jobs.telling import Teller
from deployments.writing import indexing_service, open_for_writing
from serve_app.adapters.exchange.parquet import ParquetExport
from serve_app.adapters.lance_table import LanceTable
from serve_app.cli.common import plain_failures, stderr, stdout
from serve_app.cli.importing import ImportArguments, import_command
from serve_app.core.records import TableIdentity
from serve_app.core.row_checks import Portion, RowFailure
from serve_app.services.moving import Arrival, prepare_table, take_rows
from serve_app.types import Calibration, FieldType

SHOWN_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Arriving:
    """What is to be imported. `calibration`: of the whole table that it was; None where that is not known."""

    name: str
    identity: TableIdentity
    fields: dict[str, FieldType]
    rows: Iterable[Portion | RowFailure]
    keeps_times: bool
    calibration: Calibration | None


def run(arguments: ImportArguments) -> None:
    """Do it, say how it went, and leave with the status that tells a shell."""
    teller = Teller("imported")
    with plain_failures():
        config = job_configuration(arguments.config, arguments.profile)
        arrival = asyncio.run(take_in(arguments, config, teller))
    for each in arrival.failures[:SHOWN_FAILURES]:
        stderr().print(f"{each.place}: {each.failure.message} ({each.failure.code})", markup=False, soft_wrap=True)
    if arguments.json:
        stdout().print_json(json.dumps(_summary(arrival, teller.seconds)))
        return
    stdout().print(
        f"{arrival.stored.total():,} rows stored, {arrival.unchanged:,} unchanged, {arrival.failed:,} failed, in "
        f"{teller.seconds:,.1f} s",
        markup=False,
        soft_wrap=True,
    )


async def take_in(arguments: ImportArguments, config: AppConfig, tell: Teller) -> Arrival:
    """Raises CrossmodalError with a sentence, before anything is written where the source does not fit the table."""
    arriving = _arriving(arguments, config)
    service_table = open_for_writing(config.table, config.full_text)
    table = service_table if arguments.into is None else service_table.beside(arguments.into)
    info = await prepare_table(table, arriving.identity, arriving.fields, arriving.name)
    empty = not any(info.counts.values())
    arrival = Arrival()
    try:
        await take_rows(
            table,
            arriving.rows,
            arrival,
            keeps_times=arriving.keeps_times,
            empty=empty,
            max_failures=arguments.max_failures,
            tell=tell,
        )
    finally:
        _save_failures(arguments.failures, arrival)
        await _tidy_up(table, config, arrival, arriving.calibration if empty else None)
    return arrival


def _arriving(arguments: ImportArguments, config: AppConfig) -> Arriving:
    export = ParquetExport(arguments.source, options_for(arguments.source, config))
    manifest = export.manifest
    return Arriving(
        name=f"the export under {arguments.source}",
        identity=manifest.identity,
        fields=dict(manifest.fields),
        rows=export.rows(arguments.commit_rows),
        keeps_times=True,
        calibration=manifest.calibration if manifest.whole else None,
    )


async def _tidy_up(table: LanceTable, config: AppConfig, arrival: Arrival, calibration: Calibration | None) -> None:
    """Indexes and calibration as after any other writer; a table that came whole is ranked as it was."""
    if calibration is not None and calibration.version and not arrival.failed:
        await table.store_calibration(calibration)
    service = indexing_service(table, config.table, config.search)
    await service.catch_up(arrival.stored, touched=bool(arrival.replaced))


def _save_failures(file: Path | None, arrival: Arrival) -> None:
    if file is not None:
        lines = [
            {"place": each.place, "rows": each.rows, "code": each.failure.code, "message": each.failure.message}
            for each in arrival.failures
        ]
        file.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")


def _summary(arrival: Arrival, seconds: float) -> dict[str, Any]:
    return {
        "stored": {modality.value: count for modality, count in arrival.stored.items()},
        "replaced": arrival.replaced,
        "unchanged": arrival.unchanged,
        "failed": arrival.failed,
        "seconds": round(seconds, 2),
    }


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(import_command(run))
    app()


if __name__ == "__main__":
    main()
