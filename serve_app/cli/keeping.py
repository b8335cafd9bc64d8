"""`crossmodal snapshot` and `crossmodal table`: keep the table as it is, go back to that, take another one into service."""

from typing import Annotated

import typer

from serve_app.cli.common import Url, open_client, plain_failures, stdout

Name = Annotated[str, typer.Argument(metavar="NAME")]

snapshot = typer.Typer(
    help="Keep the table as it is now, search what it held, and go back to it.", no_args_is_help=True
)
table = typer.Typer(help="The table in service and those beside it; its upkeep.", no_args_is_help=True)


@snapshot.command("create")
def create_snapshot(name: Name, url: Url = None) -> None:
    """Keep the table as it is now, under a name. Copies no rows."""
    with plain_failures(), open_client(url) as client:
        made = client.create_snapshot(name)
        stdout().print(f"kept {made.documents:,} documents as {made.name} (table version {made.table_version})")


@snapshot.command("list")
def list_snapshots(url: Url = None) -> None:
    """Show every snapshot, the oldest first."""
    from rich.markup import escape
    from rich.table import Table as Grid

    with plain_failures(), open_client(url) as client:
        found = client.snapshots()
        if not found:
            stdout().print("there are no snapshots")
            return
        grid = Grid("name", "made at", "documents", "table", "version", "encoder")
        for each in found:
            made = each.created_at[:19].replace("T", " ")
            figures = (f"{each.documents:,}", each.table, str(each.table_version), each.fingerprint[:12])
            grid.add_row(escape(each.name), made, *figures)
        stdout().print(grid)


@snapshot.command("restore")
def restore_snapshot(name: Name, url: Url = None) -> None:
    """Make the table as it was. What was written since stays in older versions until they are pruned."""
    with plain_failures(), open_client(url) as client:
        stdout().print(f"the table is as {name} kept it (table version {client.restore_snapshot(name)})", markup=False)


@snapshot.command("delete")
def delete_snapshot(name: Name, url: Url = None) -> None:
    """Delete a snapshot, and no document."""
    with plain_failures(), open_client(url) as client:
        client.delete_snapshot(name)
        stdout().print(f"deleted the snapshot {name}", markup=False)


@table.command("list")
def list_tables(url: Url = None) -> None:
    """Show the table in service and those beside it."""
    from rich.markup import escape
    from rich.table import Table as Grid

    with plain_failures(), open_client(url) as client:
        grid = Grid("name", "in service", "documents", "encoder", "fingerprint")
        for each in client.tables():
            since = (each.since or "")[:19].replace("T", " ")
            state = f"since {since} UTC" if each.in_service and since else "yes" if each.in_service else "-"
            grid.add_row(escape(each.name), state, f"{each.documents:,}", escape(each.model), each.fingerprint[:12])
        stdout().print(grid)


@table.command("use")
def use_table(name: Name, url: Url = None) -> None:
    """Take a table into service; every replica follows by itself."""
    with plain_failures(), open_client(url) as client:
        stdout().print(f"{name} is in service (table version {client.use_table(name)})", markup=False)


@table.command("optimize")
def optimize_table(url: Url = None) -> None:
    """Bring calibration, files and indexes up to date with every row, instead of once enough has changed."""
    with plain_failures(), open_client(url) as client:
        stdout().print(f"the table is optimized (table version {client.optimize()})")


@table.command("drop")
def drop_table(name: Name, url: Url = None) -> None:
    """Remove a table for good. Refused while it is in service or may still be read, and while it has snapshots."""
    with plain_failures(), open_client(url) as client:
        client.drop_table(name)
        stdout().print(f"dropped the table {name}", markup=False)
