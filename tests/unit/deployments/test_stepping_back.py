"""A job that steps back does so before it imports what takes long, and for the threads that it starts."""

import os
import subprocess
import sys

import pytest

from deployments.jobs.stepping_back import LAST, STEPS_BACK, environment, step_back, take_turns

ASK = "import os, deployments.jobs; print(os.sched_getscheduler(0) == os.SCHED_IDLE)"


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_workers_step_back_with_the_first_import(share: float) -> None:
    told = (environment(share) or {"env_vars": {}})["env_vars"]
    said = subprocess.run([sys.executable, "-c", ASK], env={**os.environ, **told}, capture_output=True, check=True)
    assert said.stdout.decode().strip() == str(share < 1)
    assert (STEPS_BACK in told) is (share < 1)


def test_where_that_is_not_allowed_it_is_as_nice_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "sched_setscheduler", refused)
    monkeypatch.setattr(os, "setpriority", lambda *given: asked.append(given))
    step_back()
    assert asked == [(os.PRIO_PROCESS, 0, LAST)]


ASK_TURNS = """
import os
from deployments.jobs.stepping_back import take_turns
take_turns()
print(os.sched_getscheduler(0) == os.SCHED_BATCH, os.getpriority(os.PRIO_PROCESS, 0))
"""


def test_who_takes_turns_is_as_important_as_before() -> None:
    said = subprocess.run([sys.executable, "-c", ASK_TURNS], capture_output=True, check=True, text=True).stdout
    assert said == f"True {os.getpriority(os.PRIO_PROCESS, 0)}\n"


def test_where_nobody_may_choose_the_job_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getscheduler(0)
    monkeypatch.delattr(os, "sched_setscheduler")
    take_turns()
    assert os.sched_getscheduler(0) == before
