"""The job `imports`: rows that bring their vectors, from an export to Parquet or from clip-retrieval, into a table.

crossmodal import s3://bucket/export                            # here
crossmodal import --address http://head:8265 s3://bucket/export  # on that cluster, followed
ray job submit --working-dir . -- python -m deployments.jobs.imports s3://bucket/export

Nothing is encoded, so it is one process; what it writes is merged by id, beside whoever else writes.
"""

import asyncio
import json
from typing import Any

import typer

from configs.schema import AppConfig
from deployments.declared import declared_fields
from deployments.jobs.configured import job_configuration, options_for
from deployments.jobs.telling import Teller, telling
from deployments.writing import indexing_service, open_for_writing
from serve_app.adapters.exchange.clip_records import ClipRules
from serve_app.adapters.exchange.clip_retrieval import ClipLayout, ClipRetrieval
from serve_app.adapters.exchange.parquet import ParquetExport
from serve_app.adapters.lance_table import LanceTable
from serve_app.adapters.sources import column_mapping
from serve_app.cli.common import plain_failures, stderr, stdout
from serve_app.cli.importing import ImportArguments, import_command
from serve_app.errors import InvalidSource
from serve_app.services.moving import Arrival, prepare_table, take_records, take_rows
from serve_app.types import JobStatus

SHOWN_FAILURES = 5
SAMPLES = 16


def run(arguments: ImportArguments) -> None:
    """Do it, say how it went, and leave with the status that tells a shell."""
    with plain_failures():
        config = job_configuration(arguments.config, arguments.profile)
        with telling("import", "imported", arguments.job_id, config, arguments.into) as teller:
            arrival = asyncio.run(take_in(arguments, config, teller))
            stored = arrival.stored.total()
            teller.save(JobStatus.FINISHED, stored=stored, unchanged=arrival.unchanged, failed=arrival.failed)
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
    options = options_for(arguments.source, config)
    served = open_for_writing(config.table, config.full_text)
    table = served if arguments.into is None else served.beside(arguments.into)
    if ParquetExport.lies_at(arguments.source, options) or not ClipRetrieval.lies_at(arguments.source, options):
        return await _take_export(arguments, config, table, ParquetExport(arguments.source, options), tell)
    layout = ClipLayout(
        arguments.source,
        columns=column_mapping(arguments.column),
        base_uri=arguments.base_uri,
        fields={name: spec.type for name, spec in declared_fields(config.table).items()},
        options=options,
    )
    return await _take_clip(arguments, config, table, ClipRetrieval(layout), tell)


async def _take_export(
    arguments: ImportArguments, config: AppConfig, table: LanceTable, export: ParquetExport, tell: Teller
) -> Arrival:
    manifest, arrival = export.manifest, Arrival()
    name = f"the export under {arguments.source}"
    info = await prepare_table(table, manifest.identity, manifest.fields, name)
    empty = not any(info.counts.values())
    found = export.rows(arguments.commit_rows)
    try:
        await take_rows(table, found, arrival, empty=empty, max_failures=arguments.max_failures, tell=tell)
        if empty and manifest.whole and manifest.calibration.version and not arrival.failed:
            # A table that came whole is ranked as it was.
            await table.store_calibration(manifest.calibration)
    finally:
        await _tidy_up(table, config, arguments, arrival)
    return arrival


async def _take_clip(
    arguments: ImportArguments, config: AppConfig, table: LanceTable, source: ClipRetrieval, tell: Teller
) -> Arrival:
    # torch is loaded for this alone.
    from deployments.jobs.stated_model import StatedModel, check_statement, taken_for_granted

    check_statement(arguments.model, arguments.pretrained, config.encoder)
    take = source.taken(arguments.take)
    if arguments.unchecked:
        identity = taken_for_granted(await table.info())
    else:
        model = StatedModel(config)
        identity = model.identity
    if source.dimension(take) != identity.dimension:
        raise InvalidSource(
            f"the vectors have {source.dimension(take)} numbers, those of {identity.model} have {identity.dimension}"
        )
    if not arguments.unchecked:
        await model.check(source.samples(take, SAMPLES))
    await prepare_table(table, identity, {}, f"what lies under {arguments.source}")
    rules = ClipRules(
        take,
        identity.fingerprint,
        declared=declared_fields(config.table),
        max_characters=config.text.max_characters,
        image_weight=config.search.image_weight,
    )
    arrival = Arrival()
    found = source.records(arguments.commit_rows, rules, identity.dimension)
    try:
        await take_records(table, found, arrival, max_failures=arguments.max_failures, tell=tell)
    finally:
        await _tidy_up(table, config, arguments, arrival)
    return arrival


async def _tidy_up(table: LanceTable, config: AppConfig, arguments: ImportArguments, arrival: Arrival) -> None:
    """Say what failed, and bring indexes and calibration up to date as after any other writer."""
    if arguments.failures is not None:
        lines = [
            {"place": each.place, "rows": each.rows, "code": each.failure.code, "message": each.failure.message}
            for each in arrival.failures
        ]
        text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
        arguments.failures.write_text(text, encoding="utf-8")
    service = indexing_service(table, config.table, config.search)
    await service.catch_up(arrival.stored, touched=bool(arrival.replaced))


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
