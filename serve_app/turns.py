"""Processes that take turns with each other on a machine's cores instead of interrupting each other. Imports nothing.

Whoever computes a batch is interrupted several hundred times a second otherwise, by everything that has a message to handle, and
finds its caches cold. The price is that a message waits, for some milliseconds, for a core that is busy.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def take_turns() -> None:
    """This thread, and what it starts, wait for their turn: Linux' batch class. They stay as important as they were."""
    with suppress(AttributeError, OSError):  # not Linux, or not allowed in this container: then it costs some percent
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


@contextmanager
def children_take_turns() -> Iterator[None]:
    """What this thread starts meanwhile takes turns. The thread itself is afterwards as it was."""
    if not hasattr(os, "sched_getscheduler"):  # not Linux
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    take_turns()
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, *before)
