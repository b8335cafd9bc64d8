"""`crossmodal ingest`: bulk work as a job of the cluster. Knows the arguments of the job, and none of its work."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.job_commands import CommitRows, Config, Encoders, Json, Profile, Readers, Share, full, launch


@dataclass(frozen=True, slots=True)
class IngestArguments:
    """What can be said of an ingest; each field but the first is the option of its name."""

    sources: tuple[str, ...]
    kind: str | None = None
    column: tuple[str, ...] = ()
    metadata_column: tuple[str, ...] = ()
    base_uri: str | None = None
    captions: bool = False
    split: str | None = None
    config: Path | None = None
    profile: str | None = None
    job_id: str | None = None
    into: str | None = None
    every: float | None = None
    scenes: bool = False
    copy: bool = False
    share: float = 1.0
    max_failures: int | None = None
    failures: Path | None = None
    commit_rows: int = 1024
    encoders: int | None = None
    readers: int | None = None
    local: bool = False
    address: str | None = None
    json: bool = False


def ingest_command(run: Callable[[IngestArguments], None]) -> Callable[..., None]:
    """The command, with what it does once the arguments are read."""

    def ingest(
        sources: Annotated[
            list[str],
            typer.Argument(
                metavar="SOURCE...",
                help="Folders or prefixes of pictures and videos, CSV, JSONL, Parquet, tars, datasets or a table of ours.",
            ),
        ],
        kind: Annotated[
            str | None, typer.Option("--kind", help="What the source is, where what lies there does not tell.")
        ] = None,
        column: Annotated[
            list[str] | None, typer.Option("--column", help="Where a value stands: id=image_id, text=caption, ...")
        ] = None,
        metadata_column: Annotated[
            list[str] | None, typer.Option("--metadata-column", help="A column to keep as metadata; else all others.")
        ] = None,
        base_uri: Annotated[
            str | None, typer.Option("--base-uri", help="Where relative URIs begin; by default at the list itself.")
        ] = None,
        captions: Annotated[
            bool, typer.Option("--captions", help="Take a picture's text from the .txt file beside it.")
        ] = False,
        split: Annotated[str | None, typer.Option("--split", help="Of a dataset: train, validation, ...")] = None,
        config: Config = None,
        profile: Profile = None,
        job_id: Annotated[
            str | None, typer.Option("--job-id", help="A name for the job; given again, it goes on where it stopped.")
        ] = None,
        into: Annotated[
            str | None, typer.Option("--into", help="A table beside the one in service, such as documents.new.")
        ] = None,
        every: Annotated[
            float | None,
            typer.Option("--every", help="Take a frame of each video every so many seconds; by default 2."),
        ] = None,
        scenes: Annotated[
            bool, typer.Option("--scenes", help="Take a frame of each scene of a video instead.")
        ] = False,
        copy: Annotated[
            bool, typer.Option("--copy", help="Keep the pictures in the service's storage, as uploads are.")
        ] = False,
        share: Share = 1.0,
        max_failures: Annotated[
            int | None, typer.Option("--max-failures", min=0, help="Stop when more items than this have failed.")
        ] = None,
        failures: Annotated[
            Path | None, typer.Option("--failures", help="Write what failed to this Parquet file, too.")
        ] = None,
        commit_rows: CommitRows = 1024,
        encoders: Encoders = None,
        readers: Readers = None,
        local: Annotated[
            bool, typer.Option("--local", help="Run here, in a Ray of its own; needs no cluster.")
        ] = False,
        address: Annotated[
            str | None,
            typer.Option("--address", help="Of the cluster's dashboard; by default RAY_ADDRESS, else jobs.address."),
        ] = None,
        json: Json = False,
    ) -> None:
        """Put many pictures and texts in, as a job. Exit status 1 if it did not get through; broken items do not stop it."""
        run(
            IngestArguments(
                sources=tuple(sources),
                kind=kind,
                column=tuple(column or ()),
                metadata_column=tuple(metadata_column or ()),
                base_uri=base_uri,
                captions=captions,
                split=split,
                config=config,
                profile=profile,
                job_id=job_id,
                into=into,
                every=every,
                scenes=scenes,
                copy=copy,
                share=share,
                max_failures=max_failures,
                failures=failures,
                commit_rows=commit_rows,
                encoders=encoders,
                readers=readers,
                local=local,
                address=address,
                json=json,
            )
        )

    return ingest


def anchored(arguments: IngestArguments) -> IngestArguments:
    """With full paths: the job runs in another folder, and a job that goes on knows its items by their paths."""

    return replace(
        arguments,
        sources=tuple(map(full, arguments.sources)),
        base_uri=arguments.base_uri and full(arguments.base_uri),
        config=arguments.config and arguments.config.absolute(),
        failures=arguments.failures and arguments.failures.absolute(),
    )


ingest = ingest_command(lambda arguments: launch("ingest", anchored(arguments), here=arguments.local))
