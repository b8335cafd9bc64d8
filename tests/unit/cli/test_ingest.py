from pathlib import Path

import pytest

from serve_app.cli.ingest import IngestArguments, anchored
from serve_app.cli.job_commands import argv


def test_paths_become_full_ones_and_addresses_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    full = anchored(
        IngestArguments(("pictures/", "s3://bucket/x", "/abs/{0..9}.tar"), config=Path("a.yaml"), base_uri="here")
    )
    assert full.sources == (f"{tmp_path}/pictures", "s3://bucket/x", "/abs/{0..9}.tar")
    assert (full.config, full.base_uri, full.failures) == (tmp_path / "a.yaml", f"{tmp_path}/here", None)


def test_arguments_become_a_command_line_that_says_the_same() -> None:
    given = IngestArguments(("a", "b"), column=("id=key", "text=t"), copy=True, share=0.5, job_id="x")
    assert argv(given) == [
        *("--column", "id=key", "--column", "text=t"),
        *("--job-id", "x", "--copy", "--share", "0.5", "--", "a", "b"),
    ]
