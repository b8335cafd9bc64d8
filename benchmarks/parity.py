"""The parity table: our towers beside plain OpenCLIP, family by family, on checkpoints with random weights.

    .venv/bin/python -m benchmarks.parity            # the small architectures
    .venv/bin/python -m benchmarks.parity --all      # every family (`make parity`); about a quarter of an hour on two cores
    .venv/bin/python -m benchmarks.parity --only RN50 --precision bfloat16

For each architecture: a checkpoint in `local-dir:` form is made (benchmarks/random_checkpoints.py), loaded by OpenCLIP's
`create_model_and_transforms` in float32 and by our `load_image_tower` and `load_text_tower`, and both get the same picture files
and texts. Compared are the pixels before normalisation (bit for bit), the image vectors and the text vectors (smallest cosine),
and our vector of an item alone with its vector in a full batch of other items. A comparison means little where all inputs give
nearly one vector, so the largest cosine between vectors of different inputs is in the table, and has a limit too.

In half precision our vectors are compared with OpenCLIP's in float32. How far half precision itself leads away depends on the
weights, and random ones are the worst case; beside ours stands therefore what OpenCLIP's own model loses in that precision, and a
row passes where ours is within the limit or loses hardly more than that. Models that OpenCLIP does not get through in half
precision have the limit alone.

Each architecture runs in a process of its own, which gives its memory back. Prints a Markdown table, adds its rows to a JSON
file, and ends with status 1 where a row fails.
"""

import argparse
import gc
import json
import multiprocessing
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from PIL import Image

from benchmarks.graphs import cores
from benchmarks.random_checkpoints import write_architecture
from serve_app.adapters.open_clip import load_image_tower, load_text_tower
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.types import Embedding, ItemFailure, Pixels

Matrix: TypeAlias = npt.NDArray[np.float32]

SMALL = ("ViT-B-32", "RN50", "MobileCLIP2-S0", "PE-Core-T-16-384")
ALL = (
    *SMALL,
    "ViT-B-32-quickgelu",
    "ViT-B-16",
    "ViT-L-14",
    "ViT-L-14-quickgelu",
    "ViT-L-14-336",
    "ViT-B-16-SigLIP",
    "ViT-B-16-SigLIP2",
    "ViT-B-16-SigLIP-i18n-256",
    "convnext_base_w",
    "EVA02-B-16",
    "coca_ViT-B-32",
    "MobileCLIP2-S2",
    "MobileCLIP2-B",
    "PE-Core-B-16",
    "PE-Core-L-14-336",
    "xlm-roberta-base-ViT-B-32",
    "nllb-clip-base",
    "nllb-clip-base-siglip",
    "ViT-H-14",
    "ViT-g-14",
    "ViT-bigG-14",
)
LEAST_COSINE = {"float32": 0.99999, "bfloat16": 0.9995, "float16": 0.9995}
OPEN_CLIP_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
# Ours may lose so much of what OpenCLIP's own half precision loses: kernels round in another order.
AS_MUCH = 1.05
# A vector in another's place must not pass: it is at least four times as far away as half precision may lead (0.0005).
MOST_COSINE_OF_STRANGERS = 0.998
LARGE = 400_000_000  # parameters, above which a batch has 8 items instead of 32
TEXTS = (
    "two red boats at night",
    "A photograph of a dog that catches a ball on the beach, seen from the side.",
    "Ein kleines Haus am Waldrand im Winter, Öl auf Leinwand",
    "京都の古い寺、秋の紅葉",
    "зелёный трамвай на мосту",
    "x",
    "the quick brown fox jumps over the lazy dog " * 12,
    "<b>50 % off</b> &amp; free shipping!!! 🚲 https://example.org/?a=1",
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What both sides are asked: the first `compared` of each kind are compared, the others fill the batch."""

    files: list[bytes]
    texts: list[str]
    compared: int


@dataclass(frozen=True, slots=True)
class Outputs:
    """Pixels, and unit vectors: one row for each compared item."""

    pixels: list[Pixels]
    images: Matrix
    texts: Matrix


@dataclass(frozen=True, slots=True)
class Tower:
    """How the vectors of one tower compare. All are cosines."""

    cosine: float  # the smallest between ours and OpenCLIP's
    largest_difference: float  # of any component
    alone: float  # the smallest between ours alone and ours in a full batch
    strangers: float  # the largest between OpenCLIP's vectors of different inputs
    of_open_clip: float | None  # in half precision: the smallest between OpenCLIP's own and OpenCLIP's in float32

    def passes(self, precision: str) -> bool:
        least = LEAST_COSINE[precision]
        if self.of_open_clip is not None:
            least = min(least, 1 - AS_MUCH * (1 - self.of_open_clip))
        return min(self.cosine, self.alone) >= least and self.strangers <= MOST_COSINE_OF_STRANGERS


@dataclass(frozen=True, slots=True)
class Row:
    """An architecture in one precision. `failure` instead of figures where it could not be compared."""

    model: str
    device: str
    precision: str
    batch: int = 0
    parameters: int = 0
    differing_pixels: int = 0
    image: Tower | None = None
    text: Tower | None = None
    seconds: float = 0
    failure: str = ""

    @property
    def passed(self) -> bool:
        towers = (self.image, self.text)
        return not self.differing_pixels and all(tower and tower.passes(self.precision) for tower in towers)


# --- inputs -------------------------------------------------------------------------------------------------------------


def make_inputs(compared: int, batch: int) -> Inputs:
    """Picture files and texts, always the same ones."""
    texts = [*TEXTS[:compared], *(f"picture number {at} of a long series" for at in range(batch - compared))]
    return Inputs([picture_file(at) for at in range(batch)], texts, compared)


@lru_cache(maxsize=32)
def picture_file(seed: int) -> bytes:
    """A JPEG or PNG of coloured clouds with some grain; sides from 40 to 700 pixels, one picture in four upright and narrow."""
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(40, 700, 2))
    if seed % 4 == 3:
        width = max(13, height // 7)
    clouds = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = rng.integers(-20, 21, (height, width, 3))
    picture = Image.fromarray((np.asarray(clouds).astype(int) + grain).clip(0, 255).astype(np.uint8))
    file = BytesIO()
    picture.save(file, "JPEG" if seed % 2 else "PNG", quality=90)
    return file.getvalue()


# --- the two sides ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def by_open_clip(name: str, inputs: Inputs, device: str, precision: str) -> Outputs:
    """The compared items by OpenCLIP alone: its loading, transform, tokeniser and towers; one item at a time."""
    how = OPEN_CLIP_PRECISIONS[precision]
    model, _, transform = open_clip.create_model_and_transforms(name, precision=how, device=device)
    model.eval()
    *steps, to_tensor, normalise = transform.transforms
    pictures = [Image.open(BytesIO(file)) for file in inputs.files[: inputs.compared]]
    for step in steps:
        pictures = [step(picture) for picture in pictures]
    tokens = open_clip.get_tokenizer(name)(inputs.texts[: inputs.compared]).to(device)
    dtype = open_clip.get_input_dtype(how)
    with torch.backends.cudnn.flags(allow_tf32=False):  # convolutions on a GPU are no float32 otherwise
        images = [model.encode_image(normalise(to_tensor(each))[None].to(device, dtype)) for each in pictures]
        texts = [model.encode_text(row[None]) for row in tokens]
    return Outputs([np.asarray(picture) for picture in pictures], unit_rows(images), unit_rows(texts))


def by_open_clip_in_half(name: str, inputs: Inputs, device: str, precision: str) -> Outputs | None:
    """The same in half precision; None for a model that OpenCLIP does not get through in it (CoCa, towers of Hugging Face's)."""
    try:
        return by_open_clip(name, inputs, device, precision)
    except RuntimeError as error:
        print(f"OpenCLIP's own model does not run in {precision}: {error}", file=sys.stderr)
        return None


def unit_rows(features: Sequence[torch.Tensor]) -> Matrix:
    """One unit row each, normalised in float32."""
    rows: Matrix = torch.nn.functional.normalize(torch.cat(list(features)).float(), dim=-1).cpu().numpy()
    return rows


def by_us(name: str, inputs: Inputs, device: str, precision: str) -> tuple[Outputs, Outputs]:
    """The compared items by our decoder and towers, out of a full batch, and alone."""
    decoder = PictureDecoder(max_bytes=10**7, max_pixels=10**7, max_aspect_ratio=100)
    images = load_image_tower(model=name, device=device, precision=precision)
    pixels = [decoder.to_pixels(file, images.card.preprocessing) for file in inputs.files]
    images.warm_up(len(inputs.files), "graphs")  # as a replica does
    image_batch, image_alone = batched_and_alone(images.encode, pixels, inputs.compared)
    del images
    gc.collect()
    texts = load_text_tower(model=name, device=device, precision=precision)
    texts.warm_up(len(inputs.texts), "graphs")
    text_batch, text_alone = batched_and_alone(texts.encode, inputs.texts, inputs.compared)
    compared = pixels[: inputs.compared]
    return Outputs(compared, image_batch, text_batch), Outputs(compared, image_alone, text_alone)


def batched_and_alone(
    encode: Callable[[Sequence[Any]], list[Embedding | ItemFailure]], items: Sequence[Any], compared: int
) -> tuple[Matrix, Matrix]:
    """Vectors of the first items: of a batch of all, and of each by itself."""
    return vectors(encode(items))[:compared], vectors([encode([item])[0] for item in items[:compared]])


def vectors(results: Sequence[Embedding | ItemFailure]) -> Matrix:
    """The rows of a batch in which nothing may fail."""
    failed = [each for each in results if isinstance(each, ItemFailure)]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(results)} items failed: {failed[0].message}")
    return np.stack([each.vector for each in results if isinstance(each, Embedding)])


# --- the comparison -----------------------------------------------------------------------------------------------------


def compare(name: str, inputs: Inputs, device: str, precision: str, theirs: Outputs) -> dict[str, Any]:
    """The figures of a row (`differing_pixels`, `image`, `text`) for a checkpoint in `local-dir:` form.

    `theirs`: what OpenCLIP gives in float32.
    """
    theirs_so = None if precision == "float32" else by_open_clip_in_half(name, inputs, device, precision)
    gc.collect()
    ours, alone = by_us(name, inputs, device, precision)
    return {
        "differing_pixels": sum(
            differing(mine, reference) for mine, reference in zip(ours.pixels, theirs.pixels, strict=True)
        ),
        "image": tower(theirs.images, ours.images, alone.images, theirs_so and theirs_so.images),
        "text": tower(theirs.texts, ours.texts, alone.texts, theirs_so and theirs_so.texts),
    }


def differing(mine: Pixels, reference: Pixels) -> int:
    """Pixels in which any channel differs; all of them where the sizes do."""
    if mine.shape != reference.shape:
        return max(mine.shape[0] * mine.shape[1], 1)
    return int((mine != reference).any(axis=-1).sum())


def tower(theirs: Matrix, ours: Matrix, alone: Matrix, theirs_so: Matrix | None) -> Tower:
    """Figures of one tower from matrices of unit rows; `theirs_so`: OpenCLIP's in the precision of ours."""
    strangers = theirs @ theirs.T
    np.fill_diagonal(strangers, -1)
    return Tower(
        cosine=smallest_cosine(ours, theirs),
        largest_difference=float(np.abs(ours - theirs).max()),
        alone=smallest_cosine(ours, alone),
        strangers=float(strangers.max()),
        of_open_clip=None if theirs_so is None else smallest_cosine(theirs_so, theirs),
    )


def smallest_cosine(left: Matrix, right: Matrix) -> float:
    """Of rows with the same number. In float64: float32 cannot tell 0.9999999 from 1."""
    return float((left.astype(np.float64) * right).sum(axis=1).min())


# --- the run ------------------------------------------------------------------------------------------------------------


def run(architecture: str, device: str, precisions: Sequence[str]) -> list[Row]:
    """Makes the checkpoint, compares in each precision, and deletes it."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        began = time.perf_counter()
        model = Path(folder) / architecture
        # Half the bytes to write and read; the values are random either way, and both sides load the same ones.
        parameters = sum(write_architecture(model, architecture, torch.float16).values())
        inputs = make_inputs(compared=4, batch=8) if parameters > LARGE else make_inputs(compared=len(TEXTS), batch=32)
        theirs = by_open_clip(f"local-dir:{model}", inputs, device, "float32")
        for precision in precisions:
            try:
                figures = compare(f"local-dir:{model}", inputs, device, precision, theirs)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong in one precision, the others are worth knowing
                figures = {"failure": _told(error.__cause__ or error)}
            seconds, began = round(time.perf_counter() - began, 1), time.perf_counter()
            rows.append(Row(architecture, device, precision, len(inputs.files), parameters, seconds=seconds, **figures))
    return rows


def run_apart(
    architectures: Sequence[str], device: str, precisions: Sequence[str], processes: int
) -> Iterator[list[Row]]:
    """The same for each architecture in a process of its own, so many at once, as they end; an error there is a failing row."""
    threads = max(1, cores() // processes)
    with ThreadPoolExecutor(processes) as pool:
        under_way = [pool.submit(_run_alone, each, device, precisions, threads) for each in architectures]
        for done in as_completed(under_way):
            yield done.result()


def _run_alone(architecture: str, device: str, precisions: Sequence[str], threads: int) -> list[Row]:
    spawned = multiprocessing.get_context("spawn")
    # All of them with a thread for every core would mostly wait for each other.
    with ProcessPoolExecutor(1, spawned, torch.set_num_threads, (threads,)) as pool:
        future = pool.submit(run, architecture, device, precisions)
        error = future.exception()
    if error is None:
        return future.result()
    return [Row(architecture, device, precision, failure=_told(error)) for precision in precisions]


def _told(error: BaseException) -> str:
    first_line = (str(error).splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first_line}"


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the table."""
    columns = (
        "model | parameters | precision | pixels | image | text | batch: image | text | strangers: image | text | s"
    )
    yield f"| {columns} | passed |"
    yield "|" + "---|" * 12
    for row in rows:
        if row.image is None or row.text is None:
            yield f"| {row.model} | | {row.precision} | {row.failure} " + "| " * 7 + "| no |"
            continue
        image, text = row.image, row.text
        cells = [
            row.model,
            f"{row.parameters / 1e6:.0f} M",
            row.precision,
            f"{row.differing_pixels} differ" if row.differing_pixels else "equal",
            *(shown(each.cosine, each.of_open_clip) for each in (image, text)),
            *(f"{each.alone:.7f}" for each in (image, text)),
            *(f"{each.strangers:.3f}" for each in (image, text)),
            f"{row.seconds:.0f}",
            "yes" if row.passed else "no",
        ]
        yield "| " + " | ".join(cells) + " |"


def shown(cosine: float, of_open_clip: float | None) -> str:
    """Such as "0.9999999", or "0.99991 (OpenCLIP 0.99990)"."""
    return f"{cosine:.7f}" if of_open_clip is None else f"{cosine:.5f} (OpenCLIP {of_open_clip:.5f})"


def add_to(file: Path, row: Row) -> None:
    """Writes the row into the report, in the place of an older one of the same model, device and precision."""
    key = " ".join((row.model, row.device, row.precision))
    known: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else {}
    report = {
        "machine": platform.processor() or platform.machine(),
        "versions": {"open_clip": open_clip.__version__, "torch": torch.__version__},
        "rows": {**known, key: {**asdict(row), "passed": row.passed}},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("--all", action="store_true", help="every family, not the small ones alone")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these architectures; what the report has of others stays"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", nargs="+", choices=tuple(LEAST_COSINE), default=("float32",))
    parser.add_argument("--processes", type=int, default=1, help="architectures that are compared at the same time")
    parser.add_argument("--out", type=Path, default=Path("var/benchmarks/parity.json"))
    options = parser.parse_args()
    architectures = options.only or (ALL if options.all else SMALL)
    rows: list[Row] = []
    for found in run_apart(architectures, options.device, options.precision, options.processes):
        for row in found:
            add_to(options.out, row)
            print(
                f"{row.model}: {'passed' if row.passed else 'FAILED'} in {row.precision}", file=sys.stderr, flush=True
            )
        rows += found
    print("\n".join(markdown(rows)))
    sys.exit(not all(row.passed for row in rows))


if __name__ == "__main__":
    main()
