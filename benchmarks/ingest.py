"""Bulk ingest beside what its cores can do: rows/s of `crossmodal ingest --local` against decode + encode alone.

    .venv/bin/python -m benchmarks.ingest                       # the demo model: 20,000 pictures and 5,000 texts
    .venv/bin/python -m benchmarks.ingest --model ViT-B-32 --pictures 2000 --texts 0
    .venv/bin/python -m benchmarks.ingest --model ViT-B-32 --pictures 1000 --texts 0 --peer PYTHON   # clip-retrieval's

Decode + encode alone: a process a core, each with one thread of torch, reads its share of the same files, decodes and encodes
it in the same batches with the same code, and does nothing else: no Ray, no table, no hashes, no ids. It is measured before and
after the job, on a part of the files; both begin to count when models are loaded.

PYTHON is that of an environment of its own:

    uv venv peer; uv pip install --python peer --constraints benchmarks/clip-retrieval-constraints.txt clip-retrieval setuptools

`steady` is the job from the first batch encoded to the last commit, beside that; `whole` is the whole command, Ray's start and
the import of torch in every process included, which says little of large jobs and much of small ones.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.ingest_corpus import Corpus, corpus
from benchmarks.reporting import machine_facts, told, write_report
from benchmarks.workload import checkpoint
from serve_app.local_graph import processes

PLAIN_PICTURES = 3000
CPU_EVERY_S = 0.5
# By what Ray calls its workers; all else is Ray's own.
KINDS = {"encode": "(Encode)", "prepare": "(Prepare)", "write": "Write", "driver": "deployments.jobs.ingest"}


def plain(model: str, items: Corpus, cores: int, pictures: int) -> float:
    """Items/s of decode + encode alone, on `cores` processes, of the first `pictures` and as large a share of the texts."""
    chosen = items.files[:pictures]
    words = items.texts[: len(items.texts) * len(chosen) // len(items.files)]
    context = get_context("spawn")
    ready, answers = context.Barrier(cores), context.Queue()
    workers = [
        context.Process(target=_plain_worker, args=(model, chosen[n::cores], words[n::cores], ready, answers))
        for n in range(cores)
    ]
    for worker in workers:
        worker.start()
    times = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return (len(chosen) + len(words)) / (max(end for _, end in times) - min(begin for begin, _ in times))


def _plain_worker(model: str, files: Sequence[Path], words: Sequence[str], ready: Any, answers: Any) -> None:
    from configs.load import load_config
    from deployments.checkpoints import tower_arguments
    from serve_app.adapters.open_clip import load_image_tower, load_text_tower
    from serve_app.adapters.picture_decoder import PictureDecoder

    config = load_config("demo", {"encoder": {"model": model}})
    image, text = (load(**tower_arguments(config.encoder), threads=1) for load in (load_image_tower, load_text_tower))
    pictures, encoder = config.pictures, config.encoder
    decoder = PictureDecoder(
        pictures.max_bytes, pictures.max_pixels, pictures.max_aspect_ratio, exact=pictures.exact, decode=pictures.decode
    )
    image.encode([decoder.to_pixels(files[0].read_bytes(), image.card.preprocessing)] * encoder.max_batch_pictures)
    text.encode(list(words[: encoder.max_batch_texts]))
    ready.wait()
    began = time.time()
    for batch in _batches(files, encoder.max_batch_pictures):
        image.encode([decoder.to_pixels(file.read_bytes(), image.card.preprocessing) for file in batch])
    for batch in _batches(words, encoder.max_batch_texts):
        text.encode(list(batch))
    answers.put((began, time.time()))


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def job(model: str, items: Corpus, folder: Path, options: Sequence[str] = ()) -> tuple[dict[str, Any], float]:
    """The state in which `crossmodal ingest --local` ended, and its seconds from beginning to end."""
    overrides = {
        "encoder": {"model": model},
        "table": {"uri": str(folder / "table")},
        "storage": {"uri": str(folder / "kept")},
        "pictures": {"allowed_roots": [f"{items.files[0].parent}/"]},
    }
    application = {"import_path": "deployments.graph:build", "args": {"profile": "demo", "overrides": overrides}}
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump({"applications": [{"name": "a", **application}]}), encoding="utf-8")
    command = [sys.executable, "-m", "deployments.jobs.ingest", "--local", "--json", "--config", str(file)]
    began, answer = time.perf_counter(), folder / "state.json"
    with answer.open("wb") as output:
        # A session of its own, by which every process of its Ray is found.
        running = subprocess.Popen([*command, *options, str(items.listed)], stdout=output, start_new_session=True)
        used = _watched(running)
    if running.returncode:
        raise RuntimeError(f"the job ended with status {running.returncode}")
    state = json.loads(answer.read_text(encoding="utf-8"))
    return {**state, "cpu_s": used}, time.perf_counter() - began


def _watched(running: subprocess.Popen[bytes]) -> dict[str, float]:
    """Seconds of CPU by kind of process until the job ends, those of starting and of imports among them."""
    seen: dict[int, tuple[str, float]] = {}
    while running.poll() is None:
        for process in processes():
            if process.session == running.pid:
                seen[process.pid] = (_kind(process.name, seen.get(process.pid)), process.cpu_s)
        time.sleep(CPU_EVERY_S)
    used: dict[str, float] = {}
    for kind, seconds in seen.values():
        used[kind] = used.get(kind, 0.0) + seconds
    return used


def _kind(name: str, before: tuple[str, float] | None) -> str:
    """What a process is for; one that ran a stage and rests now is still that stage's."""
    for kind, mark in KINDS.items():
        if mark in name:
            return kind
    return before[0] if before else "ray"


def measure(model: str, items: Corpus, cores: int, pictures: int, options: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the report."""
    before = plain(model, items, cores, pictures)
    with TemporaryDirectory(prefix="ingest-") as folder:
        state, whole_s = job(model, items, Path(folder), options)
    after = plain(model, items, cores, pictures)
    alone = (before + after) / 2
    stored = state["stored"]
    rate = state["items_per_s"]
    stages = {f"{name}_busy": each["busy_share"] for name, each in state["stages"].items()}
    return [
        told({"what": "decode + encode alone", "items_per_s": alone, "before": before, "after": after}),
        told(
            {
                "what": "the job",
                "items_per_s": rate,
                "steady": rate / alone,
                "whole": stored / whole_s / alone,
                "items": stored,
                "failed": state["failed"],
                **{name: state[name] for name in ("startup_s", "running_s", "upkeep_s")},
                "whole_s": whole_s,
                **stages,
                **{f"{kind}_cpu_s": seconds for kind, seconds in state["cpu_s"].items()},
            }
        ),
    ]


def peer(python: Path, model: str, items: Corpus) -> dict[str, Any]:
    """`clip-retrieval inference` on pictures of the same folder: OpenCLIP on the same checkpoint, its own readers and writers."""
    from benchmarks.random_checkpoints import WEIGHTS_NAME

    weights = checkpoint(model).absolute() / WEIGHTS_NAME
    with TemporaryDirectory(prefix="peer-") as made:
        (Path(made) / "in").mkdir()
        for file in items.files:
            (Path(made) / "in" / file.name).symlink_to(file.absolute())
        began = time.perf_counter()
        subprocess.run(
            [
                *(python.with_name("clip-retrieval"), "inference"),
                *(f"--input_dataset={made}/in", f"--output_folder={made}/out", "--enable_text=False"),
                *(f"--clip_model=open_clip:{model}/{weights}", "--use_jit=False", "--batch_size=16"),
                *("--num_prepro_workers=2", "--enable_wandb=False"),
            ],
            stdout=sys.stderr,
            check=True,
        )
        whole_s = time.perf_counter() - began
        (stats,) = Path(made, "out", "stats").glob("*.json")
        seconds = json.loads(stats.read_text(encoding="utf-8"))
    return told({"what": "clip-retrieval inference", "items": len(items.files), "whole_s": whole_s, **seconds})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="demo", help="demo, or an architecture of OpenCLIP with random weights")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--texts", type=int, default=5_000)
    parser.add_argument("--plain-pictures", type=int, default=PLAIN_PICTURES, help="of them, for decode + encode alone")
    parser.add_argument("--make", action="store_true", help="make the files and measure nothing")
    parser.add_argument("--peer", type=Path, help="the python of an environment that has clip-retrieval")
    parser.add_argument("job", nargs="*", help="options of the job, after --")
    options = parser.parse_args()
    items = corpus(options.pictures, options.texts)
    model = options.model if options.model == "demo" else f"local-dir:{checkpoint(options.model).absolute()}"
    if options.make:
        return
    machine = machine_facts()
    rows = measure(model, items, machine["cores"], options.plain_pictures, options.job)
    if options.peer:
        rows.append(peer(options.peer, options.model, items))
    settings = {"model": options.model, "pictures": options.pictures, "texts": options.texts}
    write_report(f"ingest_{options.model}", rows, settings, machine=machine)


if __name__ == "__main__":
    main()
