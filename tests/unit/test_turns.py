"""Who takes turns, and what it leaves behind."""

import os
import subprocess
import sys

import pytest

from serve_app.turns import children_take_turns, take_turns

SAY = "import os; print(os.sched_getscheduler(0) == os.SCHED_BATCH, os.getpriority(os.PRIO_PROCESS, 0))"


def said_by(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout


def test_who_takes_turns_is_as_important_as_before() -> None:
    said = said_by(f"from serve_app.turns import take_turns; take_turns(); {SAY}")
    assert said == f"True {os.getpriority(os.PRIO_PROCESS, 0)}\n"


def test_children_take_turns_and_the_parent_does_not() -> None:
    before = os.sched_getscheduler(0)
    with children_take_turns():
        said = said_by(SAY)
    assert said == f"True {os.getpriority(os.PRIO_PROCESS, 0)}\n"
    assert os.sched_getscheduler(0) == before


def test_where_nobody_may_choose_all_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getscheduler(0)

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    take_turns()
    with children_take_turns():
        pass
    assert os.sched_getscheduler(0) == before


def test_elsewhere_than_on_linux_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getscheduler(0)
    monkeypatch.delattr(os, "sched_setscheduler")
    take_turns()
    with monkeypatch.context() as patched:
        patched.delattr(os, "sched_getscheduler")
        with children_take_turns():
            pass
    assert os.sched_getscheduler(0) == before
