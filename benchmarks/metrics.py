"""Our own metrics of a running graph, as Ray's agent tells them to Prometheus."""

import re
from collections.abc import Mapping
from pathlib import Path

import httpx

from serve_app.local_graph import LocalGraph

REPORTING: Mapping[str, str] = {"RAY_metrics_report_interval_ms": "2000"}
"""The environment of a graph whose replicas hand their metrics on more often than every ten seconds."""
REPORTED_WITHIN_S = 5.0
"""What a replica of such a graph has counted is told after so long."""


def exported(graph: LocalGraph) -> dict[str, float]:
    """Each metric of ours by its name without Ray's prefix, all replicas and tags summed up."""
    (folder,) = {found[1] for each in graph.processes() if (found := re.search(r"--session-dir=(\S+)", each.name))}
    (file,) = Path(folder).glob("metrics_export_port_*")
    told = httpx.get(f"http://127.0.0.1:{file.read_text()}/metrics").text
    sums: dict[str, float] = {}
    for name, value in re.findall(r"^ray_(crossmodal_\w+)(?:{.*})? (\S+)$", told, re.MULTILINE):
        sums[name] = sums.get(name, 0.0) + float(value)
    return sums
