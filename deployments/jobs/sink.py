"""Writes the rows of a job into its table: one commit for each call, merged by id, and noted in the ledger right after.

A call that is repeated, because its worker was lost or because another attempt does it again, finds its rows there and changes
nothing. Beside the Indexer of a running service the table's own merge keeps one row per id.
"""

import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray
from ray.data import Datasink
from ray.data._internal.execution.interfaces import TaskContext

from deployments.jobs.ledger import STORED_ENCODED, STORED_KNOWN, UNCHANGED, Ledger
from deployments.jobs.progress import Meter, ProgressHandle
from deployments.jobs.settings import JobSettings
from deployments.jobs.steps import Step, groups_for, unpack, written_group_steps
from deployments.jobs.workers import Loop, begin_work
from serve_app.adapters.lance_table import LanceTable
from serve_app.core.videos import frames_of_others
from serve_app.errors import JobFailed, StorageUnavailable
from serve_app.services.bulk import Unchanged
from serve_app.services.bulk_videos import Superseded
from serve_app.services.committing import Commit, commit, refusal
from serve_app.types import ItemFailure, Record

T = TypeVar("T")

# What a commit of another writer, or of storage that is out of breath, may cost before the job gives up.
ATTEMPTS = 5
PAUSE_S = 1.0


class TableSink(Datasink[None]):
    """Few large commits, by as many writers as the job has. Ray's rows are groups of steps."""

    def __init__(self, settings: JobSettings, progress: ProgressHandle) -> None:
        self._settings = settings
        self._progress = progress

    @property
    def min_rows_per_write(self) -> int:
        rows = self._settings.commit_rows
        return groups_for(rows, written_group_steps(rows))

    def write(self, blocks: Iterable[pa.Table], ctx: TaskContext) -> None:  # noqa: ARG002 - Ray's signature
        """Commit, note, count. Raises JobFailed when more items have failed than the job may leave out."""
        settings, began = self._settings, time.perf_counter()
        steps = [step for block in blocks for step in unpack(block)]
        if not steps:
            return
        writer = _writer(settings)
        failures = {step.key: (step.uri, step.outcome) for step in steps if isinstance(step.outcome, ItemFailure)}
        rows = [(step, step.outcome) for step in steps if isinstance(step.outcome, Record)]
        refused, done = writer.write(rows)
        writer.clear([step.outcome for step in steps if isinstance(step.outcome, Superseded)])
        failures |= refused
        # A video is never done by its key: whether all of its frames are there, only the table can tell.
        kept = [step for step in steps if not isinstance(step.outcome, Superseded)]
        writer.note([step for step in kept if step.key not in failures], failures)
        meter = Meter(self._progress)
        meter("write", len(steps), 0, time.perf_counter() - began)
        meter.flush()
        stored = Counter(record.modality.value for step, record in rows if step.key not in failures)
        unchanged = sum(isinstance(step.outcome, Unchanged) for step in steps)
        told = self._progress.wrote.remote(dict(stored), unchanged, done.touched, sorted(failures))
        failed = ray.get(told)
        if settings.max_failures is not None and failed > settings.max_failures:
            raise JobFailed(f"{failed:,} items failed, and --max-failures allows {settings.max_failures:,}")


class _Writer:
    """The table and the ledger, opened once in each process that writes."""

    def __init__(self, settings: JobSettings) -> None:
        begin_work(settings.resources)
        self._attempt = settings.attempt
        self._runner = Loop()
        self._table: LanceTable = settings.open_table()
        self._ledger = Ledger(settings.config.table, settings.job_id)

    def clear(self, orders: Sequence[Superseded]) -> None:
        """Delete the frames that are of what videos were before."""
        for order in orders:
            others = frames_of_others(order.video_id, order.content_sha256)
            self._patiently(partial(self._table.delete_matching, others))

    def write(self, rows: Sequence[tuple[Step, Record]]) -> tuple[dict[str, tuple[str | None, ItemFailure]], Commit]:
        """What was refused, by key, and the commit of the rest. Of several records with one id the last one stands."""
        return self._patiently(lambda: self._write(rows))

    def _patiently(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._runner.run(work())
            except StorageUnavailable:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(attempt * PAUSE_S)
        raise AssertionError("unreachable")

    async def _write(
        self, rows: Sequence[tuple[Step, Record]]
    ) -> tuple[dict[str, tuple[str | None, ItemFailure]], Commit]:
        head = await self._table.head()
        refusals = [(step, refusal(record, head)) for step, record in rows]
        refused = {step.key: (step.uri, failure) for step, failure in refusals if failure is not None}
        last = {record.id: record for step, record in rows if step.key not in refused}
        return refused, await commit(self._table, list(last.values()), head.version)

    def note(self, done: Sequence[Step], failures: dict[str, tuple[str | None, ItemFailure]]) -> None:
        if failures:
            self._ledger.note_failures(self._attempt, failures)
        if done:
            self._ledger.note_done([step.key for step in done], [_kind(step) for step in done])


_WRITERS: dict[tuple[str, int], _Writer] = {}


def _writer(settings: JobSettings) -> _Writer:
    """Of this process: workers are used again, and opening the table takes longer than a commit."""
    key = (settings.job_id, settings.attempt)
    if key not in _WRITERS:
        _WRITERS[key] = _Writer(settings)
    return _WRITERS[key]


def _kind(step: Step) -> int:
    if isinstance(step.outcome, Unchanged):
        return UNCHANGED
    return STORED_ENCODED if step.encoded else STORED_KNOWN
