"""`crossmodal gc`: pictures that were kept and that no document points to any more."""

from typing import Annotated

import typer

from serve_app.cli.common import Url, open_client, plain_failures, stdout


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only counted.")] = False,
    url: Url = None,
) -> None:
    """Find pictures that no document points to, by a crash or a deletion; with --yes remove them."""
    with plain_failures(), open_client(url) as client:
        found = client.orphans(remove=yes)
        if yes:
            stdout().print(f"removed {found.removed:,} of {found.pictures:,} pictures, {found.removed_bytes:,} bytes")
        else:
            again = "; remove them with crossmodal gc --yes" if found.pictures else ""
            stdout().print(f"no document points to {found.pictures:,} pictures, {found.bytes:,} bytes{again}")
