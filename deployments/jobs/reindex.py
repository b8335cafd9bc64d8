"""The job `reindex`: all documents of a running service encoded by another model, which then takes its place.

ray job submit --working-dir . -- python -m deployments.jobs.reindex --model local-dir:/models/mine
crossmodal reindex --model local-dir:models/mine         # submits that, and follows it
crossmodal reindex --rollback                            # back to the service's own model, with what was written since
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import typer

from configs.schema import AppConfig, EncoderConfig
from deployments.jobs.configured import job_configuration
from deployments.jobs.orders import JobOrder
from serve_app.cli.common import failure, stderr, stdout
from serve_app.cli.reindex import ReindexArguments, anchored, reindex_command
from serve_app.client import Client
from serve_app.core.comparison import SampleQuery, comparison_text
from serve_app.core.jobs import progress_line, state_to_json, summary
from serve_app.errors import CrossmodalError, InvalidConfig, InvalidSource
from serve_app.types import JobState

if TYPE_CHECKING:
    from deployments.jobs.reindexing import ReindexOrder, ReindexReport


def run(arguments: ReindexArguments) -> None:
    """Do it, say how it went, and leave with the status that tells a shell."""
    try:
        # What Ray has to say belongs beside the answer, not into it.
        with redirect_stdout(sys.stderr):
            state, report = reindex(arguments)
    except CrossmodalError as error:
        stderr().print(failure(error), soft_wrap=True)
        raise typer.Exit(1) from error
    if arguments.json:
        stdout().print_json(json.dumps({"job": state_to_json(state), **report_to_json(report)}))
    else:
        stdout().print(f"{summary(state)}\n{report_text(report)}", markup=False, soft_wrap=True)


def reindex(arguments: ReindexArguments) -> tuple[JobState, "ReindexReport"]:
    """Raises CrossmodalError with a sentence."""
    arguments = anchored(arguments)
    config = job_configuration(arguments.config, arguments.profile)
    # What is wrong with them is said before Ray is asked for anything.
    new_encoder(arguments, config.encoder)
    address = "local" if arguments.local else arguments.address or "auto"
    ray.init(address=address, include_dashboard=False if arguments.local else None, log_to_driver=False)
    logging.getLogger("ray").setLevel(logging.WARNING)
    # LanceDB, once loaded, warns of every process that is started after it: Ray has to be there first.
    from deployments.jobs.reindexing import reindex as work
    from deployments.jobs.switching import RunningService

    try:
        order = order_of(arguments, config)
        if arguments.no_service:
            return work(order, None, _tell)
        with Client(str(arguments.url)) as client:
            # Before hours of work: whom to ask in the end.
            client.table()
            return work(order, RunningService(client), _tell)
    finally:
        ray.shutdown()


def order_of(arguments: ReindexArguments, config: AppConfig) -> "ReindexOrder":
    """What the arguments ask for, of a service with this configuration. Raises InvalidConfig, InvalidSource."""
    from deployments.jobs.reindexing import ReindexOrder

    encoder = new_encoder(arguments, config.encoder)
    job = JobOrder(
        kind="reindex",
        job_id=arguments.job_id or f"reindex-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        config=config.model_copy(update={"encoder": encoder}),
        share=arguments.share,
        commit_rows=arguments.commit_rows,
        encoders=arguments.encoders,
        preparers=arguments.readers,
    )
    return ReindexOrder(
        job=job,
        former=config.encoder,
        queries=() if arguments.queries is None else read_queries(arguments.queries),
        switches=not arguments.no_switch,
        deploys=not arguments.no_deploy and not arguments.local and encoder != config.encoder,
        max_lost=arguments.max_lost,
    )


def new_encoder(arguments: ReindexArguments, own: EncoderConfig) -> EncoderConfig:
    """The service's, with another model; for a way back its own. Raises InvalidConfig."""
    if (arguments.model is None) != arguments.rollback:
        raise InvalidConfig("say which model is wanted by --model, or go back to the service's own by --rollback")
    if arguments.model is None:
        return own
    return own.model_copy(update={"model": arguments.model, "pretrained": arguments.pretrained, "sha256": None})


def read_queries(path: Path) -> tuple[SampleQuery, ...]:
    """Raises InvalidSource."""
    found = []
    try:
        for line in filter(str.strip, path.read_text(encoding="utf-8").splitlines()):
            said: Mapping[str, Any] = json.loads(line)
            found.append(SampleQuery(str(said["text"]), tuple(map(str, said.get("relevant") or ()))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidSource(
            f"{path} is no list of queries: each line is JSON with `text`, and with `relevant`, a list of ids"
        ) from error
    return tuple(found)


def report_to_json(report: "ReindexReport") -> dict[str, Any]:
    return asdict(report)


def report_text(report: "ReindexReport") -> str:
    """What a reindex has done, for people."""
    if report.old == report.new:
        return f"{report.new} is in service already: nothing was to be done"
    rounds = ", ".join(f"{each.changed:,}+{each.gone:,} in {each.seconds:.1f} s" for each in report.rounds)
    lines = [f"{report.old} → {report.new}; rounds (changed+gone): {rounds or 'none'}"]
    if report.lost:
        lines.append(f"{report.lost:,} rows could not be encoded again")
    if report.comparison is not None:
        lines.append(comparison_text(report.comparison))
    if report.table_version is None:
        lines.append(f"{report.new} is ready; without --no-switch the same command takes it into service")
    else:
        lines.append(
            f"{report.new} is in service (table version {report.table_version}); writes waited {report.held_s:.2f} s"
        )
    return "\n".join(lines)


def _tell(state: JobState) -> None:
    stderr().print(f"{state.updated_at:%H:%M:%S} {progress_line(state)}", markup=False, soft_wrap=True)


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(reindex_command(run))
    app()


if __name__ == "__main__":
    main()
