"""Jobs as they stand, for those who wait for them. Knows neither HTTP nor where jobs write things down."""

from collections.abc import Callable
from datetime import UTC, datetime

from serve_app.core.jobs import as_seen, is_job_id
from serve_app.errors import JobNotFound
from serve_app.ports import JobReading
from serve_app.types import FailedItem, JobState

# All of them are in the job's own table of failures.
SHOWN_FAILURES = 100


def _now() -> datetime:
    return datetime.now(UTC)


class JobService:
    """A job whose driver has said nothing for long is told as lost."""

    def __init__(self, records: JobReading, now: Callable[[], datetime] = _now) -> None:
        self._records = records
        self._now = now

    async def jobs(self, limit: int) -> list[JobState]:
        """The latest `limit` jobs, the last to have said something first."""
        now = self._now()
        states = sorted(await self._records.states(), key=lambda state: state.updated_at, reverse=True)
        return [as_seen(state, now) for state in states[:limit]]

    async def job(self, job_id: str) -> tuple[JobState, list[FailedItem]]:
        """One job, and the first SHOWN_FAILURES items that failed in its last attempt. Raises JobNotFound."""
        state = await self._records.state(job_id) if is_job_id(job_id) else None
        if state is None:
            raise JobNotFound("there is no job of this id")
        failures = await self._records.failures(job_id, state.attempt, SHOWN_FAILURES) if state.failed else []
        return as_seen(state, self._now()), failures
