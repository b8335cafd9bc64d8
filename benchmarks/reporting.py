"""What a benchmark leaves behind: machine, versions and rows as JSON under var/benchmarks/, and a Markdown table on the screen.

Knows nothing of what is measured. Units stand in the names of the figures (`p50_ms`, `images_per_s`).
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path("var/benchmarks")
PACKAGES = ("torch", "open_clip_torch", "ray", "lancedb", "transformers", "pillow", "numpy")
# The instructions that decide which precision is fast on a CPU.
FLAGS = ("amx_tile", "amx_bf16", "amx_int8", "avx512f", "avx512_bf16", "avx512_vnni", "avx2")
Row = Mapping[str, Any]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; NaN where there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def milliseconds(latencies_s: Sequence[float]) -> dict[str, float]:
    """p50 and p95 of latencies in seconds."""
    return {"p50_ms": 1000 * quantile(latencies_s, 0.5), "p95_ms": 1000 * quantile(latencies_s, 0.95)}


def machine_facts() -> dict[str, Any]:
    """CPU, cores that this process may use, instructions that matter, memory, and how busy the machine was at the time."""
    described = _cpu_description()
    flags = described.get("flags", "").split()
    return {
        "cpu": described.get("model name", "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of Python and of the packages that are installed here."""
    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # A peer's environment has others.
    return found


def told(row: dict[str, Any]) -> dict[str, Any]:
    """The row, after showing it on the standard error: a long run says how it goes."""
    print("; ".join(f"{key} {_cell(value)}" for key, value in row.items()), file=sys.stderr, flush=True)
    return row


def write_report(
    name: str, rows: Sequence[Row], settings: Row, *, machine: Row | None = None, folder: Path = FOLDER
) -> Path:
    """Write NAME.json and print its Markdown. `settings`: threads, precision and whatever else the rows have in common.

    `machine` is taken at the beginning of a run where the load of the machine matters; without it, now.
    """
    report = {
        "name": name,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": dict(machine or machine_facts()),
        "versions": package_versions(),
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(as_markdown(report), flush=True)
    return path


def as_markdown(report: Mapping[str, Any]) -> str:
    """A heading, one row a case, and the conditions below: what a reader needs to judge the figures."""
    rows: Sequence[Row] = report["rows"]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [
        f"### {report['name']}",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows),
        "",
        conditions(report),
        "",
    ]
    return "\n".join(lines)


def conditions(report: Mapping[str, Any]) -> str:
    """One line: machine, settings, versions, commit and day."""
    machine = report["machine"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['flags']) or 'no flags known'})",
        *(f"{key} {_cell(value)}" for key, value in report["settings"].items()),
        *(f"{package} {number}" for package, number in report["versions"].items()),
        f"commit {report['commit']}",
        f"load before {machine['load_1_min']}",
        report["made_at"][:10],
    ]
    return "; ".join(parts)


def _cell(value: Any) -> str:
    """Three digits that matter: more would claim what a repetition does not give. What is near 0 or 1 stays readable."""
    if value is None:
        return "–"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        if value and abs(value) < 0.001:
            return f"{value:.1e}"
        if 0.99 < value < 1:
            return f"{value:.6g}"
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _cpu_description() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; nothing where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _commit() -> str:
    """The commit that was measured, with `+` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return told.stdout.strip() or "unknown"
