from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serve_app.core.jobs import (
    as_seen,
    bottleneck,
    check_job_id,
    items_per_s,
    progress_line,
    state_from_json,
    state_to_json,
    summary,
)
from serve_app.errors import InvalidRequest
from serve_app.types import JobState, JobStatus, StageFigures

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
STATE = JobState(
    *("holiday", "ingest", "documents", JobStatus.RUNNING, 1, NOW, NOW),
    stored=900,
    failed=100,
    running_s=10.0,
    stages={
        "fetch": StageFigures(1000, 5_000_000, 4.0, 2),
        "encode": StageFigures(900, 0, 19.0, 2),
        "write": StageFigures(1000, 0, 1.0, 1),
    },
)


def test_the_bottleneck_is_the_stage_whose_workers_rest_least() -> None:
    assert bottleneck(STATE) == "encode"
    assert items_per_s(STATE) == 100


def test_before_anything_was_done_nothing_holds_it_up() -> None:
    begun = replace(STATE, running_s=0.0, stages={})
    assert (bottleneck(begun), items_per_s(begun)) == (None, 0.0)
    assert progress_line(replace(begun, startup_s=12.3)) == "starting, 12 s so far"


def test_a_job_that_says_nothing_any_more_is_lost_and_an_ended_one_is_not() -> None:
    later = NOW + timedelta(minutes=2)
    assert as_seen(STATE, later).status is JobStatus.LOST
    assert as_seen(STATE, NOW + timedelta(seconds=30)).status is JobStatus.RUNNING
    assert as_seen(replace(STATE, status=JobStatus.FINISHED), later).status is JobStatus.FINISHED


def test_the_summary_names_rate_stages_and_repeated_work() -> None:
    text = summary(replace(STATE, attempt=2, skipped=50, repeated=7))
    assert "100.0 items/s" in text
    assert "done before 50, encoded again 7" in text
    assert "95%" in text


@pytest.mark.parametrize("wrong", ["", "../x", "A", "a/b", "a" * 64])
def test_an_id_that_is_no_name_of_a_folder_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest):
        check_job_id(wrong)


def test_a_state_comes_back_from_json_as_it_was() -> None:
    assert state_from_json(state_to_json(STATE)) == STATE
