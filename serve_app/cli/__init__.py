"""The command line `crossmodal`: a command for each thing that the service, and the jobs beside it, can do.

All but ingest, reindex, export, import and, where no service is named, evaluate work over HTTP.

Only typer and rich are imported here, so that `--help` comes at once; each command imports the rest when it runs.
"""

import typer

from serve_app.cli.add import add
from serve_app.cli.delete import delete
from serve_app.cli.evaluate import evaluate
from serve_app.cli.exporting import export
from serve_app.cli.gc import gc
from serve_app.cli.importing import import_
from serve_app.cli.ingest import ingest
from serve_app.cli.jobs import jobs
from serve_app.cli.keeping import snapshot, table
from serve_app.cli.reindex import reindex
from serve_app.cli.search import search
from serve_app.cli.serve import serve
from serve_app.cli.status import status

app = typer.Typer(
    name="crossmodal",
    help="One search over text and pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(add)
app.command()(ingest)
app.command()(reindex)
app.command()(search)
app.command()(evaluate)
app.command()(export)
app.command("import")(import_)
app.command()(delete)
app.command()(gc)
app.command()(jobs)
app.command()(status)
app.add_typer(snapshot, name="snapshot")
app.add_typer(table, name="table")


def main() -> None:
    """The entry point of the package."""
    app()
