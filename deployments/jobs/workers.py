"""What every worker of a job begins with, and how it runs coroutines, being none itself."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pyarrow as pa

from deployments.jobs.resources import JobResources
from deployments.jobs.stepping_back import step_back
from deployments.replica import bound_lance_threads
from serve_app.turns import take_turns

T = TypeVar("T")


def begin_work(resources: JobResources) -> None:
    """Interrupt nobody, step back as far as the job is to, and take no more than is given. Before the first use of LanceDB."""
    if resources.steps_back:
        step_back()
    else:
        take_turns()
    bound_lance_threads()
    # Blocks are a megabyte or more and live for moments. Arrow's own allocator takes fresh memory for each, in pages so large
    # that to clear them takes four times as long as to fill them; malloc uses again what was freed.
    pa.set_memory_pool(pa.system_memory_pool())


class Loop:
    """An event loop of its own, for all that one worker runs.

    What asyncio.Runner is, without its handler of SIGINT, which Ray's workers get otherwise: Python's signal module, asked what
    handler there is, writes a message for each that it does not know, with all that the task returned in it. For a thousand
    rows with their vectors that takes ten times as long as to store them.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)
