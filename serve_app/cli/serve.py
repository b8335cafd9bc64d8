"""`crossmodal serve`: plain Ray Serve in the foreground. Ctrl-C ends it and everything that it started."""

from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from serve_app.cli.common import plain_failures, stderr, stdout

if TYPE_CHECKING:
    from rich.console import Console

    from serve_app.local_graph import LocalGraph

WAIT_S = 900.0


class Ingress(StrEnum):
    """How HTTP reaches the service; what each means stands in serve_app.ways_in."""

    AUTO = "auto"
    PLAIN = "plain"
    HAPROXY = "haproxy"


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", help="A configuration file of Ray Serve; by default serve_config.yaml.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="A file of configs/ without .yaml, or a path; else what --config says."),
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Another port than the file's.")] = None,
    ingress: Annotated[
        Ingress,
        typer.Option("--ingress", help="`haproxy` answers more; `auto` takes it where it can."),
    ] = Ingress.AUTO,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds until it has to be ready.")] = WAIT_S,
) -> None:
    """Start the service with `serve run`, say where it answers once it is ready, and serve until Ctrl-C.

    Exit status 0 after Ctrl-C, 1 when it did not become ready or ended by itself.
    """
    from configs.load import default_profile
    from serve_app.local_graph import LocalGraph, default_serve_file, read_serve_file, serve_command
    from serve_app.ways_in import best_way_in, way_in

    # A named file stands for itself; the default one takes the profile of the environment.
    chosen = profile or (default_profile() if config is None else None)
    reached_by = best_way_in(own_ray=False) if ingress is Ingress.AUTO else ingress.value
    with plain_failures(), TemporaryDirectory(prefix="crossmodal-") as folder, way_in(reached_by) as settings:
        file = read_serve_file(config or default_serve_file(), chosen, port)
        with LocalGraph(file, Path(folder), settings, serve_command(own_ray=False)) as graph:
            try:
                until_ready(stderr(), graph, wait_s)
                stdout().print(f"crossmodal answers at [bold]{graph.url}[/bold] (Ctrl-C ends it)")
                status = graph.wait()
            except KeyboardInterrupt:
                stderr().print("ending Serve and Ray ...")
                return
            stderr().print(graph.log_tail(), markup=False, soft_wrap=True)
            stderr().print(f"[red]`serve run` ended by itself with status {status}[/red]")
            raise typer.Exit(1)


def until_ready(console: "Console", graph: "LocalGraph", wait_s: float) -> None:
    """Show how the start goes until the service is ready. Raises NotReady, after the end of the log is shown."""
    from serve_app.errors import NotReady

    last = ""
    console.print("Starting Ray Serve ...")
    try:
        with console.status("starting") as line:

            def tell(reason: str) -> None:
                nonlocal last
                told = escape(reason.replace("\n", " "))
                line.update(f"[dim]{told[:100]}[/dim]")
                # A log has no status line that moves; each reason is written once.
                if told != last and not console.is_terminal:
                    console.print(f"  {told}", soft_wrap=True)
                last = told

            graph.wait_until_ready(wait_s, tell)
    except NotReady:
        console.print(graph.log_tail(), markup=False, soft_wrap=True)
        raise
