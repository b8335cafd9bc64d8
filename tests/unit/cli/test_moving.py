"""crossmodal export and import: their arguments reach the job as they were given, with paths that hold anywhere."""

import signal
from pathlib import Path

import pytest

from serve_app.cli import job_commands
from serve_app.cli.exporting import ExportArguments
from serve_app.cli.importing import ImportArguments
from serve_app.cli.job_commands import argv


def test_arguments_become_a_command_line_that_says_the_same() -> None:
    given = ExportArguments("-odd", to="faiss", modality=("image", "text"), as_of="snap", json=True)
    assert argv(given) == [
        *("--to", "faiss", "--modality", "image", "--modality", "text", "--as-of", "snap", "--json", "--", "-odd")
    ]
    assert argv(ImportArguments("s3://b/x", unchecked=True, max_failures=0, commit_rows=8192)) == [
        *("--unchecked", "--max-failures", "0", "--", "s3://b/x")
    ]


@pytest.mark.parametrize(
    ("address", "module"),
    [((), ["deployments.jobs.imports"]), (("--address", "http://h:1"), ["deployments.jobs.submit", "imports"])],
)
def test_a_job_runs_here_or_is_submitted_with_full_paths(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: tuple[str, ...], module: list[str]
) -> None:
    started: list[list[str]] = []

    class Done:
        returncode = 3

    def start(command: list[str], check: bool) -> Done:
        started.append(command)
        # A child inherits a signal that is ignored, and would not hear of Ctrl-C.
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        return Done()

    monkeypatch.setattr(job_commands.subprocess, "run", start)
    monkeypatch.chdir(tmp_path)
    result = run("import", "export/", "--base-uri", "s3://bucket", "--failures", "f.jsonl", *address)
    assert result.exit_code == 3
    (command,) = started
    options = ["--base-uri", "s3://bucket", "--failures", f"{tmp_path}/f.jsonl", *address, "--", f"{tmp_path}/export"]
    assert command[2:] == [*module, *options]
