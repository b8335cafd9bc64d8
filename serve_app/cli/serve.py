"""`crossmodal serve`: plain Ray Serve in the foreground. Ctrl-C ends it and everything that it started."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.common import failure, plain_failures, stderr, stdout

if TYPE_CHECKING:
    from serve_app.local_graph import LocalGraph

WAIT_S = 900.0


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", help="A configuration file of Ray Serve; by default serve_config.yaml.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="A file of configs/ without .yaml, or a path; else what --config says."),
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Another port than the file's.")] = None,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds until it has to be ready.")] = WAIT_S,
) -> None:
    """Start the service with `serve run`, say where it answers once it is ready, and serve until Ctrl-C.

    Exit status 0 after Ctrl-C, 1 when it did not become ready or ended by itself.
    """
    from configs.load import default_profile
    from serve_app.local_graph import LocalGraph, default_serve_file, read_serve_file, serve_command

    # A named file stands for itself; the default one takes the profile of the environment.
    chosen = profile or (default_profile() if config is None else None)
    with plain_failures(), TemporaryDirectory(prefix="crossmodal-") as folder:
        file = read_serve_file(config or default_serve_file(), chosen, port)
        with LocalGraph(file, Path(folder), {}, serve_command(own_ray=False)) as graph:
            try:
                _until_ready(graph, wait_s)
                stdout().print(f"crossmodal answers at [bold]{graph.url}[/bold] (Ctrl-C ends it)")
                status = graph.wait()
            except KeyboardInterrupt:
                stderr().print("ending Serve and Ray ...")
                return
            stderr().print(graph.log_tail(), markup=False)
            stderr().print(f"[red]`serve run` ended by itself with status {status}[/red]")
            raise typer.Exit(1)


def _until_ready(graph: "LocalGraph", wait_s: float) -> None:
    from serve_app.errors import NotReady

    console = stderr()
    try:
        with console.status("starting Ray Serve") as line:
            graph.wait_until_ready(wait_s, lambda reason: line.update(f"starting Ray Serve: {short(reason)}"))
    except NotReady as error:
        console.print(graph.log_tail(), markup=False)
        console.print(failure(error))
        raise typer.Exit(1) from error


def short(reason: str) -> str:
    """A reason in one line of the terminal, without markup."""
    from rich.markup import escape

    return escape(reason.replace("\n", " ")[:100])
