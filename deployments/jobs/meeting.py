"""Where the workers of a job wait for what only one of them finds out: which encoder it is, and that the table is ready for it.

So the model is loaded where it is used and nowhere else, while the readers start. An actor beside the driver, lost only with
the job; it gathers the figures too, for each process of Ray's looks up a hundred times a second.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.jobs.progress import Progress
from serve_app.types import EncoderCard

if TYPE_CHECKING:
    from deployments.jobs.ledger import Hashes

MeetingHandle: TypeAlias = Any
"""A handle on the actor Meeting; Ray gives its methods types of their own."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What who prepares items has to know. `into_empty`: the table had no row at that time."""

    card: EncoderCard
    into_empty: bool


class Meeting(Progress):
    """What is asked before it is known is answered once it is; a failure is the answer to all."""

    def __init__(self, done: "list[ray.ObjectRef[Hashes]]") -> None:
        super().__init__()
        # In a list, or Ray would hand over the hashes themselves.
        self._done = done[0]
        self._card: asyncio.Future[EncoderCard] = asyncio.get_event_loop().create_future()
        self._opened: asyncio.Future[Opening] = asyncio.get_event_loop().create_future()

    async def done(self) -> "list[ray.ObjectRef[Hashes]]":
        """The hashes of keys that need no more work, shared by the readers of a machine."""
        return [self._done]

    async def is_described(self) -> bool:
        return self._card.done()

    async def describe(self, card: EncoderCard) -> None:
        if not self._card.done():
            self._card.set_result(card)

    async def card(self) -> EncoderCard:
        return await asyncio.shield(self._card)

    async def open(self, into_empty: bool) -> None:
        """The table is ready for the encoder."""
        self._opened.set_result(Opening(self._card.result(), into_empty))

    async def opening(self) -> Opening:
        return await asyncio.shield(self._opened)

    async def fail(self, error: Exception) -> None:
        """Neither will come."""
        for each in (self._card, self._opened):
            if not each.done():
                each.set_exception(error)
                each.exception()  # looked at: nobody may ever have asked


def call_meeting(done: "Hashes") -> MeetingHandle:
    """Start the actor where the driver is."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    handle: MeetingHandle = ray.remote(Meeting).options(num_cpus=0, scheduling_strategy=here).remote([ray.put(done)])
    return handle


def opened(meeting: MeetingHandle) -> Opening:
    """Once the encoder is known and the table is ready for it: until then this waits, and raises why they are not."""
    opening: Opening = ray.get(meeting.opening.remote())
    return opening
