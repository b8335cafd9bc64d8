"""Every benchmark of a CPU, one after the other, and one table of what they found.

    make bench                  # all
    make bench ONLY=encoder     # one of them
    .venv/bin/python -m benchmarks --table      # the table of what lies in var/benchmarks, without measuring

Each runs in a process of its own, so that none finds the threads or the memory of another. `gpu` is not among them.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.reporting import FOLDER, as_markdown

# In process first: what the others are measured against.
ORDER = (
    *("ranking", "encoder", "memory", "http_load", "hops", "scaling", "overload", "beside_storing", "peers"),
    *("retrieval", "writes", "churn", "reindex"),
)

# Reports beyond those that are called like their benchmark.
ALSO = ("ranking_candidates", "ranking_refusal", "gpu")


def commands(names: Sequence[str]) -> list[list[str]]:
    """The command lines, in a sensible order."""
    return [[sys.executable, "-m", f"benchmarks.{name}"] for name in ORDER if name in names]


def table() -> str:
    """All reports that lie in var/benchmarks, each with its machine and versions."""
    reports = [FOLDER / f"{name}.json" for name in (*ORDER, *ALSO)]
    return "\n".join(as_markdown(json.loads(path.read_text(encoding="utf-8"))) for path in reports if path.exists())


def main() -> int:
    """Command line; 1 where a benchmark failed. The others are run nevertheless."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", help=f"these and no others, of: {', '.join(ORDER)}")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if unknown := set(options.only) - set(ORDER):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    failed = []
    for command in [] if options.table else commands(options.only or ORDER):
        print("running", " ".join(command[1:]), file=sys.stderr, flush=True)
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            failed.append(command[-1])
    print(table())
    if failed:
        print("failed:", ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
