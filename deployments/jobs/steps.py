"""What travels between the stages of a job: items on their way, as rows of Arrow that Ray Data can bundle and cut."""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from serve_app.core.source_items import SourceItem
from serve_app.services.bulk import Fetched, Prepared, Unchanged
from serve_app.services.bulk_videos import Superseded
from serve_app.types import ItemFailure, Record

Outcome: TypeAlias = Fetched | Prepared | Record | Unchanged | Superseded | ItemFailure

# Few enough that encoders begin early and commits are cut finely, enough that Ray has little to count.
GROUP_STEPS = 32


@dataclass(frozen=True, slots=True)
class Step:
    """An item and what it became so far. `encoded`: by this job; else its vector was known."""

    key: str
    uri: str | None
    outcome: Outcome
    encoded: bool = False


def steps_of(items: Sequence[SourceItem], outcomes: Iterable[Outcome]) -> list[Step]:
    return [Step(item.key, item.uri, outcome) for item, outcome in zip(items, outcomes, strict=True)]


def pack(steps: Sequence[Step]) -> Iterator[pa.Table]:
    """Blocks of a row each, which holds a group of steps.

    As many blocks as the number of steps says, whatever is in them: a worker that is run again, because a node was lost with
    what it had made, must make the same blocks, although what it finds in the table by now is other. Ray takes those from the
    second run that are missing from the first, by their number; were they cut by bytes, rows would be lost between them.

    Pickled: they go from a worker of this job to another of the same code, and nowhere else.
    """
    for start in range(0, len(steps), GROUP_STEPS):
        group = pickle.dumps(list(steps[start : start + GROUP_STEPS]), protocol=5)
        yield pa.table({"steps": pa.array([group], pa.large_binary())})


def unpack(rows: pa.Table) -> list[Step]:
    """The steps of all groups."""
    groups: list[list[Step]] = [pickle.loads(group) for group in rows.column("steps").to_pylist()]  # noqa: S301 - see `pack`
    return [step for group in groups for step in group]


def groups_for(steps: int) -> int:
    """How many groups make so many steps, at least one."""
    return -(-steps // GROUP_STEPS)
