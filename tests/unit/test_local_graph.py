"""Starting and ending a graph, with a small child in the place of `serve run`."""

import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import yaml

from serve_app import local_graph
from serve_app.errors import InvalidConfig, NotReady
from serve_app.local_graph import LocalGraph, default_serve_file, free_port, read_serve_file

SLEEPER = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SLEEPER!r}])
print("started", flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    sys.exit(0)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "serve.yaml"
    applications = [{"name": "a", "import_path": "m:b", "args": {"profile": "demo"}}]
    path.write_text(
        yaml.safe_dump({"http_options": {"host": "127.0.0.1", "port": free_port()}, "applications": applications})
    )
    return read_serve_file(path)


@pytest.fixture
def _signals():
    """Puts back what a graph sets for the whole process."""
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for sign, action in before.items():
        signal.signal(sign, action)


pytestmark = pytest.mark.usefixtures("_signals")


def test_the_file_of_the_repository_is_read_with_another_profile_and_port():
    file = read_serve_file(default_serve_file(), profile="other", port=8123)
    assert file.url == "http://127.0.0.1:8123"
    assert [each["args"]["profile"] for each in file.content["applications"]] == ["other"]


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(InvalidConfig, match="not a configuration file of Ray Serve"):
        read_serve_file(path, profile="demo")


def test_leaving_ends_the_child_and_what_it_started(file, tmp_path):
    with LocalGraph(file, tmp_path, {}, [sys.executable, "-c", PARENT], grace_s=0.5) as graph:
        deadline = time.monotonic() + 20
        while "started" not in graph.log_tail() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(graph.processes()) == 2
    assert not graph.alive()
    assert graph.processes() == []


def test_a_child_that_ends_before_it_is_ready_is_told_with_its_status(file, tmp_path):
    command = [sys.executable, "-c", "print('boom'); raise SystemExit(3)"]
    with LocalGraph(file, tmp_path, {}, command) as graph:
        with pytest.raises(NotReady, match="ended with status 3"):
            graph.wait_until_ready(60, lambda reason: None)
        assert graph.log_tail() == "boom"


def test_a_graph_that_is_not_ready_in_time_is_told_with_its_reason(file, tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (
        LocalGraph(file, tmp_path, {}, command) as graph,
        pytest.raises(NotReady, match="did not become ready: no service"),
    ):
        graph.wait_until_ready(0.1, lambda reason: None)


def test_settings_reach_the_child(file, tmp_path):
    command = [sys.executable, "-c", "import os; print(os.environ['CROSSMODAL_TABLE__URI'])"]
    with LocalGraph(file, tmp_path, {"CROSSMODAL_TABLE__URI": "/t"}, command) as graph:
        assert graph.wait() == 0
    assert graph.log_tail() == "/t"


def test_a_port_that_is_taken_is_said_before_anything_starts(file, tmp_path):
    with socket.create_server(("127.0.0.1", file.port)), pytest.raises(NotReady, match=f"port {file.port} is taken"):
        LocalGraph(file, tmp_path, {}, ["false"])


def test_all_that_a_graph_starts_takes_turns(file, tmp_path):
    command = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0) == os.SCHED_BATCH, flush=True)"]
    with LocalGraph(file, tmp_path, {}, command) as graph:
        graph.wait()
        assert graph.log_tail() == "True"


def test_a_free_port_is_one_that_nobody_listens_at_or_is_given_unasked(monkeypatch):
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)):
        free = free_port()
        monkeypatch.setattr(local_graph, "FREE_PORTS", [taken, free])
        assert {free_port() for _ in range(20)} == {free}
    assert max(taken, free) < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
