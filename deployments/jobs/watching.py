"""Looks at a running job every few seconds: makes a JobState of its figures, writes it down, and tells whoever listens."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import ray
from ray.exceptions import RayError

from deployments.jobs.ledger import Done, Ledger
from deployments.jobs.progress import Figures, ProgressHandle
from deployments.jobs.resources import JobResources
from serve_app.errors import CrossmodalError
from serve_app.types import JobState, JobStatus, StageFigures

log = logging.getLogger(__name__)

EVERY_S = 2.0


class Watcher:
    """Runs in a thread while the job does. `begun`: the state at the start, whose counts are those of earlier attempts."""

    def __init__(
        self,
        ledger: Ledger,
        progress: ProgressHandle,
        begun: JobState,
        resources: JobResources,
        tell: Callable[[JobState], None],
    ) -> None:
        self._ledger = ledger
        self._progress = progress
        self._begun = begun
        self._resources = resources
        self._tell = tell
        self._since = time.time()
        self._upkeep_since: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="job-watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def upkeep_begins(self) -> None:
        self._upkeep_since = time.time()

    def end(self, status: JobStatus, done: Done, message: str = "") -> JobState:
        """Write and return the last state; its counts are those of the ledger."""
        self._ended.set()
        self._thread.join()
        try:
            state = self._state()
        except RayError:
            # Ray itself went down: what was last known has to do.
            state = self._begun
        state = replace(
            state,
            status=status,
            message=message,
            stored=done.stored,
            unchanged=done.unchanged,
            repeated=max(0, state.encoded - done.encoded),
        )
        self._ledger.save_state(state)
        return state

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            try:
                state = self._state()
                self._ledger.save_state(state)
                self._tell(state)
            except (CrossmodalError, RayError):
                # The state is for looking at; the job goes on without.
                log.warning("the state of the job could not be written", exc_info=True)

    def _state(self) -> JobState:
        figures: Figures = ray.get(self._progress.figures.remote())
        resources = self._resources
        preparing = resources.encoders if resources.encoders_prepare else resources.preparers
        workers = {
            **dict.fromkeys(("fetch", "compare", "decode"), preparing),
            "encode": resources.encoders,
            "write": resources.writers,
        }
        first, last = figures.encoding_since, figures.last_commit_at
        now = time.time()
        upkeep = 0.0 if self._upkeep_since is None else now - self._upkeep_since
        return replace(
            self._begun,
            updated_at=datetime.now(UTC),
            stored=self._begun.stored + figures.stored,
            unchanged=self._begun.unchanged + figures.unchanged,
            failed=figures.failed,
            skipped=figures.skipped,
            encoded=self._begun.encoded + figures.encoded,
            bytes=self._begun.bytes + figures.stages.get("fetch", (0, 0, 0.0))[1],
            startup_s=(first or now) - self._since,
            running_s=max(0.0, (last if self._upkeep_since and last else now) - first) if first else 0.0,
            upkeep_s=upkeep,
            stages={
                name: StageFigures(items, size, seconds, workers.get(name, resources.preparers))
                for name, (items, size, seconds) in figures.stages.items()
            },
        )
