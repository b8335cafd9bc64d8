"""Another model for a running service, under traffic, and back again: how many requests fail, and what they wait.

    .venv/bin/python -m benchmarks.reindex --documents 10000

A graph with the demo model holds so many documents, four texts to a picture. People search, embed and write all the time, while
`crossmodal reindex` goes over to another checkpoint (the demo model, shaken: a model of its own with vectors of its own) and then
back. `kills` ends the job's driver by SIGKILL so often, after random seconds, and starts it again. A request fails if it is
answered by an error or not at all; nothing is repeated. Afterwards every acknowledged write is looked for.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.living import KINDS, Traffic, fill, run_job, service
from benchmarks.reporting import FOLDER, machine_facts, told, write_report
from serve_app.client import Client
from serve_app.demo.network import MODEL_FOLDER

SHAKEN = 0.3


def shaken_model(folder: Path) -> str:
    """The demo model with noise in all its matrices."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(7)
    weights = load_file(MODEL_FOLDER / "open_clip_model.safetensors")
    for name, value in weights.items():
        if value.is_floating_point() and value.ndim == 2 and len(value) > 1:
            noise = torch.randn(value.shape, generator=generator) * value.float().std()
            weights[name] = (value.float() + SHAKEN * noise).to(value.dtype)
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    (folder / "open_clip_config.json").write_text((MODEL_FOLDER / "open_clip_config.json").read_text())
    return f"local-dir:{folder}"


def lost(client: Client, written: dict[str, str]) -> int:
    """How many acknowledged writes are not as they were written."""
    stored = {document.id: document.text for document in client.documents({"field": "id", "prefix": "written-"})}
    return sum(stored.get(name) != words for name, words in written.items())


def case(
    name: str, url: str, pictures: Sequence[bytes], work: Callable[[], tuple[dict[str, Any], float]]
) -> dict[str, Any]:
    traffic = Traffic(url, pictures, pause_s=0.05)
    with traffic.flowing():
        said, seconds = work()
        time.sleep(3)
    with Client(url) as client:
        missing = lost(client, traffic.written)
    for failure in traffic.failures[:5]:
        print(failure, file=sys.stderr)
    comparison = said.get("comparison") or {}
    return told(
        {
            "case": name,
            "seconds": seconds,
            **traffic.figures(),
            "writes_lost": missing,
            "encoded": said.get("job", {}).get("encoded"),
            "rounds": len(said.get("rounds", ())),
            "held_s": said.get("held_s"),
            "overlap_at_10": comparison.get("overlap"),
            "before_search_p50_ms": (comparison.get("before") or {}).get("search_p50_ms"),
            "after_search_p50_ms": (comparison.get("after") or {}).get("search_p50_ms"),
        }
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=0, help="of the job's driver on the way to the other model")
    parser.add_argument("--share", type=float, default=0.5, help="of the cores, for the job")
    given = parser.parse_args()
    facts = machine_facts()
    with tempfile.TemporaryDirectory(prefix="reindex-") as name:
        folder = Path(name)
        model = shaken_model(folder / "model")
        with service(folder) as (url, serve_file, address), Client(url) as client:
            pictures = fill(client, given.documents)
            common = ["--config", str(serve_file), "--address", address, "--url", url, "--share", str(given.share)]
            quiet = case("traffic alone, 20 s", url, pictures, lambda: (time.sleep(20) or {}, 20.0))
            rows = [quiet]
            log = folder / "job.log"
            own = client.models()["data"][0]["fingerprint"]
            forth = [*common, "--model", model]
            killed = f", driver killed {given.kills} times" if given.kills else ""
            rows.append(
                case(f"to another model{killed}", url, pictures, lambda: run_job("reindex", forth, given.kills, log))
            )
            other = client.models()["data"][0]["fingerprint"]
            rows.append(case("back", url, pictures, lambda: run_job("reindex", [*common, "--rollback"], 0, log)))
            if own == other or client.models()["data"][0]["fingerprint"] != own:
                raise SystemExit("the service did not change its model as it should have")
    settings = {"documents": given.documents, "share": given.share, "kills": given.kills, "users": len(KINDS)}
    write_report("reindex" + ("-killed" if given.kills else ""), rows, settings, machine=facts, folder=FOLDER)
    if sum(row["failed"] + row["writes_lost"] for row in rows):
        raise SystemExit("requests failed, or writes were lost")


if __name__ == "__main__":
    main()
