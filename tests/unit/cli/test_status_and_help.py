"""crossmodal status with the service up, not ready and down; and how quickly help comes."""

import subprocess
import sys

import pytest


def test_status_tells_model_and_counts(service, run, tmp_path):
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    run("add", tmp_path / "lines.txt")
    result = run("status")
    assert result.exit_code == 0, result.output
    assert "ready" in result.output
    assert "demo (local)" in result.output
    assert "2 (2 text)" in result.output


def test_status_says_why_the_service_is_not_ready(service, run):
    service.not_ready = "The table was built with another encoder."
    result = run("status")
    assert result.exit_code == 1
    assert "not ready: The table was built with another encoder." in result.output


def test_status_of_a_service_that_is_down_is_one_sentence(run):
    result = run("status", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "no service answers at http://127.0.0.1:9" in result.output


@pytest.mark.parametrize("command", ["serve", "add", "search", "status"])
def test_every_command_explains_itself(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--url" in result.output or command == "serve"


def test_the_command_line_starts_without_its_heavy_parts():
    heavy = "{'torch', 'ray', 'numpy', 'httpx', 'pydantic', 'PIL', 'lancedb'}"
    program = f"import sys, serve_app.cli; print({heavy} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"
