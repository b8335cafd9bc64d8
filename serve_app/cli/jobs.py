"""`crossmodal jobs`: bulk work that runs or ran beside the service's table."""

from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.common import Url, open_client, plain_failures, stdout

if TYPE_CHECKING:
    from serve_app.client import Job


def jobs(
    job_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One job, with its stages and failures.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As the service tells it.")] = False,
    url: Url = None,
) -> None:
    """Show the latest jobs, or one of them."""
    from dataclasses import asdict
    from json import dumps

    with plain_failures(), open_client(url) as client:
        found = (client.job(job_id),) if job_id else client.jobs()
        if json:
            stdout().print_json(dumps(asdict(found[0]) if job_id else {"jobs": [asdict(each) for each in found]}))
        elif job_id:
            _show_one(found[0])
        else:
            _show_all(found)


def _show_all(found: "tuple[Job, ...]") -> None:
    from rich.table import Table as Grid

    if not found:
        stdout().print("there are no jobs")
        return
    grid = Grid(
        "job", "kind", "table", "status", "stored", "unchanged", "failed", "items/s", "held up by", "last heard of"
    )
    for each in found:
        counts = (f"{each.stored:,}", f"{each.unchanged:,}", f"{each.failed:,}", f"{each.items_per_s:,.1f}")
        when = each.updated_at[:19].replace("T", " ")
        grid.add_row(each.id, each.kind, each.table, each.status, *counts, each.bottleneck or "-", when)
    stdout().print(grid)


def _show_one(job: "Job") -> None:
    from rich.markup import escape
    from rich.table import Table as Grid

    said = f", {job.message}" if job.message else ""
    stdout().print(f"{job.kind} {job.id} into {job.table}: {job.status}{said} (attempt {job.attempt})", markup=False)
    stdout().print(
        f"stored {job.stored:,}, unchanged {job.unchanged:,}, failed {job.failed:,}, done before {job.skipped:,}, "
        f"encoded again {job.repeated:,}; {job.items_per_s:,.1f} items/s"
    )
    stages = Grid("stage", "items", "workers", "busy", "items/s while busy")
    for name, each in job.stages.items():
        busy = f"{each['busy_share']:.0%}"
        stages.add_row(name, f"{each['items']:,}", str(each["workers"]), busy, f"{each['items_per_s']:,.0f}")
    if job.stages:
        stdout().print(stages)
    if job.failures:
        failures = Grid("item", "code", "why")
        for failure in job.failures:
            failures.add_row(escape(failure["key"]), failure["code"], escape(failure["message"]))
        stdout().print(failures)
        stdout().print(f"the first {len(job.failures)} of {job.failed:,} that failed")
