"""`crossmodal status`: is the service there, what does it run, what does its table hold."""

from collections.abc import Mapping
from typing import Any

from serve_app.cli.common import Url, open_client, plain_failures, require_ready, stdout


def status(url: Url = None) -> None:
    """Show whether the service is ready, its model and its table. Exit status 1 when it is not ready."""
    from rich.table import Table as Grid

    with plain_failures(), open_client(url, retries=0) as client:
        require_ready(client)
        table = client.table()
        grid = Grid.grid(padding=(0, 2))
        rows = {
            "service": f"{client.url}, ready",
            "model": table.model or "none yet: the table is empty",
            "fingerprint": table.fingerprint or "-",
            "dimension": str(table.dimension or "-"),
            "table": f"version {table.version}, calibration {table.calibration_version or 0}",
            "search": _search(table.index),
            "documents": f"{sum(table.counts.values()):,}" + _by_modality(table.counts),
        }
        for name, value in rows.items():
            grid.add_row(f"[dim]{name}[/dim]", value)
        stdout().print(grid, soft_wrap=True)


def _search(index: Mapping[str, Any] | None) -> str:
    if index is None:
        return "exact"
    return f"{index['kind']}, recall {index['recall']:.3f}, {index['search_ms']:.0f} ms: {index['reason']}"


def _by_modality(counts: Mapping[str, int]) -> str:
    pairs = [f"{count:,} {modality}" for modality, count in counts.items()]
    return f" ({', '.join(pairs)})" if pairs else ""
