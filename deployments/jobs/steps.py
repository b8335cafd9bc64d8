"""What travels between the stages of a job: items on their way, as rows of Arrow that Ray Data can bundle and cut."""

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from serve_app.core.source_items import SourceItem
from serve_app.services.bulk import Prepared, Unchanged
from serve_app.services.bulk_videos import Superseded
from serve_app.types import ItemFailure, Record

Outcome: TypeAlias = Prepared | Record | Unchanged | Superseded | ItemFailure


@dataclass(frozen=True, slots=True)
class Step:
    """An item and what it became so far. `encoded`: by this job; else its vector was known."""

    key: str
    uri: str | None
    outcome: Outcome
    encoded: bool = False


def steps_of(items: Sequence[SourceItem], outcomes: Iterable[Outcome]) -> list[Step]:
    return [Step(item.key, item.uri, outcome) for item, outcome in zip(items, outcomes, strict=True)]


def pack(steps: Iterable[Step]) -> pa.Table:
    """A block of steps. Pickled: they go from a worker of this job to another of the same code, and nowhere else."""
    return pa.table({"step": pa.array([pickle.dumps(step, protocol=5) for step in steps], pa.large_binary())})


def unpack(rows: pa.Table) -> list[Step]:
    return [pickle.loads(step) for step in rows.column("step").to_pylist()]  # noqa: S301 - see `pack`
