"""A job from beginning to end: list, prepare, encode and write, streamed by Ray Data; resumed, watched, and tidied up after.

`run_job` is for every kind of bulk work that makes rows out of items: it takes a source, and a table to write.
"""

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError

from deployments.jobs.ledger import Done, Ledger
from deployments.jobs.meeting import MeetingHandle, call_meeting
from deployments.jobs.orders import JobOrder
from deployments.jobs.progress import Figures
from deployments.jobs.resources import LEAST_CPUS, JobResources, lasting_cpus, plan_resources
from deployments.jobs.settings import JobSettings, Parts, Source
from deployments.jobs.sink import TableSink
from deployments.jobs.stages import BATCHES_AT_ONCE, Encode, Prepare, list_parts
from deployments.jobs.stepping_back import step_back
from deployments.jobs.steps import groups_for
from deployments.jobs.watching import Watcher
from deployments.writing import indexing_service
from serve_app.core.jobs import check_job_id
from serve_app.errors import CrossmodalError, InternalError, JobFailed
from serve_app.types import EncoderCard, JobState, JobStatus, Modality

log = logging.getLogger(__name__)

# In the object store at once, between all stages, besides what the encoders are about to take.
WAITING_BYTES = 64 * 1024 * 1024
# Of pixels, as most models take them. What takes more waits in smaller numbers; the bound in bytes is the same.
PICTURE_BYTES = 224 * 224 * 3


def run_job(source: Source, order: JobOrder, tell: Callable[[JobState], None]) -> JobState:
    """Run it, or go on with it, on the Ray that this process is connected to; returns how it ended.

    A job that has finished is returned as it was. `tell` hears of the state every few seconds. Raises JobFailed with a
    sentence, FingerprintMismatch, and what the configuration is wrong about; the state of the job says the same.
    """
    check_job_id(order.job_id)
    ledger = Ledger(order.config.table, order.job_id)
    before = ledger.state()
    if before is not None and before.status is JobStatus.FINISHED:
        return before
    done = ledger.done()
    state = beginning(order, before, done)
    ledger.save_state(state)
    settings = settings_of(order, state.attempt)
    meeting = call_meeting(done.hashes)
    watcher = Watcher(ledger, meeting, state, settings.resources, tell)
    with failures_told(ledger, watcher, state.attempt), asyncio.Runner() as runner, watcher:
        with _opening_table(settings, meeting):
            stream(source, settings, meeting)
        service = indexing_service(settings.open_table(), order.config.table, order.config.search)
        figures: Figures = ray.get(meeting.figures.remote())
        watcher.upkeep_begins()
        rows = {Modality(name): count for name, count in figures.modalities.items()}
        runner.run(service.catch_up(rows, touched=figures.touched))
        ledger.save_failures(ledger.failures(state.attempt))
        return watcher.end(JobStatus.FINISHED, ledger.done())


@contextmanager
def failures_told(ledger: Ledger, watcher: Watcher, attempt: int) -> Iterator[None]:
    """Whatever ends the job inside stands in its state, and what failed before in its report; raises an error of ours."""
    try:
        yield
    except BaseException as error:
        failure = translated(error)
        ledger.save_failures(ledger.failures(attempt))
        watcher.end(JobStatus.FAILED, ledger.done(), failure.message)
        if isinstance(error, Exception):
            raise failure from error
        raise


def stream(
    source: Parts,
    settings: JobSettings,
    meeting: MeetingHandle,
    prepare: type[Any] = Prepare,
) -> None:
    """The pipeline itself; returns after the last commit. What stages ask Ray for is in `settings.resources`.

    `prepare`: the stage that reads parts of the source and gives steps; made and called as Prepare is.
    """
    resources = settings.resources
    encoder = settings.config.encoder
    batch_rows = BATCHES_AT_ONCE * max(encoder.max_batch_pictures, encoder.max_batch_texts // 2)
    _configure(WAITING_BYTES + 4 * resources.encoders * batch_rows * PICTURE_BYTES)
    data = ray.data.from_arrow(pa.table({"begin": [0]})).map_batches(
        list_parts,  # type: ignore[arg-type]
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={"source": source},
        num_cpus=LEAST_CPUS,
    )
    data = data.map_batches(
        prepare,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=resources.preparers, max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(source, settings, meeting),
        num_cpus=resources.preparer_cpus,
    )
    data = data.map_batches(
        Encode,
        batch_size=groups_for(batch_rows, prepare.group_steps(resources)),
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=resources.encoders, max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(settings, meeting),
        num_cpus=resources.encoder_cpus,
        num_gpus=resources.encoder_gpus or None,
    )
    data.write_datasink(
        TableSink(settings, meeting),
        concurrency=resources.writers,
        ray_remote_args={"num_cpus": resources.writer_cpus},
    )


def _configure(store_bytes: int) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Each row a block of its own, however large: see steps.pack.
    context.target_max_block_size = 1
    # By two, the default, a reader of small blocks stands still until the driver comes round.
    context._max_num_blocks_in_streaming_gen_buffer = 16
    context.issue_detectors_config.detectors = []
    context.execution_options.resource_limits = ray.data.ExecutionResources(object_store_memory=store_bytes)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # A source with fewer parts than the job has encoders is no mistake.
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)


@contextmanager
def _opening_table(settings: JobSettings, meeting: MeetingHandle) -> Iterator[None]:
    """Meanwhile make the table ready. What comes first, the table or the end of what is done here, ends the waiting for it."""
    opening = threading.Thread(target=_open_table, args=(settings, meeting), name="job-table", daemon=True)
    opening.start()
    try:
        yield
    finally:
        with suppress(RayError):
            meeting.fail.remote(JobFailed("the job ended before its table was opened"))
        opening.join()


def _open_table(settings: JobSettings, meeting: MeetingHandle) -> None:
    """Once an encoder says what it is, make the table if there is none, and let the readers begin. Runs in a thread."""
    config = settings.config
    try:
        card: EncoderCard = ray.get(meeting.card.remote())
        service = indexing_service(settings.open_table(), config.table, config.search)
        info = asyncio.run(service.prepare_table(card))
        ray.get(meeting.open.remote(into_empty=not any(info.counts.values())))
    except CrossmodalError as error:
        # The readers hear it, and the pipeline ends with it.
        meeting.fail.remote(error)
    except RayError:
        # The encoder could not say what it is, which the readers hear too; or Ray itself went down.
        log.info("no table was opened", exc_info=True)


def settings_of(order: JobOrder, attempt: int) -> JobSettings:
    return JobSettings(
        config=order.config,
        job_id=order.job_id,
        attempt=attempt,
        resources=_resources(order),
        beside=order.beside,
        copies=order.copies,
        roots=order.roots,
        max_failures=order.max_failures,
        commit_rows=order.commit_rows,
        frames=order.frames,
    )


def _resources(order: JobOrder) -> JobResources:
    total, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    # More CPUs may be declared than a machine has: Ray is told so on purpose, where everything asks for little.
    cpus = total.get("CPU", 1.0)
    nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    resources = plan_resources(
        cpus=min(cpus, float(os.cpu_count() or 1)) if len(nodes) == 1 else cpus,
        gpus=0.0 if order.config.encoder.device == "cpu" else total.get("GPU", 0.0),
        free_cpus=lasting_cpus(free.get("CPU", 0.0), nodes),
        free_gpus=free.get("GPU", 0.0),
        share=order.share,
        threads=order.config.encoder.threads,
        encoders=order.encoders,
        preparers=order.preparers,
    )
    if order.kind != "ingest":
        # What reads rows of a table prepares them itself. And it must get through: writes of the service wait for its end.
        return replace(resources, encoders_prepare=False, steps_back=False)
    if resources.steps_back:
        step_back()
    return resources


def beginning(order: JobOrder, before: JobState | None, done: Done) -> JobState:
    now = datetime.now(UTC)
    state = before or JobState(
        id=order.job_id,
        kind=order.kind,
        table=order.beside or order.config.table.name,
        status=JobStatus.RUNNING,
        attempt=0,
        started_at=now,
        updated_at=now,
    )
    return replace(
        state,
        status=JobStatus.RUNNING,
        attempt=state.attempt + 1,
        updated_at=now,
        message="",
        stored=done.stored,
        unchanged=done.unchanged,
        failed=0,
        skipped=0,
        stages={},
    )


def translated(error: BaseException) -> CrossmodalError:
    """Ray's errors hold the tracebacks of workers; the sentence that we raised there is found among their causes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, CrossmodalError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return JobFailed("it was interrupted; the same --job-id goes on where it stopped")
    log.error("the job broke off", exc_info=error)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return InternalError(f"the job broke off: {lines[-1]}")
