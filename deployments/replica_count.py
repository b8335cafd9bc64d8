"""How many replicas a deployment has, as its callers see it."""

import asyncio
import contextvars
import logging
import time
from typing import Any

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

log = logging.getLogger(__name__)
ASK_EVERY_S = 5.0


class ReplicaCount:
    """The replicas that a handle reaches, as of at most a few seconds before the latest call of this; 1 until it is known.

    `method`: one of the deployment that takes no argument and costs little. Serve tells nobody but its controller how many
    replicas there are, so each of them is asked; one that answers with an error is there, too. Belongs to one event loop.
    """

    def __init__(self, handle: DeploymentHandle[Any], method: str) -> None:
        self._handle = handle
        self._method = method
        self._known = 1
        self._ask_from = 0.0
        self._asking: asyncio.Task[None] | None = None
        # Not in the context of whoever calls this: Ray would give the question up with that request.
        self._context = contextvars.copy_context()

    def __call__(self) -> int:
        now = time.monotonic()
        if now >= self._ask_from:
            self._ask_from = now + ASK_EVERY_S
            self._asking = asyncio.get_running_loop().create_task(self._ask(), context=self._context)
        return self._known

    async def _ask(self) -> None:
        try:
            answers = await self._handle.broadcast(self._method).results_async(
                timeout_s=ASK_EVERY_S, return_exceptions=True
            )
        except (DeploymentUnavailableError, RayError, TimeoutError) as error:
            # None is there at the moment, or one of them hangs: what was known stands until the next question.
            log.info("the replicas of %s cannot be counted: %r", self._handle.deployment_name, error)
        else:
            self._known = max(1, sum(not isinstance(answer, RayActorError) for answer in answers))
