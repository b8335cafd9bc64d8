"""Recall of a running service over the demo corpus, beside that of plain OpenCLIP in process: one must equal the other.

    make demo                                        # in one terminal
    .venv/bin/python -m benchmarks.recall_over_http  # in another

Text to picture: the complete caption of each of the 1,000 pictures is asked, and its picture is looked for among the first
1, 5 and 10 results. Also the seconds that the searches took, one after the other. Writes JSON, and a Markdown row.
"""

import argparse
import io
import json
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from configs.load import service_url
from serve_app.client import Client
from serve_app.demo import network
from serve_app.demo.corpus import DemoPicture, demo_pictures

CUTS = (1, 5, 10)


def recall(ranks: list[int]) -> dict[str, float]:
    """Recall at each cut from 0-based ranks."""
    return {f"R@{cut}": float(np.mean([rank < cut for rank in ranks])) for cut in CUTS}


def over_http(url: str, pictures: list[DemoPicture], side_by_side: int) -> tuple[list[int], float]:
    """The rank of each picture under its caption (10 where it is not among the ten), and the seconds of all searches."""
    with Client(url) as client, ThreadPoolExecutor(side_by_side) as pool:

        def rank(picture: DemoPicture) -> int:
            results = client.search(picture.caption, modalities=["image"], limit=max(CUTS)).results
            return next((at for at, result in enumerate(results) if result.id == picture.id), max(CUTS))

        began = time.perf_counter()
        return list(pool.map(rank, pictures)), time.perf_counter() - began


@torch.no_grad()
def in_process(pictures: list[DemoPicture]) -> list[int]:
    """The same by plain OpenCLIP: its own loading, transform and tokeniser, one matrix product."""
    model, transform, tokenise = network.load()
    images = [transform(Image.open(io.BytesIO(picture.encoded()))) for picture in pictures]
    texts = tokenise([picture.caption for picture in pictures])
    image_vectors = torch.cat([model.encode_image(part, normalize=True) for part in torch.stack(images).split(100)])
    scores = (model.encode_text(texts, normalize=True) @ image_vectors.T).numpy()
    return [int((row > row[at]).sum()) for at, row in enumerate(scores)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recall_over_http", description=__doc__)
    parser.add_argument("--url", default=service_url())
    parser.add_argument("--side-by-side", type=int, default=4, help="searches under way at once")
    parser.add_argument("--out", type=Path, default=Path("var/benchmarks/recall_over_http.json"))
    options = parser.parse_args()
    pictures = list(demo_pictures())
    ranks, seconds = over_http(options.url, pictures, options.side_by_side)
    report = {
        "machine": platform.processor() or platform.machine(),
        "pictures": len(pictures),
        "http": recall(ranks),
        "in_process": recall(in_process(pictures)),
        "searches_per_s": len(pictures) / seconds,
        "side_by_side": options.side_by_side,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print("| path | " + " | ".join(f"R@{cut}" for cut in CUTS) + " |\n|---|" + "---|" * len(CUTS))
    for path in ("http", "in_process"):
        print(f"| {path} | " + " | ".join(f"{value:.3f}" for value in report[path].values()) + " |")  # type: ignore[attr-defined]
    print(f"{report['searches_per_s']:.0f} searches/s, {options.side_by_side} at once")


if __name__ == "__main__":
    main()
