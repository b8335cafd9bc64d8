"""What the commands that start jobs share: options, a command line that says the same again, and the child that runs it.

A job is `python -m deployments.jobs.<kind>` with the arguments of its command. A child process runs it, or submits it to a
cluster: this one knows neither Ray nor the table.
"""

import os
import signal
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[
    Path | None, typer.Option("--config", help="The service's Serve file; by default serve_config.yaml.")
]
Profile = Annotated[str | None, typer.Option("--profile", help="The service's profile; else what --config says.")]
Share = Annotated[
    float, typer.Option("--share", min=0.01, max=1, help="Of the cluster's cores and GPUs, for this job.")
]
CommitRows = Annotated[int, typer.Option("--commit-rows", min=1, help="Rows of one commit.")]
Encoders = Annotated[
    int | None, typer.Option("--encoders", min=1, help="Processes that encode; else by cores or GPUs.")
]
Readers = Annotated[
    int | None, typer.Option("--readers", min=1, help="Processes that fetch and decode; else by cores.")
]
Json = Annotated[bool, typer.Option("--json", help="The summary as JSON.")]


def argv(arguments: Any) -> list[str]:
    """A dataclass of arguments as a command line that says the same. Fields without a default are what it is about."""
    options: list[str] = []
    objects: list[str] = []
    for field in fields(arguments):
        value, name = getattr(arguments, field.name), f"--{field.name.replace('_', '-')}"
        if field.default is MISSING:
            objects += value if isinstance(value, tuple) else [value]
        elif isinstance(value, tuple):
            options += [part for each in value for part in (name, each)]
        elif value is True:
            options.append(name)
        elif value is not None and value is not False and value != field.default:
            options += [name, str(value)]
    return [*options, "--", *objects] if objects else options


def full(location: str) -> str:
    """An address as it is, a path from the root: the job runs in another folder."""
    return location if "://" in location else os.path.abspath(location)


def launch(kind: str, arguments: Any, *, here: bool) -> None:
    """Run the job in a child process, or submit it there; leaves with the child's status."""
    module = [f"deployments.jobs.{kind}"] if here else ["deployments.jobs.submit", kind]
    # Ctrl-C reaches the child too, which knows what to do, and this process waits for what it says. A handler, since a
    # signal that is ignored here would be ignored by the child, too.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        # The arguments are those of this user on this machine; no shell reads them.
        status = subprocess.run([sys.executable, "-m", *module, *argv(arguments)], check=False).returncode  # noqa: S603
    finally:
        signal.signal(signal.SIGINT, before)
    if status:
        raise typer.Exit(status)
