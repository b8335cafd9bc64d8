from pathlib import Path

import pytest

from deployments.jobs.submit import Attempt

SERVE = """
applications:
  - import_path: deployments.graph:build
    args: {profile: demo, overrides: {jobs: {address: "http://head:8265"}, table: {uri: s3://bucket/table}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(SERVE, encoding="utf-8")
    return path


def test_what_is_meant_for_the_submission_does_not_reach_the_job(file: Path) -> None:
    given = [
        "--config",
        str(file),
        "--share",
        "0.5",
        "--job-id=holiday",
        "--address",
        "http://other:1",
        "s3://b/my pictures",
    ]
    attempt = Attempt.of("ingest", given)
    assert (attempt.job_id, attempt.address) == ("holiday", "http://other:1")
    assert attempt.config.table.uri == "s3://bucket/table"
    assert attempt.entrypoint.endswith(" -m deployments.jobs.ingest --job-id holiday --share 0.5 's3://b/my pictures'")


def test_the_profile_names_the_cluster_and_a_job_without_a_name_gets_one(file: Path) -> None:
    attempt = Attempt.of("ingest", ["--config", str(file), "s3://b/x"])
    assert attempt.address == "http://head:8265"
    assert attempt.job_id.startswith("ingest-2")
