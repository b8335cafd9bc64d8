"""Shows how a job stands while it runs: a bar in a terminal, a line now and then in a log. Knows no job."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from serve_app.core.jobs import bottleneck, progress_line, shares
from serve_app.types import JobState

LINE_EVERY_S = 10.0


class Shown:
    """Use it in a `with`, and call it with each state. The bar has no end: how much there is, the job does not know."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told_at = 0.0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[busy]}", markup=False, style="dim"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, busy="")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, state: JobState) -> None:
        if self._console.is_terminal:
            self._bar.update(self._task, description=progress_line(state), busy=_busy(state))
        elif time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._told_at = time.monotonic()
            line = f"{state.updated_at:%H:%M:%S} {progress_line(state)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _busy(state: JobState) -> str:
    """What share of its time each stage works, such as "decode 41% encode 97%"; the busiest holds the job up."""
    if bottleneck(state) is None:
        return ""
    return " ".join(f"{name} {share:.0%}" for name, share in shares(state).items() if share >= 0.01)
