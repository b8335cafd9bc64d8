"""`crossmodal reindex`: change the model of a running service. Knows the arguments of the job, and none of its work."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.job_commands import CommitRows, Config, Encoders, Json, Profile, Readers, Share, launch


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
        config: Config = None,
        profile: Profile = None,
        job_id: Annotated[str | None, typer.Option("--job-id", help="A name for the job in reports.")] = None,
        share: Share = 1.0,
        commit_rows: CommitRows = 1024,
        encoders: Encoders = None,
        readers: Readers = None,
        local: Annotated[
            bool, typer.Option("--local", help="Run here, in a Ray of its own; the new encoders are not started then.")
        ] = False,
        address: Annotated[
            str | None, typer.Option("--address", help="Of the cluster; by default what the configuration says.")
        ] = None,
        json: Json = False,
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


reindex = reindex_command(lambda arguments: launch("reindex", anchored(arguments), here=arguments.local))
