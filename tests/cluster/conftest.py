"""A real graph: `serve run serve_config.yaml` in a process group of its own, with an empty table."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest

from serve_app.client import Client
from serve_app.errors import NotReady
from serve_app.local_graph import LocalGraph, default_serve_file, free_port, read_serve_file, serve_command
from serve_app.ways_in import HAPROXY, way_in

READY_S = 300.0


@contextmanager
def start_graph(
    folder: Path, replicas: Mapping[str, int] = MappingProxyType({}), ingress: str = HAPROXY, **settings: str
) -> Iterator[LocalGraph]:
    """A graph whose table and pictures lie in `folder`; `settings` are further ones, as in the environment.

    `replicas`: how many of a deployment, where it is not what the file says.
    """
    file = read_serve_file(default_serve_file(), port=free_port())
    for deployment in file.content["applications"][0]["deployments"]:
        if count := replicas.get(deployment["name"]):
            deployment["autoscaling_config"] |= {"min_replicas": count, "max_replicas": count}
    environment = {
        "CROSSMODAL_TABLE__URI": str(folder / "table"),
        "CROSSMODAL_STORAGE__URI": str(folder / "pictures"),
        "CROSSMODAL_PICTURES__ALLOWED_ROOTS": f"[{folder / 'videos'}]",
        "RAY_USAGE_STATS_ENABLED": "0",
        **settings,
    }
    with (
        way_in(ingress) as reached,
        LocalGraph(file, folder / "run", {**reached, **environment}, serve_command(own_ray=True)) as graph,
    ):
        yield graph


def until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Wait until it holds; an AssertionError if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.2)


def ready(graph: LocalGraph) -> LocalGraph:
    try:
        graph.wait_until_ready(READY_S, lambda reason: None)
    except NotReady as error:
        error.add_note(graph.log_tail(200))
        raise
    return graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all that belongs to the graph lies; under `videos` is what it may read by address."""
    folder = tmp_path_factory.mktemp("graph")
    (folder / "videos").mkdir()
    return folder


@pytest.fixture(scope="module")
def graph(folder: Path) -> Iterator[LocalGraph]:
    with start_graph(folder) as running:
        yield ready(running)


@pytest.fixture(scope="module")
def client(graph: LocalGraph) -> Iterator[Client]:
    with Client(graph.url) as client:
        yield client


@pytest.fixture(scope="module")
def http(graph: LocalGraph) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=graph.url, timeout=60) as http:
        yield http
