"""`crossmodal add`: documents from files into the service, with a progress bar and a list of what failed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.common import Url, failure, open_client, plain_failures, require_ready, stderr, stdout

if TYPE_CHECKING:
    from rich.progress import Progress

    from serve_app.cli.reading import Source
    from serve_app.client import NewDocument
    from serve_app.errors import CrossmodalError

LISTED_FAILURES = 20


def add(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Folders, pictures, videos, .txt (a text a line), .jsonl, .csv (columns id, text, image, video).",
        ),
    ],
    url: Url = None,
    failures: Annotated[
        Path | None, typer.Option("--failures", help="Write what failed to this file: a JSON object a line.")
    ] = None,
    every: Annotated[
        float | None, typer.Option("--every", help="Of a video take a frame every so many seconds; 2 unless said.")
    ] = None,
    scenes: Annotated[bool, typer.Option("--scenes", help="Of a video take one frame of each scene.")] = False,
) -> None:
    """Add pictures, texts and videos. A broken file is reported and the rest goes on; exit status 1 if anything failed.

    A video is not sent: the service reads it where it lies.

    Adding the same again is safe: what is stored already is `unchanged` and costs next to nothing.
    """
    from serve_app.cli.reading import Frames, read_paths

    with plain_failures():
        with open_client(url) as client:
            # "No service answers" is better said at once than after the retries of the first batch.
            require_ready(client)
            tally = Tally()
            with _progress() as progress:
                task = progress.add_task("adding", total=None)
                sources = _Sources(read_paths(paths, client.table().fields, Frames(every, scenes)), tally, progress)
                for added in client.add(sources.documents()):
                    name = sources.sent[added.index]
                    if added.error is None:
                        tally.counts[added.status or "stored"] += 1
                    else:
                        tally.fail(name, added.error, progress)
                    progress.update(task, advance=1, total=max(len(sources.sent), 1))
        if failures is not None:
            failures.write_text("".join(f"{json.dumps(each)}\n" for each in tally.failed), encoding="utf-8")
    _summary(tally)


class Tally:
    """What became of the documents so far."""

    def __init__(self) -> None:
        self.counts = {"stored": 0, "unchanged": 0}
        self.failed: list[dict[str, str]] = []

    def fail(self, name: str, error: "CrossmodalError", progress: "Progress") -> None:
        self.failed.append({"source": name, "code": error.code, "message": error.message})
        progress.console.print(f"{_name(name)}: {failure(error)}", soft_wrap=True)


class _Sources:
    """Hands documents to the client and remembers their names; what could not be read goes to the tally at once."""

    def __init__(self, sources: "Iterator[Source]", tally: Tally, progress: "Progress") -> None:
        self.sent: list[str] = []
        self._sources = sources
        self._tally = tally
        self._progress = progress

    def documents(self) -> "Iterator[NewDocument]":
        for source in self._sources:
            if source.error is not None:
                self._tally.fail(source.name, source.error, self._progress)
            elif source.document is not None:
                self.sent.append(source.name)
                yield source.document


def _progress() -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=stderr(), transient=True)


def _summary(tally: Tally) -> None:
    if tally.failed:
        console = stderr()
        console.print(f"[bold]{len(tally.failed)} failed:[/bold]")
        for each in tally.failed[:LISTED_FAILURES]:
            line = f"  {_name(each['source'])}: [red]{_name(each['message'])}[/red] [dim]({each['code']})[/dim]"
            console.print(line, soft_wrap=True)
        if len(tally.failed) > LISTED_FAILURES:
            console.print(f"  and {len(tally.failed) - LISTED_FAILURES} more; --failures writes all of them to a file")
    counts = tally.counts
    stdout().print(f"stored {counts['stored']}, unchanged {counts['unchanged']}, failed {len(tally.failed)}")
    if tally.failed:
        raise typer.Exit(1)


def _name(text: str) -> str:
    from rich.markup import escape

    return escape(text)
