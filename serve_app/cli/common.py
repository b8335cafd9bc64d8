"""What all commands share: where the service is, and how a failure is said. Knows no command."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from serve_app.errors import CrossmodalError, InvalidFilter, NotReady

if TYPE_CHECKING:
    from serve_app.client import Client

Url = Annotated[
    str | None,
    typer.Option("--url", help="Address of the service; by default CROSSMODAL_URL, else http://127.0.0.1:8000."),
]

Filter = Annotated[
    str | None,
    typer.Option("--filter", help='JSON, such as {"field": "price", "lt": 20}; docs/filters.md has all of it.'),
]

# Made when asked for, not at import: a test, or a pipe, may have replaced the streams by then.


def stdout() -> Console:
    return Console(highlight=False)


def stderr() -> Console:
    return Console(stderr=True, highlight=False)


def open_client(url: str | None, retries: int = 5) -> "Client":
    """A client of the service that the user, or the environment, names."""
    from configs.load import service_url
    from serve_app.client import Client

    return Client(url or service_url(), retries=retries)


def require_ready(client: "Client") -> None:
    """Raises NotReady with the service's own reason."""
    state = client.ready()
    if not state.ready:
        raise NotReady(f"not ready: {state.reason}")


@contextmanager
def plain_failures() -> Iterator[None]:
    """Say an error of ours as one sentence with its code, and leave with status 1."""
    try:
        yield
    except CrossmodalError as error:
        stderr().print(failure(error), soft_wrap=True)
        raise typer.Exit(1) from error


def read_filter(text: str | None) -> Mapping[str, Any] | None:
    """A filter as it was typed. Raises InvalidFilter when it is not a JSON object."""
    import json

    try:
        found = None if text is None else json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidFilter(f"the filter is not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(found, dict | None):
        raise InvalidFilter('the filter is a JSON object, such as {"field": "price", "lt": 20}')
    return found


def failure(error: CrossmodalError) -> str:
    """An error as one line with markup."""
    return f"[red]{escape(error.message)}[/red] [dim]({error.code})[/dim]"
