"""How a job stands, as JSON and as text for people. Knows nothing of how jobs run."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from serve_app.errors import InvalidRequest
from serve_app.types import JobState, JobStatus, StageFigures

# The driver writes the state every few seconds; after this long it is taken for dead.
LOST_AFTER = timedelta(seconds=60)
JOB_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def is_job_id(job_id: str) -> bool:
    return JOB_ID.fullmatch(job_id) is not None


def check_job_id(job_id: str) -> None:
    """Raises InvalidRequest unless the id is fit to be the name of a folder."""
    if not is_job_id(job_id):
        raise InvalidRequest("the id of a job has up to 63 of a-z, 0-9, - and _, a letter or digit first")


def state_to_json(state: JobState) -> dict[str, Any]:
    """As JSON values, with the rates and the bottleneck worked out."""
    content = asdict(state)
    content["started_at"], content["updated_at"] = state.started_at.isoformat(), state.updated_at.isoformat()
    content["items_per_s"] = round(items_per_s(state), 2)
    content["bottleneck"] = bottleneck(state)
    busy = shares(state)
    for name, each in state.stages.items():
        content["stages"][name]["items_per_s"] = round(stage_items_per_s(each), 2)
        content["stages"][name]["busy_share"] = round(busy[name], 3)
    return content


def state_from_json(content: Mapping[str, Any]) -> JobState:
    """What `state_to_json` wrote."""
    values = {key: value for key, value in content.items() if key in JobState.__dataclass_fields__}
    return JobState(
        **{
            **values,
            "status": JobStatus(values["status"]),
            "started_at": datetime.fromisoformat(values["started_at"]),
            "updated_at": datetime.fromisoformat(values["updated_at"]),
            "stages": {name: _stage_from_json(figures) for name, figures in values["stages"].items()},
        }
    )


def _stage_from_json(content: Mapping[str, Any]) -> StageFigures:
    return StageFigures(**{key: value for key, value in content.items() if key in StageFigures.__dataclass_fields__})


def state_from_bytes(data: bytes) -> JobState:
    return state_from_json(json.loads(data))


def state_to_bytes(state: JobState) -> bytes:
    return json.dumps(state_to_json(state), indent=1).encode()


def as_seen(state: JobState, now: datetime) -> JobState:
    """The state as it is to be shown: a job that says nothing any more is lost."""
    silent = state.status is JobStatus.RUNNING and now - state.updated_at > LOST_AFTER
    return replace(state, status=JobStatus.LOST) if silent else state


def items_per_s(state: JobState) -> float:
    """Items done by the last attempt per second of work, start and upkeep not counted."""
    done = state.stages.get("write", StageFigures()).items
    return done / state.running_s if state.running_s > 0 else 0.0


def stage_items_per_s(stage: StageFigures) -> float:
    """Items per second of all its workers together, while they work."""
    return stage.items * max(stage.workers, 1) / stage.busy_s if stage.busy_s > 0 else 0.0


def shares(state: JobState) -> dict[str, float]:
    """For each stage the share of its workers' time that it was busy, 0 to 1."""
    elapsed = max(state.running_s, 1e-9)
    return {name: min(1.0, each.busy_s / (elapsed * max(each.workers, 1))) for name, each in state.stages.items()}


def bottleneck(state: JobState) -> str | None:
    """The stage whose workers rest least; None before anything was measured."""
    busy = shares(state)
    return max(busy, key=lambda name: busy[name]) if busy and state.running_s > 0 else None


def progress_line(state: JobState) -> str:
    """One line for a log."""
    if not state.stages and state.skipped == 0:
        return f"starting, {state.startup_s:.0f} s so far"
    slowest = bottleneck(state)
    return (
        f"{state.stored:,} stored, {state.unchanged:,} unchanged, {state.failed:,} failed, "
        f"{items_per_s(state):,.1f} items/s" + (f", held up by {slowest}" if slowest else "")
    )


def summary(state: JobState) -> str:
    """What a finished job has done, a few lines."""
    lines = [
        f"job {state.id}: {state.status.value}" + (f", {state.message}" if state.message else ""),
        f"stored {state.stored:,}, unchanged {state.unchanged:,}, failed {state.failed:,}"
        + (f", done before {state.skipped:,}, encoded again {state.repeated:,}" if state.attempt > 1 else ""),
        f"{items_per_s(state):,.1f} items/s, {state.bytes / 1e6:,.1f} MB read; start {state.startup_s:.1f} s, "
        f"work {state.running_s:.1f} s, upkeep {state.upkeep_s:.1f} s",
    ]
    busy = shares(state)
    for name, each in state.stages.items():
        rate = f", {stage_items_per_s(each):,.0f} items/s while busy" if each.busy_s > 0 else ""
        lines.append(
            f"  {name:8} {each.items:>9,} items {each.busy_s:8.1f} s in {each.workers} ({busy[name]:.0%}){rate}"
        )
    return "\n".join(lines)
