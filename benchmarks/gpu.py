"""A GPU's share of its own peak: images/s and texts/s per family and precision, the decode limit, and the HTTP path.

    .venv/bin/python -m benchmarks.gpu                          # on a machine with a GPU
    .venv/bin/python -m benchmarks.gpu --device cpu --quick     # the same code, small, anywhere

The peak is measured, not read from a data sheet: a large matrix product in the same precision. The work of one item is counted
by torch's FlopCounterMode (a multiply-add is two operations); it does not see normalisations and activations, so the share is
slightly low, nor, on a CPU, products with packed weights. `decode limit` is what all cores decode and resize when nothing else
runs: no encoder can be fed faster from JPEGs.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoder import DECODER, rate, vectors
from benchmarks.graphs import ENCODERS, LOGICAL_CPUS_PER_CORE, cores, encoder_settings, product_file, running
from benchmarks.load import Load, closed_loop
from benchmarks.reporting import FOLDER, machine_facts, told, write_report
from benchmarks.wire import Question, encoder_of, product_questions
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.adapters.open_clip import load_image_tower, load_text_tower
from serve_app.ports import StagedTower
from serve_app.services.encoding import EncodingService, encoder_thread
from serve_app.types import ImagePreprocessing
from serve_app.ways_in import HAPROXY

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FAMILIES = ("ViT-B-32", "ViT-L-14", "ViT-H-14", "convnext_base", "EVA02-B-16", "MobileCLIP2-S0")
HTTP_FAMILY, HTTP_BATCH = "ViT-B-32", 64
BATCHES = (1, 32, 128, 256)
CONCURRENCIES = (1, 32, 256)
PICTURES = 256
WAITING_BATCHES = 4
DECODERS = 4  # threads of one Preprocessor
DEMO = Path(__file__).parents[1] / "serve_app" / "demo" / "model"


def matmul_peak(device: str, dtype: Any, side: int, seconds: float) -> float:
    """Operations a second of [side, side] @ [side, side] in this precision."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    waits = _waiting(device)

    def work() -> None:
        left @ right
        waits()

    return 2 * side**3 * rate(work, 1, seconds)


def _waiting(device: str) -> Callable[[], None]:
    """Returns when the device has done what it was given."""
    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of `work`."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # an operator that is not counted
    try:
        with FlopCounterMode(display=False) as counter:
            work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def measure_family(
    folder: Path, device: str, precision: str, wanted: str, sizes: Sequence[int], peak_per_s: float, seconds: float
) -> Iterator[dict[str, Any]]:
    """Rows of one model in one precision: both towers at each batch size, uint8 pixels and words in, vectors out."""
    name = f"local-dir:{folder.resolve()}"
    thread = encoder_thread()  # whatever computes does it there, as in a replica
    images = thread.submit(load_image_tower, model=name, device=device, precision=precision).result()
    pixels = [DECODER.to_pixels(file, images.card.preprocessing) for file in jpegs(min(PICTURES, max(sizes)))]
    words = thread.submit(load_text_tower, model=name, device=device, precision=precision).result()
    feed = texts()
    for kind, tower, items in (("images", images, itertools.cycle(pixels)), ("texts", words, feed)):
        some = list(itertools.islice(items, 32))
        counted = thread.submit(operations, lambda tower=tower, some=some: tower.encode(some)).result()
        operations_each = counted / len(some)
        thread.submit(tower.warm_up, max(sizes), wanted).result()
        for size in sizes:
            per_s = asyncio.run(service_rate(tower, thread, items, size, seconds))
            yield {
                "case": f"{kind}, {folder.name}, {precision}, {wanted}, batch {size}",
                "requests_per_s": per_s,
                "gflop_each": operations_each / 1e9,
                "tflop_per_s": per_s * operations_each / 1e12,
                "share_of_peak": per_s * operations_each / peak_per_s,
            }


async def service_rate(
    tower: StagedTower, thread: ThreadPoolExecutor, items: Iterator[Any], size: int, seconds: float
) -> float:
    """Items a second through what an encoder's replica feeds its tower with, while whole batches always wait.

    Raises ValueError for an item that fails.
    """
    service = EncodingService[Any].of_tower(
        tower, thread=thread, max_batch_size=size, max_queued_items=WAITING_BATCHES * size
    )

    async def ask_until(ends_at: float) -> int:
        done = 0
        while not done or time.perf_counter() < ends_at:
            vectors(await service.encode(list(itertools.islice(items, size))))
            done += size
        return done

    await ask_until(0)  # what is set up at the first runs does not count
    began = time.perf_counter()
    done = sum(await asyncio.gather(*(ask_until(began + seconds) for _ in range(WAITING_BATCHES))))
    return done / (time.perf_counter() - began)


def decode_limit(preprocessing: ImagePreprocessing, seconds: float) -> dict[str, Any]:
    """Pictures a second that all cores decode and resize to an encoder's pixels, in as many processes as Preprocessors."""
    jpegs(32)  # drawn before the processes are forked
    processes, threads = preprocessors(), min(DECODERS, cores())
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        shares = [pool.submit(_share_of_decoding, preprocessing, threads, seconds) for _ in range(processes)]
        per_s = sum(share.result() for share in shares)
    return {"case": f"decode limit, {processes} processes of {threads} threads", "requests_per_s": per_s}


def _share_of_decoding(preprocessing: ImagePreprocessing, threads: int, seconds: float) -> float:
    files = jpegs(32)
    with ThreadPoolExecutor(threads) as pool:
        some = [files[at % len(files)] for at in range(8 * threads)]
        return rate(
            lambda: list(pool.map(lambda file: DECODER.to_pixels(file, preprocessing), some)), len(some), seconds
        )


def preprocessors() -> int:
    """Replicas of the Preprocessor that use all cores."""
    return max(1, cores() // DECODERS)


def http_rows(folder: Path, device: str, precision: str, seconds: float) -> Iterator[dict[str, Any]]:
    """The whole path: pictures and texts through HTTP, each encoder on the GPU where there is one."""
    # Decoding bounds a GPU, so most cores decode; the encoders' own threads only prepare what the device does.
    replicas = {"Preprocessor": preprocessors(), "Gateway": max(1, cores() // 4)}
    file = product_file(threads=max(1, cores() // 8), replicas=replicas)
    for deployment in file.content["applications"][0]["deployments"]:
        if deployment["name"] in ENCODERS and device.startswith("cuda"):
            deployment["ray_actor_options"]["num_gpus"] = 1 / len(ENCODERS)
    settings = {
        **encoder_settings(folder, precision),
        "CROSSMODAL_ENCODER__DEVICE": device,
        "CROSSMODAL_ENCODER__MAX_BATCH_PICTURES": str(HTTP_BATCH),
        "CROSSMODAL_ENCODER__MAX_BATCH_TEXTS": str(HTTP_BATCH),
        "CROSSMODAL_PICTURES__THREADS": str(DECODERS),
        "RAY_OVERRIDE_RESOURCES": json.dumps(
            {"CPU": LOGICAL_CPUS_PER_CORE * cores(), "GPU": int(device.startswith("cuda"))}
        ),
    }
    jpegs(PICTURES)  # drawn before the processes of the load are forked
    with running("gpu", file, settings, HAPROXY) as graph:
        on = encoder_of(graph.url)["device"]
        names = [question.name for question in _questions(graph.url, seed=0)]
        for at, (name, connections) in enumerate(itertools.product(names, CONCURRENCIES)):
            load = under_load_of_many(graph.url, name, connections, seconds, seed=at * cores())
            yield {"case": f"{name}, {connections} connections, {precision} on {on}", **load.figures()}


def under_load_of_many(url: str, name: str, connections: int, seconds: float, seed: int) -> Load:
    """Closed-loop load by processes that share the connections: one alone is slower than a service on a GPU."""
    processes = min(connections, max(1, cores() // 4))
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        shares = [
            # Seeds of their own, so that no text is asked twice.
            pool.submit(_share_of_load, url, name, connections // processes, seconds, seed + at)
            for at in range(processes)
        ]
        loads = [share.result() for share in shares]
    whole = Load(seconds)
    for load in loads:
        whole.good_answers += load.good_answers
        whole.latencies_s += load.latencies_s
        whole.statuses += load.statuses
    return whole


def _share_of_load(url: str, name: str, connections: int, seconds: float, seed: int) -> Load:
    (question,) = (question for question in _questions(url, seed) if question.name == name)
    return asyncio.run(
        closed_loop(url, question.requests, connections=connections, seconds=seconds, check=question.check)
    )


def _questions(url: str, seed: int) -> list[Question]:
    return list(itertools.chain(*product_questions(url, jpegs(PICTURES), texts(seed))))


def device_name(device: str) -> str:
    """Such as `NVIDIA H100`."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--families", nargs="*", default=FAMILIES, help="architectures; random weights are made for them"
    )
    parser.add_argument("--precisions", nargs="+", default=("bfloat16", "float16", "float32"), choices=DTYPES)
    parser.add_argument(
        "--compile", nargs="+", default=("graphs",), choices=("never", "graphs", "auto"), help="see encoder.compile"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the demo's model, small batches, no HTTP: to try the code"
    )
    parser.add_argument("--no-http", dest="http", action="store_false", help="the encoders in process alone")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each single measurement")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder of the report")
    options = parser.parse_args(arguments)
    machine = {**machine_facts(), "gpu": device_name(options.device)}
    folders = [DEMO] if options.quick else [checkpoint(family) for family in options.families]
    precisions = ("float32",) if options.quick else options.precisions
    sizes = (1, 4) if options.quick else BATCHES
    seconds = 0.01 if options.quick else options.seconds
    rows: list[dict[str, Any]] = []
    peaks: dict[str, float] = {}
    for precision in precisions:
        peak = matmul_peak(options.device, DTYPES[precision], 256 if options.quick else 8192, seconds)
        peaks[f"peak {precision} tflop_per_s"] = peak / 1e12
        for folder, wanted in itertools.product(folders, options.compile):
            rows += map(told, measure_family(folder, options.device, precision, wanted, sizes, peak, seconds))
    of_http = DEMO if options.quick else checkpoint(HTTP_FAMILY)
    preprocessing = load_image_tower(model=f"local-dir:{of_http.resolve()}", device="cpu").card.preprocessing
    rows.append(told(decode_limit(preprocessing, seconds)))
    if options.http and not options.quick:
        rows += map(told, http_rows(of_http, options.device, precisions[0], options.seconds))
    run = {"device": device_name(options.device), "threads": torch.get_num_threads(), "seconds": seconds, **peaks}
    write_report("gpu", rows, run, machine=machine, folder=options.out)


if __name__ == "__main__":
    main()
