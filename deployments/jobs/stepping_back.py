"""Lets whatever else runs on a machine go first. Imports nothing: it has to be done before all that takes long."""

import os

STEPS_BACK = "CROSSMODAL_STEPS_BACK"
"""Set in the environment of a job's workers: they step back with the first import of this package."""
LAST = 19


def environment(share: float) -> dict[str, dict[str, str]] | None:
    """The runtime environment of a job that takes such a share; None where it needs none."""
    return {"env_vars": {STEPS_BACK: "1"}} if share < 1 else None


def step_back() -> None:
    """This thread, and those that it starts, get what nobody else wants. May be repeated.

    Being nice is not enough: Ray starts all workers, those of services among them, 15 behind everything else, and what is 4 steps
    behind them still gets a third of a core that both want.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed in this container
        os.setpriority(os.PRIO_PROCESS, 0, LAST)
