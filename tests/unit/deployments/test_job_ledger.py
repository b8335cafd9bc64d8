"""The ledger on a real folder: what is noted is read again, by whoever comes next."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from configs.schema import TableConfig
from deployments.jobs.ledger import STORED_ENCODED, STORED_KNOWN, UNCHANGED, Ledger, hashes_of, is_among
from serve_app.adapters.job_records import JobRecords
from serve_app.types import FailedItem, ItemFailure, JobState, JobStatus, StageFigures


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(TableConfig(uri=str(tmp_path / "table")), "job")


def test_a_new_job_has_done_nothing(ledger: Ledger) -> None:
    assert ledger.state() is None
    assert len(ledger.done().hashes) == 0
    assert len(ledger.failures(1)) == 0


def test_what_was_done_is_known_again_and_counted_once(ledger: Ledger) -> None:
    ledger.note_done(["a", "b", "c"], [STORED_ENCODED, STORED_KNOWN, UNCHANGED])
    ledger.note_done(["a", "d"], [STORED_ENCODED, STORED_ENCODED])
    done = ledger.done()
    assert (done.stored, done.encoded, done.unchanged) == (3, 2, 1)
    assert is_among(hashes_of(["d", "e", "a"]), done.hashes).tolist() == [True, False, True]


def test_nothing_is_among_nothing() -> None:
    assert not is_among(hashes_of(["a"]), np.empty(0, np.uint64)).any()


def test_failures_are_those_of_the_attempt_and_each_key_stands_once(ledger: Ledger) -> None:
    broken = ItemFailure("not_a_picture", "it is none")
    ledger.note_failures(1, {"x": (None, broken)})
    ledger.note_failures(2, {"y": ("file:///y", broken)})
    ledger.note_failures(2, {"y": ("file:///y", broken), "z": (None, broken)})
    assert ledger.failures(2).to_pylist() == [
        {"key": "y", "uri": "file:///y", "code": "not_a_picture", "message": "it is none"},
        {"key": "z", "uri": None, "code": "not_a_picture", "message": "it is none"},
    ]


def test_the_state_comes_back_as_it_was(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    state = JobState(
        *("job", "ingest", "documents", JobStatus.RUNNING, 2, now, now), stages={"encode": StageFigures(3, 4, 5.0, 6)}
    )
    ledger.save_state(state)
    assert ledger.state() == state


def test_what_a_job_writes_down_is_told_elsewhere(ledger: Ledger, tmp_path: Path) -> None:
    records = JobRecords(str(tmp_path / "table"))
    assert asyncio.run(records.states()) == []
    assert asyncio.run(records.state("job")) is None
    now = datetime.now(UTC)
    state = JobState("job", "ingest", "documents", JobStatus.RUNNING, 2, now, now, failed=3)
    ledger.note_failures(2, {"x": ("file:///x", ItemFailure("not_a_picture", "it is none"))})
    assert asyncio.run(records.states()) == []  # begun, and nothing said so far
    ledger.save_state(state)
    ledger.note_failures(2, {"x": ("file:///x", ItemFailure("not_a_picture", "again"))})
    ledger.note_failures(1, {"y": (None, ItemFailure("not_a_picture", "earlier"))})
    assert asyncio.run(records.states()) == [state]
    assert asyncio.run(records.state("job")) == state
    (failed,) = asyncio.run(records.failures("job", 2, 10))
    assert (failed.key, failed.uri, failed.code) == ("x", "file:///x", "not_a_picture")
    assert asyncio.run(records.failures("job", 1, 10)) == [FailedItem("y", None, "not_a_picture", "earlier")]
    assert asyncio.run(records.failures("job", 2, 0)) == []
