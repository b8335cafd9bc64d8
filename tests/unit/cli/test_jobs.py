"""crossmodal jobs, against the service over fakes."""

import json

import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.types import FailedItem
from tests.fakes.jobs import a_job
from tests.http.conftest import app_of
from tests.http.serving import serving
from tests.unit.services.conftest import make_system


@pytest.fixture
def system():
    return make_system()


@pytest.fixture
def run(system):
    with serving(app_of(system)) as url:
        yield lambda *words: CliRunner().invoke(app, ["jobs", *words, "--url", url], env={"COLUMNS": "200"})


def test_jobs_are_listed_with_their_rate_and_what_holds_them_up(system, run):
    assert "there are no jobs" in run().output
    system.records.kept = {"holiday": a_job()}
    for shown in ("holiday", "running", "900", "100.0", "encode"):
        assert shown in run().output
    assert json.loads(run("--json").output)["jobs"][0]["stages"]["fetch"]["items_per_s"] == 500.0


def test_one_job_shows_its_stages_and_what_failed(system, run):
    system.records.kept = {"holiday": a_job(message="[odd] words")}
    system.records.failed = {"holiday": [FailedItem("a[1].png", None, "not_a_picture", "no pixels")]}
    output = run("holiday").output
    for shown in ("[odd] words", "95%", "a[1].png", "not_a_picture", "the first 1 of 100"):
        assert shown in output
    missing = run("nobody")
    assert (missing.exit_code, "job_not_found" in missing.output) == (1, True)
