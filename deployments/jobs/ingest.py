"""The job `ingest`: documents from sources into a table, many at a time.

ray job submit --working-dir . -- python -m deployments.jobs.ingest --job-id holiday s3://bucket/pictures/
crossmodal ingest --job-id holiday s3://bucket/pictures/        # submits that, and follows it
crossmodal ingest --local pictures/                             # here, in a Ray of its own
"""

import json
import logging
from datetime import UTC, datetime

import pyarrow.parquet as pq
import ray
import typer

from configs.schema import AppConfig
from deployments.declared import declared_fields
from deployments.jobs.configured import job_configuration
from deployments.jobs.ledger import Ledger
from deployments.jobs.orders import JobOrder
from deployments.jobs.showing import Shown
from deployments.jobs.stepping_back import environment, step_back
from serve_app.adapters.sources import SourceSpec, column_mapping, open_source
from serve_app.cli.common import failure, stderr, stdout
from serve_app.cli.ingest import IngestArguments, ingest_command
from serve_app.core.jobs import state_to_json, summary
from serve_app.core.videos import check_policy
from serve_app.errors import CrossmodalError, InvalidRequest
from serve_app.turns import take_turns
from serve_app.types import FramePolicy, JobState, JobStatus


def run(arguments: IngestArguments) -> None:
    """Do it, say how it went, and leave with the status that tells a shell."""
    try:
        state = ingest(arguments)
    except CrossmodalError as error:
        stderr().print(failure(error), soft_wrap=True)
        raise typer.Exit(1) from error
    if arguments.json:
        stdout().print_json(json.dumps(state_to_json(state)))
    else:
        stdout().print(summary(state), markup=False, soft_wrap=True)


def ingest(arguments: IngestArguments) -> JobState:
    """Raises CrossmodalError with a sentence."""
    config = configuration(arguments)
    job_id = arguments.job_id or f"ingest-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    order = JobOrder(
        kind="ingest",
        job_id=job_id,
        config=config,
        share=arguments.share,
        beside=arguments.into,
        copies=arguments.copy,
        roots=tuple(arguments.sources) if arguments.copy else (),
        max_failures=arguments.max_failures,
        commit_rows=arguments.commit_rows,
        encoders=arguments.encoders,
        preparers=arguments.readers,
        frames=_frames(arguments),
    )
    source = open_source(_spec(arguments, config))
    ledger = Ledger(config.table, job_id)
    before = ledger.state()
    if before is not None and before.status is JobStatus.FINISHED:
        stderr().print(f"the job {job_id} has finished already; another --job-id begins anew", markup=False)
        return before
    stderr().print(f"job {job_id}: the same --job-id goes on where this one stops", markup=False, soft_wrap=True)
    _join_ray(arguments)
    # LanceDB, once loaded, warns of every process that is started after it: Ray has to be there first.
    from deployments.jobs.pipeline import run_job

    try:
        with Shown(stderr()) as shown:
            state = run_job(source, order, shown)
    finally:
        _save_failures(ledger, arguments)
        ray.shutdown()
    return state


def _join_ray(arguments: IngestArguments) -> None:
    """A Ray of the job's own, or the cluster's; behind whatever else runs, where the job takes only a share."""
    if arguments.share < 1:
        step_back()
    elif arguments.local:
        take_turns()
    if arguments.local:
        ray.init(
            address="local",
            runtime_env=environment(arguments.share),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _system_config={
                # A writer rests between commits. Ended after a second, as is usual, it would import LanceDB anew for each.
                "idle_worker_killing_time_threshold_ms": 600_000,
                # Nobody can ask this Ray for metrics or for what its tasks did, and to gather them takes some percent of a core.
                "enable_metrics_collection": False,
                "metrics_report_interval_ms": 600_000,
                "task_events_report_interval_ms": 0,
            },
        )
    else:
        ray.init(
            address=arguments.address or "auto",
            runtime_env=environment(arguments.share),
            log_to_driver=False,
            logging_level=logging.WARNING,
        )


def _frames(arguments: IngestArguments) -> FramePolicy:
    if arguments.scenes and arguments.every is not None:
        raise InvalidRequest("frames of videos are taken every so many seconds, or one of each scene; not both")
    policy = FramePolicy(None if arguments.scenes else arguments.every or FramePolicy().every_s)
    check_policy(policy)
    return policy


def _spec(arguments: IngestArguments, config: AppConfig) -> SourceSpec:
    return SourceSpec(
        arguments.sources,
        kind=arguments.kind,
        columns=column_mapping(arguments.column),
        metadata=arguments.metadata_column or None,
        fields={name: spec.type for name, spec in declared_fields(config.table).items()},
        base_uri=arguments.base_uri,
        captions=arguments.captions,
        split=arguments.split,
        options=config.storage.options,
        max_item_bytes=config.pictures.max_bytes,
    )


def configuration(arguments: IngestArguments) -> AppConfig:
    """The service's own. Raises InvalidConfig."""
    return job_configuration(arguments.config, arguments.profile)


def _save_failures(ledger: Ledger, arguments: IngestArguments) -> None:
    if arguments.failures is not None and (state := ledger.state()) is not None:
        pq.write_table(ledger.failures(state.attempt), arguments.failures)


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(ingest_command(run))
    app()


if __name__ == "__main__":
    main()
