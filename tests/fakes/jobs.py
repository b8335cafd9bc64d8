"""What jobs wrote down, in memory."""

from dataclasses import replace
from datetime import UTC, datetime

from serve_app.types import FailedItem, JobState, JobStatus, StageFigures


def a_job(job_id: str = "holiday", **changes: object) -> JobState:
    """A running job that has just said something: 900 stored, 100 failed in ten seconds, held up by encoding."""
    now = datetime.now(UTC)
    state = JobState(
        *(job_id, "ingest", "documents", JobStatus.RUNNING, 1, now, now),
        stored=900,
        failed=100,
        encoded=900,
        running_s=10.0,
        stages={
            "fetch": StageFigures(1000, 5_000_000, 4.0, 2),
            "encode": StageFigures(900, 0, 19.0, 2),
            "write": StageFigures(1000, 0, 1.0, 1),
        },
    )
    return replace(state, **changes)  # type: ignore[arg-type]


class MemoryJobs:
    """Implements ports.JobReading."""

    def __init__(self) -> None:
        self.kept: dict[str, JobState] = {}
        self.failed: dict[str, list[FailedItem]] = {}

    async def states(self) -> list[JobState]:
        return list(self.kept.values())

    async def state(self, job_id: str) -> JobState | None:
        return self.kept.get(job_id)

    async def failures(self, job_id: str, attempt: int, limit: int) -> list[FailedItem]:
        return self.failed.get(job_id, [])[:limit]
