"""Rows of a table of ours on their way to another model: what is listed, and the stage that reads it.

The pipeline behind it is that of `ingest`. What is up to date in the table that is made is left out here, so whatever attempt
comes after whatever crash goes on with what is missing.
"""

import asyncio
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TypeAlias

import pyarrow as pa
from ray.data._internal.execution.interfaces import TaskContext

from deployments.jobs.comparing import compare_tables
from deployments.jobs.meeting import MeetingHandle, opened
from deployments.jobs.progress import Meter
from deployments.jobs.resources import JobResources
from deployments.jobs.settings import JobSettings
from deployments.jobs.sink import TableSink
from deployments.jobs.stages import PREPARED_AT_ONCE, Encode
from deployments.jobs.steps import PICTURE_GROUP_STEPS, Step, pack
from deployments.jobs.tools import picture_tools
from deployments.jobs.workers import Loop, begin_work
from deployments.writing import open_for_writing
from serve_app.adapters.lance_table import LanceTable
from serve_app.core.catching_up import NO_ROWS, RowTimes, hashes_of, times_of
from serve_app.core.comparison import Comparison, SampleQuery
from serve_app.services.rereading import RowPreparation
from serve_app.types import And, Compare, Document, Filter, Operator

PART_ROWS = 1000


@dataclass(frozen=True, slots=True)
class RowRange:
    """The rows whose ids lie after one and up to another; None: without end."""

    after: str | None
    last: str | None

    def filter(self) -> Filter | None:
        begin = None if self.after is None else Compare("id", Operator.GT, self.after)
        end = None if self.last is None else Compare("id", Operator.LTE, self.last)
        return And((begin, end)) if begin and end else begin or end


Part: TypeAlias = RowRange | tuple[str, ...]
"""Rows that lie together, of which those that are not up to date are meant; or rows by their ids."""


@dataclass(frozen=True, slots=True)
class TableRows:
    """Implements settings.Parts: rows of the table `name`. `ids`: these alone. `failed`: not to be tried again as they were."""

    settings: JobSettings
    name: str
    ids: tuple[str, ...] | None = None
    failed: RowTimes = NO_ROWS

    def parts(self) -> Iterator[Part]:
        if self.ids is not None:
            yield from (
                self.ids[start : start + PREPARED_AT_ONCE] for start in range(0, len(self.ids), PREPARED_AT_ONCE)
            )
            return
        marks: list[str | None] = list(asyncio.run(self.table().id_marks(PART_ROWS)))
        yield from (RowRange(after, last) for after, last in pairwise(chain([None], marks, [None])))

    def table(self) -> LanceTable:
        return open_for_writing(self.settings.config.table, self.settings.config.full_text).named(self.name)


class ReadRows:
    """A stage as stages.Prepare is one: rows of the old table, ready to be encoded. What was done is told by the new table."""

    @staticmethod
    def group_steps(_: JobResources) -> int:
        """How many steps come in a block."""
        return PICTURE_GROUP_STEPS

    def __init__(
        self,
        source: TableRows,
        settings: JobSettings,
        meeting: MeetingHandle,
    ) -> None:
        begin_work(settings.resources)
        _, pictures, decoder = picture_tools(settings)
        self._failed = source.failed
        self._meter = Meter(meeting)
        self._runner = Loop()
        self._old = source.table()
        self._new = settings.open_table()
        # What is done is not asked for: a row may have to be done once more, when it has changed.
        opening = opened(meeting)
        self._service = RowPreparation(pictures, decoder, self._new, opening.card.preprocessing, observe=self._meter)

    def __call__(self, parts: pa.Table) -> Iterator[pa.Table]:
        for part in parts.column("part").to_pylist():
            yield from self.read(pickle.loads(part))  # noqa: S301 - pickled by list_parts

    def read(self, part: Part) -> Iterator[pa.Table]:
        began = time.perf_counter()
        ids = part if isinstance(part, tuple) else self._runner.run(self._changed(part))
        for start in range(0, len(ids), PREPARED_AT_ONCE):
            documents = self._runner.run(self._documents(ids[start : start + PREPARED_AT_ONCE]))
            self._meter("read", len(documents), 0, time.perf_counter() - began)
            outcomes = self._runner.run(self._service.prepare(documents))
            steps = zip(documents, outcomes, strict=True)
            yield from pack([Step(each.id, each.uri, outcome) for each, outcome in steps], PICTURE_GROUP_STEPS)
            self._meter.flush()
            began = time.perf_counter()

    async def _documents(self, ids: Sequence[str]) -> list[Document]:
        """Those that are there still, as they are now."""
        return [row.document for row in await self._old.get(ids) if row is not None]

    async def _changed(self, part: RowRange) -> tuple[str, ...]:
        there = await times_of(self._new.row_marks(part.filter()))
        found: list[str] = []
        async for ids, times in self._old.row_marks(part.filter()):
            hashes = hashes_of(ids)
            todo = ~there.has(hashes, times) & ~self._failed.has(hashes, times)
            found += [each for each, wanted in zip(ids, todo.tolist(), strict=True) if wanted]
        return tuple(found)


class CatchUp:
    """An actor with the whole pipeline in it, its model loaded: for a few rows at a time, at once."""

    def __init__(self, settings: JobSettings, meeting: MeetingHandle) -> None:
        self._meeting = meeting
        self._encode = Encode(settings, meeting)

    def begin(self, rows: TableRows, settings: JobSettings) -> None:
        """Say what comes from where, and, in `settings`, into which table it goes, which is ready."""
        self._read = ReadRows(rows, settings, self._meeting)
        self._sink = TableSink(settings, self._meeting)

    def warm(self) -> None:
        """Returns once both towers are loaded."""
        self._encode.load(words=True, pictures=True)

    def compare(self, before: JobSettings, after: JobSettings, queries: Sequence[SampleQuery]) -> Comparison | None:
        """See comparing.compare_tables. Here, since this process has what a job may take of a GPU."""
        return compare_tables(before, after, queries)

    def write(self, ids: tuple[str, ...]) -> None:
        """Encode and store these rows in one commit for each so many of them. Raises what TableSink raises."""
        blocks = [block for prepared in self._read.read(ids) for block in self._encode(prepared)]
        self._sink.write(blocks, TaskContext(0, "CatchUp"))
