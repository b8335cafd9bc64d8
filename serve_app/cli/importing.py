"""`crossmodal import`: rows with their vectors into the table. Knows the arguments of the job, and none of its work."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.exporting import Address, JobId, launch_moving
from serve_app.cli.job_commands import CommitRows, Config, Json, Profile


@dataclass(frozen=True, slots=True)
class ImportArguments:
    """What can be said of an import; each field but the first is the option of its name."""

    source: str
    into: str | None = None
    model: str | None = None
    pretrained: str | None = None
    unchecked: bool = False
    take: str | None = None
    column: tuple[str, ...] = ()
    base_uri: str | None = None
    max_failures: int | None = None
    failures: Path | None = None
    commit_rows: int = 8192
    config: Path | None = None
    profile: str | None = None
    address: str | None = None
    job_id: str | None = None
    json: bool = False


def import_command(run: Callable[[ImportArguments], None]) -> Callable[..., None]:
    """The command, with what it does once the arguments are read."""

    def import_(
        source: Annotated[
            str, typer.Argument(metavar="FOLDER", help="Of an export to parquet, or of what clip-retrieval wrote.")
        ],
        into: Annotated[
            str | None, typer.Option("--into", help="A table beside the one in service, such as documents.moved.")
        ] = None,
        model: Annotated[
            str | None, typer.Option("--model", help="Of clip-retrieval: which model made the vectors: ViT-B-32.")
        ] = None,
        pretrained: Annotated[
            str | None, typer.Option("--pretrained", help="Of clip-retrieval: with which weights: openai.")
        ] = None,
        unchecked: Annotated[
            bool, typer.Option("--unchecked", help="Of clip-retrieval: do not make a few vectors again to compare.")
        ] = False,
        take: Annotated[
            str | None, typer.Option("--take", help="Of clip-retrieval: image, text, or image_text for both in one.")
        ] = None,
        column: Annotated[
            list[str] | None, typer.Option("--column", help="Of clip-retrieval: id=key, uri=url, text=caption.")
        ] = None,
        base_uri: Annotated[
            str | None, typer.Option("--base-uri", help="Of clip-retrieval: where relative paths of pictures begin.")
        ] = None,
        max_failures: Annotated[
            int | None, typer.Option("--max-failures", min=0, help="Stop when more rows than this have failed.")
        ] = None,
        failures: Annotated[
            Path | None, typer.Option("--failures", help="Write what failed to this file, a JSON object a line.")
        ] = None,
        commit_rows: CommitRows = 8192,
        config: Config = None,
        profile: Profile = None,
        address: Address = None,
        job_id: JobId = None,
        json: Json = False,
    ) -> None:
        """Read an export back, or vectors of clip-retrieval, as they are. May be repeated, and beside a running service."""
        run(
            ImportArguments(
                source,
                into=into,
                model=model,
                pretrained=pretrained,
                unchecked=unchecked,
                take=take,
                column=tuple(column or ()),
                base_uri=base_uri,
                max_failures=max_failures,
                failures=failures,
                commit_rows=commit_rows,
                config=config,
                profile=profile,
                address=address,
                job_id=job_id,
                json=json,
            )
        )

    return import_


import_ = import_command(lambda arguments: launch_moving("imports", arguments))
