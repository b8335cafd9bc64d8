"""Starts the graphs that are measured, as child processes that end cleanly: the product's, and those of other modules here.

The number of replicas is fixed, so that autoscaling does not change what is measured; the replicas of an encoder share all the
cores that are there, as many as the plain loop has, and Ray is told of more CPUs so that everything finds its place.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from benchmarks.reporting import FOLDER
from serve_app.local_graph import LocalGraph, ServeFile, default_serve_file, free_port, read_serve_file, serve_command
from serve_app.ways_in import HAPROXY, PLAIN, way_in

READY_S = 300.0
LOGICAL_CPUS_PER_CORE = 32
ENCODERS = ("ImageEncoder", "TextEncoder")
# The ways in that `crossmodal serve` has, and one more to compare: the throughput flags with Serve's own proxy.
THROUGHPUT = "throughput"
THROUGHPUT_FLAGS = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}
INGRESS = (PLAIN, HAPROXY, THROUGHPUT)
# As good as none: each item travels at once, in a call of its own.
UNCOALESCED = {"CROSSMODAL_CALLS__MAX_BATCH_SIZE": "1", "CROSSMODAL_CALLS__MAX_IN_FLIGHT": "4096"}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def product_file(
    threads: int | None = None, replicas: Mapping[str, int] | None = None, queues: Mapping[str, int] | None = None
) -> ServeFile:
    """serve_config.yaml on a free port, with `threads` for each encoder (all cores by default) and fixed replica counts.

    `queues`: another `max_queued_requests` for the deployments named.
    """
    file = read_serve_file(default_serve_file(), profile="demo", port=free_port())
    content = deepcopy(dict(file.content))
    for deployment in content["applications"][0]["deployments"]:
        name = deployment["name"]
        deployment.pop("autoscaling_config", None)
        deployment["num_replicas"] = (replicas or {}).get(name, 1)
        if name in ENCODERS:
            deployment["ray_actor_options"] = {
                **deployment.get("ray_actor_options", {}),
                "num_cpus": threads or cores(),
            }
        if name in (queues or {}):
            deployment["max_queued_requests"] = (queues or {})[name]
    return ServeFile(content, file.host, file.port)


def encoders_asked_for(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `product_file` for the replicas of each encoder that `takes_encoders` was told of."""
    threads = options.threads or max(1, cores() // options.encoders)
    return {"threads": threads, "replicas": dict.fromkeys(ENCODERS, options.encoders)}


def takes_encoders(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark that starts the product."""
    parser.add_argument(
        "--encoders",
        type=int,
        default=cores(),
        help="replicas of each encoder; by default one a core",
    )
    parser.add_argument(
        "--threads", type=int, default=None, help="of each of these replicas; by default they have all cores among them"
    )


@contextmanager
def encoders_apart(graph: LocalGraph, count: int) -> Iterator[None]:
    """The encoders have so many cores to themselves; this process and all else of the graph share the others meanwhile.

    As where each replica has cores of its own. Raises ValueError when no core would be left for the others.
    """
    mine = os.sched_getaffinity(0)
    if not 0 < count < len(mine):
        raise ValueError(
            f"encoders on {count} cores and all else on others need more than the {len(mine)} that are here"
        )
    theirs = set(sorted(mine)[:count])
    for process in graph.processes():
        with suppress(FileNotFoundError):  # It ended while we looked.
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), theirs if process.name.endswith(ENCODERS) else mine - theirs)
    os.sched_setaffinity(0, mine - theirs)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def other_file(import_path: str, arguments: Mapping[str, Any] | None = None) -> ServeFile:
    """Another application on a free port, with Serve's defaults."""
    port = free_port()
    application = {"name": "benchmark", "import_path": import_path, "args": dict(arguments or {})}
    content = {
        "http_options": {"host": "127.0.0.1", "port": port},
        "logging_config": {"enable_access_log": False},
        "applications": [application],
    }
    return ServeFile(content, "127.0.0.1", port)


@contextmanager
def running(
    name: str, file: ServeFile, settings: Mapping[str, str] | None = None, ingress: str = PLAIN
) -> Iterator[LocalGraph]:
    """A ready graph with an empty table of its own; gone with all of its processes at the end. Raises NotReady."""
    folder = (FOLDER / "graphs" / f"{name}-{file.port}").resolve()
    environment = {
        "CROSSMODAL_TABLE__URI": str(folder / "table"),
        "CROSSMODAL_STORAGE__URI": str(folder / "pictures"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": LOGICAL_CPUS_PER_CORE * cores()}),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")))),
        **(THROUGHPUT_FLAGS if ingress == THROUGHPUT else {}),
    }
    with (
        way_in(PLAIN if ingress == THROUGHPUT else ingress) as reached,
        LocalGraph(file, folder, {**environment, **reached, **(settings or {})}, serve_command(own_ray=True)) as graph,
    ):
        graph.wait_until_ready(READY_S, lambda _: None)
        yield graph
    shutil.rmtree(folder)  # After an error it stays, with the log.


def encoder_settings(checkpoint: Path, precision: str) -> dict[str, str]:
    """The environment that puts a checkpoint in the place of the demo model."""
    return {
        "CROSSMODAL_ENCODER__MODEL": f"local-dir:{checkpoint.resolve()}",
        "CROSSMODAL_ENCODER__PRECISION": precision,
    }
