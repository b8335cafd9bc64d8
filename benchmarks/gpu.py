"""A GPU's share of its own peak: images/s and texts/s per family and precision, the decode limit, and the HTTP path.

    .venv/bin/python -m benchmarks.gpu                          # on a machine with a GPU
    .venv/bin/python -m benchmarks.gpu --device cpu --quick     # the same code, small, anywhere

The peak is measured, not read from a data sheet: a large matrix product in the same precision. The work of one item is counted
by torch's FlopCounterMode (a multiply-add is two operations); it does not see normalisations and activations, so the share is
slightly low. `decode limit` is what all cores decode and resize when nothing else runs: no encoder can be fed faster from JPEGs.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoder import DECODER, rate
from benchmarks.graphs import ENCODERS, cores, encoder_settings, product_file, running
from benchmarks.http_load import measure_service
from benchmarks.plain import batches
from benchmarks.reporting import FOLDER, machine_facts, told, write_report
from benchmarks.wire import encoder_of, product_questions
from benchmarks.workload import checkpoint, jpegs, texts
from serve_app.adapters.open_clip import load_image_tower, load_text_tower
from serve_app.types import ImagePreprocessing

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FAMILIES = ("ViT-B-32", "ViT-L-14", "ViT-H-14", "convnext_base", "EVA02-B-16", "MobileCLIP2-S0")
HTTP_FAMILY = "ViT-B-32"
BATCHES = (1, 32, 128, 256)
CONCURRENCIES = (1, 32, 128)
PICTURES = 256
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
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def measure_family(
    folder: Path, device: str, precision: str, sizes: Sequence[int], peak_per_s: float, seconds: float
) -> Iterator[dict[str, Any]]:
    """Rows of one model in one precision: both towers at each batch size, uint8 pixels and words in, vectors out."""
    name = f"local-dir:{folder.resolve()}"
    images = load_image_tower(model=name, device=device, precision=precision)
    pixels = [DECODER.to_pixels(file, images.card.preprocessing) for file in jpegs(min(PICTURES, max(sizes)))]
    words = load_text_tower(model=name, device=device, precision=precision)
    feed = texts()
    per_image = operations(lambda: images.encode(pixels[:1]))
    told_once = list(itertools.islice(feed, 32))
    per_text = operations(lambda: words.encode(told_once)) / len(told_once)
    for size in sizes:
        pictures = batches(pixels, size)
        images_per_s = rate(lambda feed=pictures: images.encode(next(feed)), size, seconds)  # type: ignore[misc]
        yield _row(f"images, {folder.name}, {precision}, batch {size}", images_per_s, per_image, peak_per_s)
    for size in sizes:
        texts_per_s = rate(lambda size=size: words.encode(list(itertools.islice(feed, size))), size, seconds)  # type: ignore[misc]
        yield _row(f"texts, {folder.name}, {precision}, batch {size}", texts_per_s, per_text, peak_per_s)


def _row(case: str, items_per_s: float, operations_each: float, peak_per_s: float) -> dict[str, Any]:
    return {
        "case": case,
        "requests_per_s": items_per_s,
        "gflop_each": operations_each / 1e9,
        "tflop_per_s": items_per_s * operations_each / 1e12,
        "share_of_peak": items_per_s * operations_each / peak_per_s,
    }


def decode_limit(preprocessing: ImagePreprocessing, threads: int, seconds: float) -> dict[str, Any]:
    """Pictures a second that so many threads decode and resize to an encoder's pixels. PIL releases the interpreter's lock."""
    files = jpegs(32)
    with ThreadPoolExecutor(threads) as pool:
        some = [files[at % len(files)] for at in range(4 * threads)]
        per_s = rate(
            lambda: list(pool.map(lambda file: DECODER.to_pixels(file, preprocessing), some)), len(some), seconds
        )
    return {"case": f"decode limit, {threads} threads", "requests_per_s": per_s}


def http_rows(folder: Path, device: str, precision: str, seconds: float) -> Iterator[dict[str, Any]]:
    """The whole path: pictures and texts through HTTP, each encoder on the GPU where there is one."""
    # Decoding bounds a GPU, so most cores decode; the encoders' own threads only prepare what the device does.
    replicas = {"Preprocessor": max(1, cores() // DECODERS), "Gateway": max(1, cores() // 8)}
    file = product_file(threads=max(1, cores() // 8), replicas=replicas)
    for deployment in file.content["applications"][0]["deployments"]:
        if deployment["name"] in ENCODERS and device.startswith("cuda"):
            deployment["ray_actor_options"]["num_gpus"] = 0.5
    settings = {
        **encoder_settings(folder, precision),
        "CROSSMODAL_ENCODER__DEVICE": device,
        "CROSSMODAL_PICTURES__THREADS": str(DECODERS),
    }
    with running("gpu", file, settings) as graph:
        pictures, words = product_questions(graph.url, jpegs(PICTURES), texts(seed=5))
        on = encoder_of(graph.url)["device"]
        for row in measure_service(graph.url, [*pictures, *words], CONCURRENCIES, seconds):
            yield {**row, "case": f"{row['case']}, {precision} on {on}"}


def device_name(device: str) -> str:
    """Such as `NVIDIA H100`."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--families", nargs="+", default=FAMILIES, help="architectures; random weights are made for them"
    )
    parser.add_argument("--precisions", nargs="+", default=("bfloat16", "float16", "float32"), choices=DTYPES)
    parser.add_argument(
        "--quick", action="store_true", help="the demo's model, small batches, no HTTP: to try the code"
    )
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
        for folder in folders:
            rows += map(told, measure_family(folder, options.device, precision, sizes, peak, seconds))
    preprocessing = load_image_tower(model=f"local-dir:{folders[0].resolve()}", device="cpu").card.preprocessing
    rows.append(told(decode_limit(preprocessing, cores(), seconds)))
    if not options.quick:
        rows += http_rows(checkpoint(HTTP_FAMILY), options.device, precisions[0], options.seconds)
    run = {"device": device_name(options.device), "threads": torch.get_num_threads(), "seconds": seconds, **peaks}
    write_report("gpu", rows, run, machine=machine, folder=options.out)


if __name__ == "__main__":
    main()
