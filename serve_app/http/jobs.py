"""The operations that tell of bulk work. Asks the service, renders; knows no rule, and starts no job."""

from datetime import datetime
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from serve_app.core.jobs import state_to_json
from serve_app.errors import JobNotFound, Unavailable
from serve_app.http.answers import AnswerModel, json_of
from serve_app.http.operations import Answer, Operation, Parameter
from serve_app.services.jobs import JobService
from serve_app.types import FailedItem, JobState, JobStatus

SHOWN_JOBS = 100


class StageOut(AnswerModel):
    """What a stage of the job has done in this attempt. The stage that is busiest holds the job up."""

    items: int
    bytes: int
    busy_s: float = Field(description="Seconds of work, summed over its workers.")
    workers: int
    items_per_s: float = Field(
        description="Of all its workers together, while they work; 0 before anything was measured."
    )
    busy_share: float = Field(description="Of its workers' time, 0 to 1.")


class JobOut(AnswerModel):
    """How a job stands. Counts are over all attempts, times and stages those of the last one."""

    id: str
    kind: str
    table: str
    status: JobStatus = Field(description="`lost`: its driver was killed, and the job may be started again.")
    attempt: int
    started_at: datetime
    updated_at: datetime
    message: str = Field(description="Why it failed.")
    stored: int
    unchanged: int
    failed: int
    skipped: int = Field(description="Items that earlier attempts had done.")
    encoded: int
    repeated: int = Field(description="Items encoded once more, after an attempt or a worker was lost.")
    bytes: int
    startup_s: float
    running_s: float
    upkeep_s: float = Field(description="Indexes and calibration, after the last commit.")
    items_per_s: float
    bottleneck: str | None
    stages: dict[str, StageOut]


class JobsOut(AnswerModel):
    """The latest jobs, the last to have said something first."""

    jobs: tuple[JobOut, ...]


class FailedItemOut(AnswerModel):
    """An item that could not be stored."""

    key: str = Field(description="Of the item in its source: a path, a URI, `list.csv#12`.")
    uri: str | None
    code: str
    message: str


class JobReportOut(JobOut):
    """A job, and what it could not store."""

    failures: tuple[FailedItemOut, ...] = Field(
        description="The first hundred of the last attempt; all of them are in the job's `failures.parquet`."
    )


def job_operations(jobs: JobService) -> list[Operation]:
    """The operations, for routes and openapi.json."""

    async def every(request: Request) -> Response:  # noqa: ARG001 - all of them, whoever asks
        found = await jobs.jobs(SHOWN_JOBS)
        return json_of(JobsOut(jobs=tuple(JobOut.model_validate(state_to_json(state)) for state in found)))

    async def one(request: Request) -> Response:
        state, failures = await jobs.job(request.path_params["id"])
        return json_of(JobReportOut.model_validate(_report(state, failures)))

    return [
        Operation(
            "GET",
            "/v1/jobs",
            every,
            "jobs",
            "Bulk work: what runs and what ran",
            {200: Answer("The jobs.", JobsOut)},
            f"The latest {SHOWN_JOBS}, read beside the table: jobs of other clusters, and of clusters that are gone, too.",
            errors=(Unavailable,),
        ),
        Operation(
            "GET",
            "/v1/jobs/{id}",
            one,
            "jobs",
            "One job, and what it could not store",
            {200: Answer("The job.", JobReportOut)},
            errors=(JobNotFound, Unavailable),
            parameters=[Parameter("id", "path", "The job's id, as --job-id named it.")],
        ),
    ]


def _report(state: JobState, failures: list[FailedItem]) -> dict[str, Any]:
    rows = [FailedItemOut(key=each.key, uri=each.uri, code=each.code, message=each.message) for each in failures]
    return {**state_to_json(state), "failures": rows}
