"""`crossmodal reindex`: change the model of a running service. Knows the arguments of the job, and none of its work.

The job itself is `python -m deployments.jobs.reindex` with the same arguments; here a child process runs it, or submits it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, slots=True)
class ReindexArguments:
    """What can be said of a reindex; each field is the option of its name."""

    model: str | None = None
    pretrained: str | None = None
    rollback: bool = False
    queries: Path | None = None
    no_switch: bool = False
    no_deploy: bool = False
    no_service: bool = False
    url: str | None = None
    max_lost: int = 0
    config: Path | None = None
    profile: str | None = None
    job_id: str | None = None
    share: float = 1.0
    commit_rows: int = 1024
    encoders: int | None = None
    readers: int | None = None
    local: bool = False
    address: str | None = None
    json: bool = False

    def argv(self) -> list[str]:
        """As a command line that says the same."""
        options: list[str] = []
        for field in fields(self):
            value, name = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if value is True:
                options.append(name)
            elif value is not None and value is not False and value != field.default:
                options += [name, str(value)]
        return options


def reindex_command(run: Callable[[ReindexArguments], None]) -> Callable[..., None]:
    """The command, with what it does once the arguments are read."""

    def reindex(
        model: Annotated[
            str | None, typer.Option("--model", help="The new model, as `encoder.model` of a profile names it.")
        ] = None,
        pretrained: Annotated[
            str | None, typer.Option("--pretrained", help="Its weights, as `encoder.pretrained` names them.")
        ] = None,
        rollback: Annotated[
            bool, typer.Option("--rollback", help="Go back to the model of the service's own configuration.")
        ] = False,
        queries: Annotated[
            Path | None,
            typer.Option(
                "--queries", help="JSON lines with `text`, and `relevant` ids where judged, to compare both by."
            ),
        ] = None,
        no_switch: Annotated[
            bool, typer.Option("--no-switch", help="Build, catch up and compare only; the same command switches later.")
        ] = False,
        no_deploy: Annotated[
            bool, typer.Option("--no-deploy", help="The new encoders are declared beside the graph: start none.")
        ] = False,
        no_service: Annotated[
            bool, typer.Option("--no-service", help="No service runs on the table; nobody is asked to hold writes.")
        ] = False,
        url: Annotated[
            str | None,
            typer.Option("--url", help="Of the service, from where the job runs; by default CROSSMODAL_URL."),
        ] = None,
        max_lost: Annotated[
            int,
            typer.Option("--max-lost", min=0, help="Switch though so many rows could not be encoded again."),
        ] = 0,
        config: Annotated[
            Path | None, typer.Option("--config", help="The service's Serve file; by default serve_config.yaml.")
        ] = None,
        profile: Annotated[
            str | None, typer.Option("--profile", help="The service's profile; else what --config says.")
        ] = None,
        job_id: Annotated[str | None, typer.Option("--job-id", help="A name for the job in reports.")] = None,
        share: Annotated[
            float, typer.Option("--share", min=0.01, max=1, help="Of the cluster's cores and GPUs, for this job.")
        ] = 1.0,
        commit_rows: Annotated[int, typer.Option("--commit-rows", min=1, help="Rows of one commit.")] = 1024,
        encoders: Annotated[
            int | None, typer.Option("--encoders", min=1, help="Processes that encode; else by cores or GPUs.")
        ] = None,
        readers: Annotated[
            int | None, typer.Option("--readers", min=1, help="Processes that fetch and decode; else by cores.")
        ] = None,
        local: Annotated[
            bool, typer.Option("--local", help="Run here, in a Ray of its own; the new encoders are not started then.")
        ] = False,
        address: Annotated[
            str | None, typer.Option("--address", help="Of the cluster; by default what the configuration says.")
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
    ) -> None:
        """Encode all documents with another model while the service runs, compare both, and go over to it.

        Killed, it goes on where it was when it is started again. Exit status 1 if it did not get through.
        """
        run(
            ReindexArguments(
                model=model,
                pretrained=pretrained,
                rollback=rollback,
                queries=queries,
                no_switch=no_switch,
                no_deploy=no_deploy,
                no_service=no_service,
                url=url,
                max_lost=max_lost,
                config=config,
                profile=profile,
                job_id=job_id,
                share=share,
                commit_rows=commit_rows,
                encoders=encoders,
                readers=readers,
                local=local,
                address=address,
                json=json,
            )
        )

    return reindex


def launch(arguments: ReindexArguments) -> None:
    """Run or submit the job in a child process: this one knows no Ray."""
    module = ["deployments.jobs.reindex"] if arguments.local else ["deployments.jobs.submit", "reindex"]
    # Ctrl-C is for the child, which ends what it started or says how to follow it; then this one ends, too.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # The arguments are those of this user on this machine; no shell reads them.
        status = subprocess.run([sys.executable, "-m", *module, *anchored(arguments).argv()], check=False).returncode  # noqa: S603
    finally:
        signal.signal(signal.SIGINT, before)
    if status:
        raise typer.Exit(status)


def anchored(arguments: ReindexArguments) -> ReindexArguments:
    """With full paths: the job runs in another folder."""
    from configs.load import service_url

    model, prefix, pretrained = arguments.model, "local-dir:", arguments.pretrained
    if model and model.startswith(prefix):
        model = prefix + os.path.abspath(model.removeprefix(prefix))
    if pretrained and "/" in pretrained and "://" not in pretrained:
        pretrained = os.path.abspath(pretrained)
    return replace(
        arguments,
        url=arguments.url or service_url(),
        model=model,
        pretrained=pretrained,
        config=arguments.config and arguments.config.absolute(),
        queries=arguments.queries and arguments.queries.absolute(),
    )


reindex = reindex_command(launch)
