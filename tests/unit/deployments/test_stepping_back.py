"""A job that steps back does so before it imports what takes long, and for the threads that it starts."""

import os
import subprocess
import sys

import pytest

from deployments.jobs.stepping_back import LAST, STEPS_BACK, environment, step_back

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
