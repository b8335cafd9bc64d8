"""`crossmodal export` and `crossmodal import`: a table out of here, and into here. Knows the arguments of the jobs, no work.

The jobs are `python -m deployments.jobs.export` and `deployments.jobs.imports` with the same arguments. They read and write
storage and compute nothing, so they run here in a child process; with --address the cluster there runs them.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

TARGETS = ("parquet", "faiss", "qdrant")

Config = Annotated[
    Path | None, typer.Option("--config", help="The service's Serve file; by default serve_config.yaml.")
]
Profile = Annotated[str | None, typer.Option("--profile", help="The service's profile; else what --config says.")]
Address = Annotated[str | None, typer.Option("--address", help="Of a Ray cluster that is to do it; by default here.")]
JobId = Annotated[str | None, typer.Option("--job-id", help="A name for the job on that cluster.")]
Json = Annotated[bool, typer.Option("--json", help="The summary as JSON.")]


@dataclass(frozen=True, slots=True)
class ExportArguments:
    """What can be said of an export; each field but the first is the option of its name."""

    destination: str
    to: str = "parquet"
    modality: tuple[str, ...] = ()
    filter: str | None = None
    as_of: str | None = None
    table: str | None = None
    index: str = "Flat"
    config: Path | None = None
    profile: str | None = None
    address: str | None = None
    job_id: str | None = None
    json: bool = False


def argv(arguments: Any) -> list[str]:
    """Arguments as a command line that says the same: the first field is what the command is about."""
    options: list[str] = []
    first, *rest = fields(arguments)
    for field in rest:
        value, name = getattr(arguments, field.name), f"--{field.name.replace('_', '-')}"
        if isinstance(value, tuple):
            options += [part for each in value for part in (name, each)]
        elif value is True:
            options.append(name)
        elif value is not None and value is not False and value != field.default:
            options += [name, str(value)]
    return [*options, "--", getattr(arguments, first.name)]


def export_command(run: Callable[[ExportArguments], None]) -> Callable[..., None]:
    """The command, with what it does once the arguments are read."""

    def export(
        destination: Annotated[
            str, typer.Argument(metavar="FOLDER", help="A new folder, or a prefix: s3://bucket/export.")
        ],
        to: Annotated[str, typer.Option("--to", help="parquet, which comes back; faiss; or qdrant.")] = "parquet",
        modality: Annotated[
            list[str] | None, typer.Option("--modality", help="Only these: text, image, image_text, video_frame.")
        ] = None,
        filter_: Annotated[
            str | None, typer.Option("--filter", help="JSON; only the documents that it matches.")
        ] = None,
        as_of: Annotated[
            str | None, typer.Option("--as-of", help="What the table held then: a snapshot, or an ISO time.")
        ] = None,
        table: Annotated[
            str | None, typer.Option("--table", help="A table beside the one in service, such as documents.old.")
        ] = None,
        index: Annotated[
            str, typer.Option("--index", help="With faiss: Flat, HNSW32, IVF1024,SQ8, or what else FAISS makes.")
        ] = "Flat",
        config: Config = None,
        profile: Profile = None,
        address: Address = None,
        job_id: JobId = None,
        json: Json = False,
    ) -> None:
        """Write the table, as it is at one moment, to files that other programs read, or that import reads."""
        run(
            ExportArguments(
                destination,
                to=to,
                modality=tuple(modality or ()),
                filter=filter_,
                as_of=as_of,
                table=table,
                index=index,
                config=config,
                profile=profile,
                address=address,
                job_id=job_id,
                json=json,
            )
        )

    return export


def launch(kind: str, arguments: Any) -> None:
    """Run or submit the job in a child process: this one knows neither Ray nor the table."""
    module = [f"deployments.jobs.{kind}"] if arguments.address is None else ["deployments.jobs.submit", kind]
    # The arguments are those of this user on this machine; no shell reads them.
    command = [sys.executable, "-m", *module, *argv(_anchored(arguments))]
    status = subprocess.run(command, check=False).returncode  # noqa: S603
    if status:
        raise typer.Exit(status)


def _anchored(arguments: Any) -> Any:
    """With full paths: on a cluster the job runs in another folder."""
    changes: dict[str, Any] = {}
    for field in fields(arguments):
        value = getattr(arguments, field.name)
        if isinstance(value, Path):
            changes[field.name] = value.absolute()
        elif value and field.name in ("destination", "source", "base_uri") and "://" not in value:
            changes[field.name] = os.path.abspath(value)
    return replace(arguments, **changes)


export = export_command(lambda arguments: launch("export", arguments))
