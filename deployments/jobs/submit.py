"""Submits a job to a running cluster and follows it: `python -m deployments.jobs.submit ingest --job-id holiday s3://...`.

Ray refuses a submission id twice, and does not run a job again that was killed. So each attempt is a submission of its own,
`<job id>-<number>`; what the attempts share lies on the table's storage, under the job's id.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ray.job_submission import JobStatus, JobSubmissionClient

from serve_app.cli.common import failure, stderr, stdout
from serve_app.errors import CrossmodalError, StorageUnavailable

ADDRESS = "http://127.0.0.1:8265"
POLL_S = 1.0


def submit(kind: str, arguments: Sequence[str]) -> int:
    """Run `python -m deployments.jobs.<kind>` there, show its output, and return the status for a shell."""
    address, rest = _address(list(arguments))
    if "--job-id" not in rest:
        rest = ["--job-id", f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}", *rest]
    job_id = rest[rest.index("--job-id") + 1]
    try:
        client = JobSubmissionClient(address)
        attempts = [each.submission_id or "" for each in client.list_jobs()]
    except (ConnectionError, RuntimeError) as error:
        raise StorageUnavailable(
            f"no Ray cluster answers at {address}; name one with --address, or use --local"
        ) from error
    number = 1 + sum(each.startswith(f"{job_id}-") for each in attempts)
    submission = client.submit_job(
        entrypoint=shlex.join(["python", "-m", f"deployments.jobs.{kind}", *rest]),
        submission_id=f"{job_id}-{number}",
        # The code that submits is the code that runs. Models and tables are reached by URI, not carried along.
        runtime_env={"working_dir": str(Path(__file__).parents[2]), "excludes": ["/var/", "/.venv/", "/.git/"]},
        metadata={"crossmodal_job": job_id},
    )
    stderr().print(f"submitted {submission} to {address}", markup=False, soft_wrap=True)
    return _follow(client, submission)


def _follow(client: JobSubmissionClient, submission: str) -> int:
    shown = 0
    try:
        while True:
            status = client.get_job_status(submission)
            output = client.get_job_logs(submission)
            stdout().print(output[shown:], end="", markup=False, highlight=False, soft_wrap=True)
            shown = len(output)
            if status.is_terminal():
                return 0 if status is JobStatus.SUCCEEDED else 1
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        stderr().print(f"it goes on without you: ray job logs --follow {submission}", markup=False)
        return 130


def _address(arguments: list[str]) -> tuple[str, list[str]]:
    """That of the dashboard, and the arguments without it: the job itself is in the cluster already."""
    if "--address" not in arguments:
        return ADDRESS, arguments
    at = arguments.index("--address")
    return arguments[at + 1], arguments[:at] + arguments[at + 2 :]


def main() -> int:
    """Command line."""
    try:
        return submit(sys.argv[1], sys.argv[2:])
    except CrossmodalError as error:
        stderr().print(failure(error), soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
