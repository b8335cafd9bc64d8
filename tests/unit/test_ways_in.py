"""Which way in a graph takes, and what HAProxy is given of the machine."""

import os
import socket
from pathlib import Path

import pytest

from serve_app import ways_in
from serve_app.local_graph import free_port, port_is_taken
from serve_app.ways_in import FILES, HAPROXY, INGRESS, PLAIN, best_way_in, way_in

NODE_ID = "0" * 56  # of Ray's, a folder of its own for each
MOST_BYTES = 107  # of a socket's name, on Linux


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch, tmp_path):
    """No Ray runs here, and the environment has no word on HAProxy."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


def test_plain_serve_is_told_nothing():
    with way_in(PLAIN) as settings:
        assert settings == {}


def test_haproxy_has_the_usual_ports_unless_somebody_listens_there(monkeypatch):
    usual, taken = free_port(), free_port()
    monkeypatch.setattr(ways_in, "PORTS", {"STATS": usual, "METRICS": taken})
    with socket.create_server(("127.0.0.1", taken)), way_in(HAPROXY) as settings:
        assert settings["STATS"] == str(usual)
        assert settings["METRICS"] != str(taken)
        assert not port_is_taken("0.0.0.0", int(settings["METRICS"]))
        assert settings.items() >= INGRESS[HAPROXY].items()


def test_haproxy_has_files_of_its_own_with_short_names_and_they_are_gone_afterwards(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("a-long-name" * 10)))
    with way_in(HAPROXY) as first, way_in(HAPROXY) as second:
        folders = {Path(settings["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"]) for settings in (first, second)}
        assert len(folders) == 2
        for folder in folders:
            assert folder.stat().st_mode & 0o77 == 0
        for setting, name in FILES.items():
            path = Path(first[setting])
            assert path.parent / path.name in {folder / name for folder in folders}
            # HAProxy binds a socket under a name with its process id, and renames it.
            assert len(f"{path.parent}/{NODE_ID}/{path.name}.4194304.tmp") <= MOST_BYTES
    assert not any(folder.exists() for folder in folders)


def test_what_the_environment_says_of_haproxy_stands(monkeypatch):
    monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", "8505")
    with way_in(HAPROXY) as settings:
        assert "RAY_SERVE_HAPROXY_STATS_PORT" not in settings
        assert "RAY_SERVE_HAPROXY_METRICS_PORT" in settings


def test_haproxy_is_taken_where_ray_brings_it_and_starts_with_the_graph(monkeypatch):
    assert best_way_in(own_ray=True) == HAPROXY
    assert best_way_in(own_ray=False) == HAPROXY
    monkeypatch.setattr(ways_in, "find_spec", lambda name: None)
    assert best_way_in(own_ray=True) == PLAIN


@pytest.mark.parametrize(("address", "way"), [("10.0.0.1:6379", PLAIN), ("auto", PLAIN), ("local", HAPROXY)])
def test_a_ray_that_is_named_has_its_own_way_in(monkeypatch, address, way):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert best_way_in(own_ray=False) == way
    assert best_way_in(own_ray=True) == HAPROXY


def test_a_ray_that_was_started_on_this_machine_has_its_own_way_in(tmp_path):
    current = tmp_path / "ray" / "ray_current_cluster"
    current.parent.mkdir()
    current.write_text("10.0.0.1:6379")
    assert best_way_in(own_ray=False) == PLAIN
    assert best_way_in(own_ray=True) == HAPROXY
