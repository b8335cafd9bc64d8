"""Bulk work over HTTP, and the client's part in it."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from serve_app.client import Client
from serve_app.errors import JobNotFound
from serve_app.types import FailedItem, JobStatus
from tests.fakes.jobs import a_job
from tests.http.conftest import app_of, error_of
from tests.http.serving import serving
from tests.unit.services.conftest import System


async def test_jobs_are_told_with_their_rates_the_latest_first(client: httpx.AsyncClient, system: System) -> None:
    assert (await client.get("/v1/jobs")).json() == {"jobs": []}
    earlier = datetime.now(UTC) - timedelta(hours=1)
    finished = a_job("old", status=JobStatus.FINISHED, updated_at=earlier)
    system.records.kept = {"old": finished, "holiday": a_job()}
    jobs = (await client.get("/v1/jobs")).json()["jobs"]
    assert [(each["id"], each["status"]) for each in jobs] == [("holiday", "running"), ("old", "finished")]
    assert (jobs[0]["items_per_s"], jobs[0]["bottleneck"]) == (100.0, "encode")
    assert jobs[0]["stages"]["fetch"] == {
        **{"items": 1000, "bytes": 5_000_000, "busy_s": 4.0, "workers": 2},
        **{"items_per_s": 500.0, "busy_share": 0.2},
    }


async def test_a_job_whose_driver_is_gone_is_lost(client: httpx.AsyncClient, system: System) -> None:
    system.records.kept = {"holiday": a_job(updated_at=datetime.now(UTC) - timedelta(minutes=5))}
    assert (await client.get("/v1/jobs")).json()["jobs"][0]["status"] == "lost"
    assert (await client.get("/v1/jobs/holiday")).json()["status"] == "lost"


async def test_one_job_tells_what_it_could_not_store(client: httpx.AsyncClient, system: System) -> None:
    system.records.kept = {"holiday": a_job()}
    system.records.failed = {"holiday": [FailedItem("a.png", None, "not_a_picture", "no pixels")] * 200}
    job = (await client.get("/v1/jobs/holiday")).json()
    assert (job["failed"], len(job["failures"])) == (100, 100)
    assert job["failures"][0] == {"key": "a.png", "uri": None, "code": "not_a_picture", "message": "no pixels"}


@pytest.mark.parametrize("name", ["nobody", "A", "%2E%2E%2Fdocuments.lance", "x" * 100])
async def test_a_job_that_is_not_there_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    assert error_of(await client.get(f"/v1/jobs/{name}"))[:2] == (404, "job_not_found")


def test_the_client_has_a_call_for_each(system: System) -> None:
    system.records.kept = {"holiday": a_job()}
    system.records.failed = {"holiday": [FailedItem("a.png", None, "not_a_picture", "no pixels")]}
    with serving(app_of(system)) as url, Client(url, retries=0) as client:
        (job,) = client.jobs()
        assert (job.id, job.stored, job.stages["encode"]["workers"], job.failures) == ("holiday", 900, 2, ())
        assert client.job("holiday").failures[0]["code"] == "not_a_picture"
        with pytest.raises(JobNotFound):
            client.job("nobody")
