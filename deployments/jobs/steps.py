"""What travels between the stages of a job: items on their way, as rows of Arrow that Ray Data can bundle and cut."""

import io
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pyarrow as pa

from serve_app.core.source_items import SourceItem
from serve_app.services.bulk import Prepared, Unchanged
from serve_app.services.bulk_videos import Superseded
from serve_app.types import ItemFailure, Record

Outcome: TypeAlias = SourceItem | Prepared | Record | Unchanged | Superseded | ItemFailure

# Few enough that encoders begin early and commits are cut finely, enough that Ray has little to count. Fewer where pictures, or
# their pixels, are in them.
GROUP_STEPS = 128
PICTURE_GROUP_STEPS = 32


@dataclass(frozen=True, slots=True)
class Step:
    """An item and what it became so far. `encoded`: by this job; else its vector was known."""

    key: str
    uri: str | None
    outcome: Outcome
    encoded: bool = False


def steps_of(items: Sequence[SourceItem], outcomes: Iterable[Outcome]) -> list[Step]:
    return [Step(item.key, item.uri, outcome) for item, outcome in zip(items, outcomes, strict=True)]


def pack(steps: Sequence[Step], group_steps: int = GROUP_STEPS) -> Iterator[pa.Table]:
    """Blocks of a row each, which holds a group of steps.

    As many blocks as the number of steps says, whatever is in them: a worker that is run again, because a node was lost with
    what it had made, must make the same blocks, although what it finds in the table by now is other. Ray takes those from the
    second run that are missing from the first, by their number; were they cut by bytes, rows would be lost between them.

    Pickled: they go from a worker of this job to another of the same code, and nowhere else.
    """
    for start in range(0, len(steps), group_steps):
        group, large = _pickled(list(steps[start : start + group_steps]))
        yield pa.table(
            {
                "steps": pa.array([group], pa.large_binary()),
                "large": pa.array([[each.raw() for each in large]], pa.list_(pa.large_binary())),
            }
        )


def unpack(rows: pa.Table) -> list[Step]:
    """The steps of all groups."""
    groups = zip(rows.column("steps").to_pylist(), rows.column("large").to_pylist(), strict=True)
    return [step for group, large in groups for step in pickle.loads(group, buffers=large)]  # noqa: S301 - see `pack`


class _Pickler(pickle.Pickler):
    """Leaves pictures out, as it does with arrays by itself: copied as they are, they cost a third of what pickling them does."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, SourceItem) and value.data is not None:
            return _with_data, (replace(value, data=None), pickle.PickleBuffer(value.data))
        return NotImplemented


def _pickled(steps: list[Step]) -> tuple[bytes, list[pickle.PickleBuffer]]:
    file, large = io.BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(file, protocol=5, buffer_callback=large.append).dump(steps)
    return file.getvalue(), large


def _with_data(item: SourceItem, data: bytes) -> SourceItem:
    return replace(item, data=data)


def written_group_steps(commit_rows: int) -> int:
    """How many steps come in a block of what is written: no more than a commit is to have."""
    return min(GROUP_STEPS, commit_rows)


def groups_for(steps: int, group_steps: int = GROUP_STEPS) -> int:
    """How many groups make so many steps, at least one."""
    return -(-steps // group_steps)
