"""The re-encoding of a table into another one while it serves: build, catch up, compare, hold writes, switch.

How far it has come is told by the two tables alone (core/catching_up.py): an attempt that is killed, at whatever moment, is gone
on with by the next one, and going back to the former model is the same work in the other direction.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import ray

from configs.schema import EncoderConfig
from deployments.encoders import deploy_encoders
from deployments.jobs.ledger import Ledger
from deployments.jobs.meeting import MeetingHandle, call_meeting
from deployments.jobs.orders import JobOrder
from deployments.jobs.pipeline import beginning, failures_told, settings_of, stream
from deployments.jobs.resources import LEAST_CPUS
from deployments.jobs.rows import CatchUp, ReadRows, TableRows
from deployments.jobs.settings import JobSettings
from deployments.jobs.switching import NoService, Switchboard
from deployments.jobs.watching import Watcher
from deployments.writing import indexing_service, open_for_writing
from serve_app.core.catching_up import NO_ROWS, Delta, RowTimes, delta_between
from serve_app.core.comparison import Comparison, SampleQuery
from serve_app.core.jobs import check_job_id
from serve_app.errors import JobFailed, NotReady, TableConflict
from serve_app.types import EncoderCard, JobState, JobStatus, TableEntry

log = logging.getLogger(__name__)

# From so many rows on the pipeline is worth its start; fewer go through one process whose model is loaded.
FOR_THE_PIPELINE = 512
# What may be left to do while writes wait: a second or two of work.
FOR_THE_HOLD = 48
MOST_ROUNDS = 50
# Longer than the work in it should take, shorter than clients wait.
HOLD_S = 15.0
SWITCHES = 10
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class ReindexOrder:
    """`job.config` names the new encoder. `former`: the encoder of the service's own configuration.

    `switches`: take the new table into service in the end. `deploys`: start the new encoders where the service runs, if they
    are not its own and do not run yet. `max_lost`: rows that cannot be encoded again, with which it is switched nevertheless.
    """

    job: JobOrder
    former: EncoderConfig
    queries: Sequence[SampleQuery] = ()
    switches: bool = True
    deploys: bool = True
    compares: bool = True
    max_lost: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """Rows that were brought over and taken away, and in how many seconds."""

    changed: int
    gone: int
    seconds: float


@dataclass(slots=True)
class ReindexReport:
    """`held_s`: how long writes waited. `table_version`: of the new table in service; None if it was not switched."""

    old: str
    new: str
    rounds: list[Round] = field(default_factory=list)
    lost: int = 0
    comparison: Comparison | None = None
    held_s: float = 0.0
    table_version: int | None = None


def reindex(
    order: ReindexOrder, service: Switchboard | None, tell: Callable[[JobState], None]
) -> tuple[JobState, ReindexReport]:
    """Run it, or go on with it, on the Ray that this process is connected to. `service`: None where none uses the table.

    Raises JobFailed with a sentence, FingerprintMismatch, and what the configuration is wrong about.
    """
    check_job_id(order.job.job_id)
    ledger = Ledger(order.job.config.table, order.job.job_id)
    state = beginning(order.job, ledger.state(), ledger.done())
    ledger.save_state(state)
    settings = settings_of(order.job, state.attempt)
    meeting = call_meeting(np.empty(0, np.uint64))
    watcher = Watcher(ledger, meeting, state, settings.resources, tell)
    with failures_told(ledger, watcher, state.attempt), asyncio.Runner() as runner, watcher:
        work = _Reindexing(order, settings, ledger, meeting, runner, watcher, service)
        report = work.run()
        ledger.save_failures(ledger.failures(state.attempt))
        return watcher.end(JobStatus.FINISHED, ledger.done()), report


class _Reindexing:
    def __init__(
        self,
        order: ReindexOrder,
        settings: JobSettings,
        ledger: Ledger,
        meeting: MeetingHandle,
        runner: asyncio.Runner,
        watcher: Watcher,
        service: Switchboard | None,
    ) -> None:
        config = settings.config
        self._order = order
        self._settings = settings
        self._ledger = ledger
        self._meeting = meeting
        self._runner = runner
        self._watcher = watcher
        self._table = open_for_writing(config.table, config.full_text)
        self._service = service or NoService(self._table, runner)
        self._has_service = service is not None
        self._failed: RowTimes = NO_ROWS
        self._rows: TableRows | None = None
        self._catching_up: Any = None

    def run(self) -> ReindexReport:
        self._small_rounds()
        card: EncoderCard = ray.get(self._meeting.card.remote())
        old, new = _names(self._runner.run(self._table.keeping.tables()), self._settings.config.table.name, card)
        report = ReindexReport(old, new)
        if old == new:
            log.warning("the table %s of this model is in service already", new)
            return report
        self._settings = replace(self._settings, beside=new)
        self._old, self._new, self._card = self._table.named(old), self._table.named(new), card
        self._build(report)
        if self._order.compares:
            former = self._settings.config.model_copy(update={"encoder": self._order.former})
            before = replace(self._settings, config=former, beside=old)
            report.comparison = ray.get(
                self._small_rounds().compare.remote(before, self._settings, tuple(self._order.queries))
            )
        report.lost = len(self._failed.hashes)
        if self._order.switches:
            self._switch(report)
        return report

    def _build(self, report: ReindexReport) -> None:
        """All that is missing, and what upkeep makes of it: indexes and calibration are there before anybody searches."""
        config = self._settings.config
        upkeep = indexing_service(self._new, config.table, config.search)
        self._runner.run(upkeep.prepare_table(self._card))
        ray.get(self._meeting.open.remote(into_empty=False))
        self._rows = TableRows(self._settings, report.old)
        self._small_rounds().begin.remote(self._rows, self._settings)
        self._catch_up(report, FOR_THE_HOLD)
        self._watcher.upkeep_begins()
        counts = self._runner.run(self._new.info()).counts
        self._runner.run(upkeep.catch_up(counts, touched=True))
        self._catch_up(report, FOR_THE_HOLD)

    def _catch_up(self, report: ReindexReport, enough: int) -> None:
        """Round after round, each with what was written during the one before, until so little is left."""
        for _ in range(MOST_ROUNDS):
            delta = self._delta()
            if len(delta) <= enough:
                return
            self._bring_over(delta, report)
        raise JobFailed(
            f"after {MOST_ROUNDS} rounds {len(delta):,} rows are still behind: more is written than is encoded here; give the "
            "job a larger --share, or write less for a while"
        )

    def _delta(self) -> Delta:
        return self._runner.run(delta_between(self._old.row_marks, self._new.row_marks, self._failed))

    def _bring_over(self, delta: Delta, report: ReindexReport) -> None:
        began = time.monotonic()
        count = len(delta.changed.hashes)
        if delta.ids is None or count > FOR_THE_PIPELINE:
            self._end_small_rounds()
            rows = TableRows(self._settings, report.old, delta.ids, self._failed)
            stream(rows, self._settings, self._meeting, ReadRows)
        elif count:
            ray.get(self._small_rounds().write.remote(delta.ids))
        if delta.gone:
            self._runner.run(self._new.delete(delta.gone))
        failed = self._ledger.failures(self._settings.attempt).column("key").to_pylist()
        # As they were when they were tried: a row that is written again is tried again.
        self._failed = self._failed.then(delta.changed.only(failed))
        report.rounds.append(Round(count, len(delta.gone), time.monotonic() - began))

    def _small_rounds(self) -> Any:
        if self._catching_up is None:
            resources = self._settings.resources
            actor = ray.remote(num_cpus=LEAST_CPUS, num_gpus=resources.encoder_gpus)(CatchUp)
            self._catching_up = actor.remote(self._settings, self._meeting)
            if self._rows is not None:
                self._catching_up.begin.remote(self._rows, self._settings)
        return self._catching_up

    def _end_small_rounds(self) -> None:
        """The pipeline wants the same GPU."""
        if self._catching_up is not None:
            ray.kill(self._catching_up)
            self._catching_up = None

    def _switch(self, report: ReindexReport) -> None:
        if report.lost > self._order.max_lost:
            raise JobFailed(
                f"{report.lost:,} rows could not be encoded again and would be missing: failures.parquet names them, and "
                f"--max-lost {report.lost} takes the table {report.new} into service without them"
            )
        if self._has_service and self._order.deploys:
            deploy_encoders(self._settings.config, self._card)
        # Its model is loaded before anybody has to wait for it.
        ray.get(self._small_rounds().warm.remote())
        self._catch_up(report, FOR_THE_HOLD)
        report.table_version = self._use_new(report)
        try:
            self._service.wait_for(self._card.fingerprint, READY_S)
        except NotReady as error:
            self._service.use_table(report.old, None)
            raise JobFailed(
                f"the service did not go over to the new encoders ({error.message}), so {report.old} is in service again: are "
                "they running beside the graph? docs/reindex.md says how they are declared"
            ) from error

    def _use_new(self, report: ReindexReport) -> int:
        began = time.monotonic()
        try:
            for _ in range(SWITCHES):
                version = self._service.hold_writes(HOLD_S)
                delta = self._delta()
                if len(delta) > FOR_THE_PIPELINE:
                    # Nobody waits for the start of a pipeline.
                    self._service.release_writes()
                    self._catch_up(report, FOR_THE_HOLD)
                    began = time.monotonic()
                    continue
                if len(delta):
                    self._bring_over(delta, report)
                try:
                    version = self._service.use_table(report.new, version)
                except TableConflict:
                    # A writer besides the service, or its upkeep: what it did is brought over, too.
                    continue
                report.held_s = time.monotonic() - began
                return version
        except BaseException:
            self._service.release_writes()
            raise
        self._service.release_writes()
        raise JobFailed("somebody besides the service writes to the table all the time: end that job first")


def _names(tables: Sequence[TableEntry], name: str, card: EncoderCard) -> tuple[str, str]:
    """The table in service, and the one of this encoder: it may be there, from an earlier attempt or from former times."""
    old = next((each.name for each in tables if each.in_service), None)
    if old is None:
        raise JobFailed("there is no table yet: nothing is to be encoded again")
    of_encoder = [each for each in tables if each.fingerprint == card.fingerprint]
    if any(each.in_service for each in of_encoder):
        return old, old
    known = max(of_encoder, key=_last_used, default=None)
    return old, known.name if known else f"{name}.{card.fingerprint[:12]}"


def _last_used(table: TableEntry) -> tuple[float, str]:
    return (table.since.timestamp() if table.since else 0.0, table.name)
