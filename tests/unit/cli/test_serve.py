"""`crossmodal serve`, with a small server in the place of `serve run`: what that is told, and what is said of it."""

import signal
import sys

import pytest
import yaml

from serve_app import local_graph, ways_in
from serve_app.local_graph import free_port

# Says what it was told, is ready, answers one request and ends.
CHILD = """
import os, sys, yaml
from http.server import BaseHTTPRequestHandler, HTTPServer

class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

file = yaml.safe_load(open(sys.argv[1]))
print("profile", file["applications"][0]["args"]["profile"])
print("haproxy", os.environ.get("RAY_SERVE_ENABLE_HA_PROXY"), flush=True)
server = HTTPServer(("127.0.0.1", file["http_options"]["port"]), Ready)
server.handle_request()
sys.exit(3)
"""


@pytest.fixture
def serve(run, monkeypatch, tmp_path):
    """Runs the command with these options and a file of its own."""
    path = tmp_path / "serve.yaml"
    applications = [{"name": "a", "import_path": "m:b", "args": {"profile": "demo"}}]
    content = {"http_options": {"host": "127.0.0.1", "port": free_port()}, "applications": applications}
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setattr(local_graph, "serve_command", lambda own_ray: [sys.executable, "-c", CHILD])
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield lambda *options: run("serve", "--config", path, "--wait", "30", *options)
    for sign, action in before.items():
        signal.signal(sign, action)


def test_a_graph_that_ends_by_itself_is_told_with_where_it_answered_and_its_log(serve):
    port = str(free_port())
    result = serve("--port", port, "--profile", "other")
    assert result.exit_code == 1
    assert f"crossmodal answers at http://127.0.0.1:{port}" in result.output
    assert "profile other" in result.output
    assert "`serve run` ended by itself with status 3" in result.output


@pytest.mark.parametrize(
    ("own", "options", "told"),
    [
        (True, (), "haproxy 1"),
        (True, ("--ingress", "plain"), "haproxy None"),
        (False, (), "haproxy None"),
        (False, ("--ingress", "haproxy"), "haproxy 1"),
    ],
)
def test_haproxy_is_the_way_in_unless_a_ray_runs_already_or_another_is_asked_for(
    serve, monkeypatch, own, options, told
):
    monkeypatch.setattr(ways_in, "ray_runs_already", lambda: not own)
    assert told in serve(*options).output
