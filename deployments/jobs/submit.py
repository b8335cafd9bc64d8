"""Submits a job to a running cluster and follows it: `python -m deployments.jobs.submit ingest --job-id holiday s3://...`.

The code and the configuration of here travel along, so the job does what `--local` would do; sources, table and pictures are
reached by their addresses. Ray refuses a submission id twice, and does not run a job again that was killed. So each attempt
is a submission of its own, `<job id>-<number>`; what the attempts share lies on the table's storage, under the job's id.
"""

import asyncio
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient
from ray.job_submission import JobStatus as Submission

from configs.load import carried
from configs.schema import AppConfig
from deployments.jobs.configured import service_configuration
from deployments.jobs.showing import Shown
from serve_app.adapters.job_records import JobRecords
from serve_app.cli.common import failure, stderr, stdout
from serve_app.errors import ClusterUnavailable, CrossmodalError, InvalidRequest, StorageUnavailable
from serve_app.types import JobStatus

ROOT = Path(__file__).parents[2]
PACKAGES = ("serve_app", "deployments", "configs")
JOB = "crossmodal_job"
AGAIN_S = 1.0
# What Ray answers for want of a node that is up, as in a cluster that is only just starting.
NO_AGENT = "No available agent"
AGENT_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One submission of a job. `arguments`: those of the job, without what was meant for the submission."""

    kind: str
    job_id: str
    address: str
    config: AppConfig
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, kind: str, arguments: Sequence[str]) -> "Attempt":
        """Read from a command line. Raises InvalidConfig."""
        rest = list(arguments)
        taken = {name: _take(rest, name) for name in ("--address", "--config", "--profile", "--job-id")}
        file = taken["--config"]
        config = service_configuration(Path(file) if file else None, taken["--profile"])
        return cls(
            kind=kind,
            job_id=taken["--job-id"] or f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            address=taken["--address"] or config.jobs.address,
            config=config,
            arguments=tuple(rest),
        )

    @property
    def entrypoint(self) -> str:
        """A line for the shell of the head node, whose `python` need not be the one that Ray was started with."""
        python = "python"
        if sys.prefix != sys.base_prefix:
            # On this machine, or on others made like it, the environment that submits is the one to run in.
            python = f"$(command -v {shlex.quote(sys.executable)} || echo python)"
        return f"{python} -m deployments.jobs.{self.kind} " + shlex.join(["--job-id", self.job_id, *self.arguments])


def submit(attempt: Attempt) -> int:
    """Start the job, unless it runs already; show its output, and return the status for a shell."""
    client = connect(attempt.address)
    earlier = [each for each in client.list_jobs() if each.metadata and each.metadata.get(JOB) == attempt.job_id]
    running = [each.submission_id for each in earlier if not each.status.is_terminal()]
    if running and running[0]:
        submission = running[0]
        stderr().print(f"{submission} runs already on {attempt.address}: following it", markup=False, soft_wrap=True)
    else:
        submission = _start(client, attempt, _next_number(earlier))
        stderr().print(f"submitted {submission} to {attempt.address}", markup=False, soft_wrap=True)
    try:
        return asyncio.run(_watch(client, submission, attempt))
    except KeyboardInterrupt:
        stderr().print(
            f"the job {attempt.job_id} goes on without you: the same command with --job-id {attempt.job_id} follows it "
            f"again, and `ray job stop --address {attempt.address} {submission}` ends it",
            markup=False,
            soft_wrap=True,
        )
        return 130


def connect(address: str) -> JobSubmissionClient:
    """Raises ClusterUnavailable with a sentence."""
    # As `ray start` and `ray.init` do by themselves: a token that lies there is used.
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ClusterUnavailable(
            f"the Ray cluster at {address} wants a token: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to that of the cluster"
        ) from error
    except (ConnectionError, RuntimeError, OSError) as error:
        raise ClusterUnavailable(
            f"no Ray cluster answers at {address}; name the address of its dashboard with --address, or use --local"
        ) from error


def _start(client: JobSubmissionClient, attempt: Attempt, number: int) -> str:
    deadline = time.monotonic() + AGENT_WITHIN_S
    while True:
        try:
            return client.submit_job(
                entrypoint=attempt.entrypoint,
                submission_id=f"{attempt.job_id}-{number}",
                runtime_env={
                    "py_modules": [str(ROOT / package) for package in PACKAGES],
                    "excludes": ["__pycache__/"],
                    "env_vars": carried(attempt.config),
                },
                metadata={JOB: attempt.job_id},
            )
        except RuntimeError as error:
            if NO_AGENT not in str(error):
                raise InvalidRequest(f"the cluster did not take the job: {str(error).splitlines()[0][:300]}") from error
            if time.monotonic() > deadline:
                raise ClusterUnavailable(
                    "the cluster has no agent that takes jobs: its head did not get the agent's port, which another Ray on that "
                    "machine may hold (ray start --dashboard-agent-listen-port)"
                ) from error
        time.sleep(AGAIN_S)


def _next_number(earlier: Sequence[JobDetails]) -> int:
    return 1 + max((int((each.submission_id or "-0").rpartition("-")[2]) for each in earlier), default=0)


async def _watch(client: JobSubmissionClient, submission: str, attempt: Attempt) -> int:
    """Follow it, with a bar where this is a terminal that can read what the job writes beside its table."""
    with Shown(stderr()) as shown:
        bar = asyncio.create_task(
            _show(JobRecords(attempt.config.table.uri, attempt.config.table.options), attempt, shown)
        )
        try:
            return await _follow(client, submission)
        finally:
            bar.cancel()


async def _show(records: JobRecords, attempt: Attempt, shown: Shown) -> None:
    while stderr().is_terminal:
        with suppress(StorageUnavailable):
            state = await records.state(attempt.job_id)
            if state is not None and state.status is JobStatus.RUNNING:
                shown(state)
        await asyncio.sleep(AGAIN_S)


async def _follow(client: JobSubmissionClient, submission: str) -> int:
    shown = 0
    while True:
        passed = 0
        try:
            async for chunk in client.tail_job_logs(submission):
                # A connection that was made again tells everything from the beginning.
                fresh = chunk[max(0, shown - passed) :]
                passed += len(chunk)
                shown = max(shown, passed)
                stdout().print(fresh, end="", markup=False, highlight=False, soft_wrap=True)
        except (RuntimeError, aiohttp.ClientError):
            stderr().print("the connection to the cluster broke; trying again", markup=False)
        status = await asyncio.to_thread(client.get_job_info, submission)
        if status.status.is_terminal():
            if status.status is not Submission.SUCCEEDED and not shown:
                # It never came to run: only Ray knows why.
                stderr().print(status.message or status.status.value, markup=False, soft_wrap=True)
            return 0 if status.status is Submission.SUCCEEDED else 1
        await asyncio.sleep(AGAIN_S)


def _take(arguments: list[str], name: str) -> str | None:
    """Remove an option from a command line, as `--name value` or `--name=value`, and return its value."""
    for at, argument in enumerate(arguments):
        if argument == name and at + 1 < len(arguments):
            del arguments[at]
            return arguments.pop(at)
        if argument.startswith(f"{name}="):
            return arguments.pop(at).partition("=")[2]
        if argument == "--":
            return None
    return None


def main() -> int:
    """Command line."""
    # What Ray packs, and that the cluster has a token, are no news.
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        return submit(Attempt.of(sys.argv[1], sys.argv[2:]))
    except CrossmodalError as error:
        stderr().print(failure(error), soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
