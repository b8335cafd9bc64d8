"""`crossmodal export` and `crossmodal import`: a table out of here, and into here. Knows the arguments of the jobs, no work.

The jobs are `python -m deployments.jobs.export` and `deployments.jobs.imports` with the same arguments. They read and write
storage and compute nothing, so they run here in a child process; with --address the cluster there runs them.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.job_commands import Config, Json, Profile, full, launch

TARGETS = ("parquet", "faiss", "qdrant")

Address = Annotated[str | None, typer.Option("--address", help="Of a Ray cluster that is to do it; by default here.")]
JobId = Annotated[str | None, typer.Option("--job-id", help="A name for the job on that cluster.")]


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


def launch_moving(kind: str, arguments: Any) -> None:
    """Here, unless a cluster is named; with full paths, wherever it runs."""
    changes: dict[str, Any] = {}
    for field in fields(arguments):
        value = getattr(arguments, field.name)
        if isinstance(value, Path):
            changes[field.name] = value.absolute()
        elif value and field.name in ("destination", "source", "base_uri"):
            changes[field.name] = full(value)
    launch(kind, replace(arguments, **changes), here=arguments.address is None)


export = export_command(lambda arguments: launch_moving("export", arguments))
