"""What a job that moves rows says while it runs: a line every few seconds, and on a cluster its state beside the table.

Knows no job's work. A job without an id runs before somebody's eyes, and leaves no state behind.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from configs.schema import AppConfig
from deployments.jobs.ledger import Ledger
from serve_app.cli.common import stderr
from serve_app.core.jobs import check_job_id
from serve_app.errors import CrossmodalError
from serve_app.types import JobState, JobStatus

EVERY_S = 5.0


class Teller:
    """`what`: "exported" of "12,000 rows exported". `state` is written to the ledger, where there is one, as rows come."""

    def __init__(self, what: str, ledger: Ledger | None = None, state: JobState | None = None) -> None:
        self._what, self._ledger, self._state = what, ledger, state
        self._began = self._told = time.monotonic()
        self._rows = 0

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began

    def __call__(self, rows: int) -> None:
        self._rows = rows
        if time.monotonic() - self._told >= EVERY_S:
            self._told = time.monotonic()
            rate = rows / max(self.seconds, 1e-9)
            stderr().print(f"{rows:,} rows {self._what}, {rate:,.0f} rows/s", markup=False, soft_wrap=True)
            self.save(JobStatus.RUNNING)

    def save(
        self, status: JobStatus, message: str = "", *, stored: int | None = None, unchanged: int = 0, failed: int = 0
    ) -> None:
        """Write how it stands. The counts are those at its end; until then it is told how many rows came."""
        if self._ledger is not None and self._state is not None:
            self._state = replace(
                self._state,
                status=status,
                message=message,
                updated_at=datetime.now(UTC),
                running_s=self.seconds,
                stored=self._rows if stored is None else stored,
                unchanged=unchanged,
                failed=failed,
            )
            self._ledger.save_state(self._state)


@contextmanager
def telling(kind: str, what: str, job_id: str | None, config: AppConfig, table: str | None) -> Iterator[Teller]:
    """Says that it runs, that it has failed, and why; that it has finished says whoever knows the counts."""
    if job_id is None:
        yield Teller(what)
        return
    check_job_id(job_id)
    ledger, now = Ledger(config.table, job_id), datetime.now(UTC)
    before = ledger.state()
    teller = Teller(
        what,
        ledger,
        JobState(
            id=job_id,
            kind=kind,
            table=table or config.table.name,
            status=JobStatus.RUNNING,
            attempt=1 if before is None else before.attempt + 1,
            started_at=now if before is None else before.started_at,
            updated_at=now,
        ),
    )
    teller.save(JobStatus.RUNNING)
    try:
        yield teller
    except BaseException as error:
        message = error.message if isinstance(error, CrossmodalError) else "it broke off: see its log"
        teller.save(JobStatus.FAILED, message)
        raise
