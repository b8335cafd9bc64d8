"""`crossmodal search`: words, a picture or a document's id in; a table, JSON or a contact sheet out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.common import Filter, Url, open_client, plain_failures, read_filter, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from serve_app.client import Client, SearchResult, SearchResults
    from serve_app.contact_sheet import Cell

THUMBNAIL_PX = 256
# Of words to lead away from, beside 1 for what is looked for: enough to turn, not to flee.
LESS = -0.5


def search(
    words: Annotated[list[str] | None, typer.Argument(help="What is looked for, in words.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="Look for what is like this picture.")] = None,
    like: Annotated[str | None, typer.Option("--like", metavar="ID", help="More like this document.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most results.")] = 10,
    modality: Annotated[
        list[str] | None,
        typer.Option("--modality", help="Only text, image, image_text or video_frame; may be repeated."),
    ] = None,
    ranking: Annotated[str | None, typer.Option("--ranking", help="calibrated, cosine or hybrid.")] = None,
    filter_: Filter = None,
    less: Annotated[list[str] | None, typer.Option("--less", help="Lead away from these words; repeatable.")] = None,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Results to pass over.")] = 0,
    confidence: Annotated[
        float | None, typer.Option("--confidence", min=0, max=1, help="Leave out what is less sure, such as 0.9.")
    ] = None,
    diversity: Annotated[
        float, typer.Option("--diversity", min=0, max=1, help="Above 0, look-alikes of better results make room.")
    ] = 0.0,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="A snapshot's name or an ISO time: search what was there then.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Save the results as one picture (a contact sheet).")
    ] = None,
    open_sheet: Annotated[bool, typer.Option("--open", help="Show the contact sheet in the system's viewer.")] = False,
    url: Url = None,
) -> None:
    """Search by words, by a picture, by a stored document, or by several of them at once."""
    if open_sheet and sheet is None:
        raise typer.BadParameter("--open shows the sheet that --sheet saves", param_hint="--open")
    with plain_failures(), open_client(url, retries=2) as client:
        options: dict[str, Any] = {"min_confidence": confidence, "offset": offset or None}
        options |= {"diversity": diversity or None}
        answer = client.search(
            **_question(" ".join(words or ()), image, like, less or ()),
            modalities=modality or (),
            limit=limit,
            ranking=ranking,
            where=read_filter(filter_),
            as_of=as_of,
            **{name: value for name, value in options.items() if value is not None},
        )
        if as_json:
            # Not through rich: it would wrap long lines and break them.
            typer.echo(json.dumps(asdict(answer), ensure_ascii=False, indent=2))
        else:
            _show(answer)
        if sheet is not None:
            save_sheet(client, " ".join(words or ()) or str(image or f"like {like}"), answer, sheet)
            if open_sheet:
                typer.launch(str(sheet))


def _question(words: str, image: Path | None, like: str | None, less: Sequence[str]) -> dict[str, Any]:
    """The query as the client takes it: the one thing that was given, or the sum of several."""
    from serve_app.client.encoder import picture_field

    if not less and sum((bool(words), image is not None, like is not None)) <= 1:
        return {"text": words or None, "image": image, "like": like}
    parts: list[dict[str, Any]] = [{"text": words}] if words else []
    parts += [{"image": picture_field(image)}] if image is not None else []
    parts += [{"document_id": like}] if like is not None else []
    return {"all_of": [*parts, *({"text": each, "weight": LESS} for each in less)]}


def _show(answer: "SearchResults") -> None:
    console = stdout()
    if not answer.results:
        console.print("nothing found: no document of these modalities is there, or none is good enough")
        return
    console.print(results_table(answer))
    took = ", ".join(f"{step} {took_ms:.0f} ms" for step, took_ms in answer.took_ms.items())
    console.print(f"[dim]{answer.ranking}, table version {answer.table_version}; {took}[/dim]")
    if answer.truncated:
        console.print("[yellow]The words were more than the model reads; the end was left out.[/yellow]")


def results_table(
    answer: "SearchResults", title: str | None = None, captions: Mapping[str, str] = MappingProxyType({})
) -> "Table":
    """The results as a table for the terminal, best first. `captions`: words by id for documents that have none."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in ("", "score", "confidence"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("modality", no_wrap=True)
    table.add_column("text, picture or video", overflow="fold", ratio=1)
    table.add_column("id", overflow="fold")
    for place, result in enumerate(answer.results, 1):
        confidence = "-" if result.confidence is None else f"{result.confidence:.2f}"
        moment = "" if result.offset_s is None else f"{clock(result.offset_s)}  "
        what = escape(moment + (result.text or captions.get(result.id) or _shortened(result.uri or "")))
        table.add_row(str(place), f"{result.score:.3f}", confidence, result.modality, what, escape(result.id))
    return table


def clock(offset_s: float) -> str:
    """A moment of a video as players show it: 1:05, 2:00:07."""
    minutes, seconds = divmod(int(offset_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _shortened(uri: str) -> str:
    """Both ends of a long address; --json has the whole."""
    return uri if len(uri) <= 48 else f"{uri[:14]}…{uri[-32:]}"


def save_sheet(client: "Client", title: str, answer: "SearchResults", path: Path) -> None:
    """Save a labelled contact sheet of the results. Raises InvalidRequest when the file cannot be written."""
    from serve_app.contact_sheet import contact_sheet
    from serve_app.errors import InvalidRequest

    drawn = contact_sheet(title, [_cell(client, place, each) for place, each in enumerate(answer.results, 1)])
    try:
        drawn.save(path)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"the contact sheet cannot be saved as {path}: {error}") from error


def _cell(client: "Client", place: int, result: "SearchResult") -> "Cell":
    from serve_app.contact_sheet import Cell
    from serve_app.errors import NotFound

    caption = result.id if result.uri is None else result.text or result.id
    label = f"{place}.  {result.score:.3f}  {caption}"
    if result.uri is None:
        return Cell(label, text=result.text)
    try:
        return Cell(label, client.thumbnail(result.id, THUMBNAIL_PX))
    except NotFound as error:
        # Deleted since the search, or its file is gone: the sheet says so in its place.
        return Cell(label, text=error.message)
