"""`crossmodal delete`: documents out of the service, by their ids or by a filter."""

from typing import Annotated

import typer

from serve_app.cli.common import Filter, Url, open_client, plain_failures, read_filter, stdout

# A request takes no more, unless the service is configured otherwise.
IDS_PER_REQUEST = 1000


def delete(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of documents.")] = None,
    filter_: Filter = None,
    everything: Annotated[bool, typer.Option("--all", help="Every document.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a filter or --all deletes.")] = False,
    url: Url = None,
) -> None:
    """Delete documents by their ids, those that a filter matches, or all. What is not there is not counted."""
    if sum((bool(ids), filter_ is not None, everything)) != 1:
        raise typer.BadParameter("give ids, --filter or --all, and one of them only")
    with plain_failures(), open_client(url) as client:
        where = read_filter(filter_)
        if not ids and not yes:
            what = "every document" if where is None else f"every document that {filter_} matches"
            typer.confirm(f"Delete {what} from {client.url}?", abort=True)
        if ids:
            parts = [ids[start : start + IDS_PER_REQUEST] for start in range(0, len(ids), IDS_PER_REQUEST)]
            done = [client.delete_many(ids=part) for part in parts]
        else:
            done = [client.delete_many(where=where, everything=everything)]
        stdout().print(f"deleted {sum(each.deleted for each in done)}, table version {done[-1].table_version}")
