"""Measure the committed demo model again: `python -m serve_app.demo.evaluate`. Knows nothing of how it was trained.

The checkpoint is loaded by plain OpenCLIP, its own transform is given pictures of the size that people upload, and ranking
is one matrix product: a reference that shares no code with training or with the service.
"""

# ruff: noqa: S311 - lots are drawn here, no secrets made

import argparse
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from serve_app.demo import network
from serve_app.demo.captions import attribute_choices, complete_caption, short_caption
from serve_app.demo.drawing import draw
from serve_app.demo.scenes import ATTRIBUTES, Attribute, Scene, held_out_scenes

SCENES = 1000
SEED = 2026
PICTURE_SIZE = 256
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

Matrix = NDArray[np.float32]


class Measured:
    """A checkpoint as plain OpenCLIP loads it, giving unit vectors."""

    def __init__(self, folder: Path = network.MODEL_FOLDER) -> None:
        self._model: Any
        self._model, self._transform, self._tokenise = network.load(folder)

    @torch.no_grad()
    def images(self, scenes: Sequence[Scene]) -> Matrix:
        """Vectors of the scenes' pictures, (n, dimension)."""
        parts = []
        for start in range(0, len(scenes), 100):
            pictures = [self._transform(draw(scene, PICTURE_SIZE)) for scene in scenes[start : start + 100]]
            parts.append(self._model.encode_image(torch.stack(pictures), normalize=True).numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Matrix:
        """Vectors of texts, (n, dimension)."""
        parts = [
            self._model.encode_text(self._tokenise(list(texts[start : start + 500])), normalize=True).numpy()
            for start in range(0, len(texts), 500)
        ]
        return np.concatenate(parts)


def recall(queries: Matrix, documents: Matrix) -> dict[str, float]:
    """Recall@1, @5, @10 and the median rank (1 is best) where query i wants document i. Ties count against it."""
    scores = queries @ documents.T
    rank = (scores >= np.diagonal(scores)[:, None]).sum(axis=1)
    found = {f"recall@{k}": float((rank <= k).mean()) for k in (1, 5, 10)}
    return {**found, "median_rank": float(np.median(rank))}


def precision_of_short_queries(measured: Measured, scenes: Sequence[Scene], image_vectors: Matrix, seed: int) -> float:
    """Share of the first five pictures that fit a query of a few words; of as many as fit, where fewer than five do."""
    queries = [short_caption(scene, random.Random(f"short {seed} {scene.spec}")) for scene in scenes]
    scores = measured.texts([query.text for query in queries]) @ image_vectors.T
    shares = []
    for query, row in zip(queries, scores, strict=True):
        fitting = [query.fits(scene) for scene in scenes]
        first = np.argsort(-row)[: min(5, sum(fitting))]
        shares.append(float(np.mean([fitting[index] for index in first])))
    return float(np.mean(shares))


def attribute_accuracy(
    measured: Measured, scenes: Sequence[Scene], image_vectors: Matrix
) -> dict[Attribute, dict[str, float]]:
    """How often the right caption wins against all that differ in one attribute only, and how often chance would.

    Each scene votes once an attribute that it has.
    """
    asked: dict[Attribute, list[tuple[int, slice]]] = {attribute: [] for attribute in ATTRIBUTES}
    texts: list[str] = []
    for index, scene in enumerate(scenes):
        for attribute, captions in attribute_choices(scene).items():
            asked[attribute].append((index, slice(len(texts), len(texts) + len(captions))))
            texts += [caption.text for caption in captions]
    vectors = measured.texts(texts)
    found: dict[Attribute, dict[str, float]] = {}
    for attribute, questions in asked.items():
        won = [int(np.argmax(vectors[span] @ image_vectors[index])) == 0 for index, span in questions]
        chance = [1 / (span.stop - span.start) for _, span in questions]
        found[attribute] = {"accuracy": float(np.mean(won)), "chance": float(np.mean(chance)), "scenes": len(won)}
    return found


def evaluate(folder: Path = network.MODEL_FOLDER, count: int = SCENES, seed: int = SEED) -> dict[str, Any]:
    """All measures of a checkpoint over `count` held-out scenes of different specs."""
    measured = Measured(folder)
    scenes = held_out_scenes(seed, count)
    images = measured.images(scenes)
    captions = [complete_caption(scene, random.Random(f"evaluate {seed} {scene.spec}")).text for scene in scenes]
    texts = measured.texts(captions)
    return {
        "scenes": count,
        "seed": seed,
        "text_to_image": recall(texts, images),
        "image_to_text": recall(images, texts),
        "short_queries_precision@5": precision_of_short_queries(measured, scenes, images, seed),
        "attributes": attribute_accuracy(measured, scenes, images),
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as the model card's tables."""
    lines = [
        f"{result['scenes']:,} held-out scenes of different specs (seed {result['seed']}), "
        "complete captions in varied wording:",
        "",
        "| direction | R@1 | R@5 | R@10 | median rank |",
        "|---|---|---|---|---|",
    ]
    for name, key in (("text → picture", "text_to_image"), ("picture → text", "image_to_text")):
        row = result[key]
        shares = " | ".join(f"{row[f'recall@{k}']:.3f}" for k in (1, 5, 10))
        lines.append(f"| {name} | {shares} | {row['median_rank']:.0f} |")
    lines += [
        "",
        f'Queries of a few words ("red boats", "three cups"): {result["short_queries_precision@5"]:.3f} of the first five fit.',
        "",
        "The right caption among all that differ from it in one attribute only:",
        "",
        "| attribute | accuracy | chance | scenes |",
        "|---|---|---|---|",
    ]
    for name, row in result["attributes"].items():
        lines.append(f"| {name} | {row['accuracy']:.3f} | {row['chance']:.3f} | {row['scenes']} |")
    return "\n".join(lines)


def write_card(result: dict[str, Any], folder: Path = network.MODEL_FOLDER) -> None:
    """Put the tables between the markers of the model card. Raises ValueError where it has none."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"the model card has no {BEGIN} ... {END}")
    block = f"{BEGIN}\n{markdown(result)}\n{END}"
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    card.write_text(re.sub(pattern, lambda _: block, text, flags=re.DOTALL), encoding="utf-8")


def show(result: dict[str, Any], console: Console) -> None:
    """Print the result as tables."""
    table = Table("direction", "R@1", "R@5", "R@10", "median rank", title=f"{result['scenes']} held-out scenes")
    for key in ("text_to_image", "image_to_text"):
        row = result[key]
        table.add_row(
            key.replace("_", " "), *(f"{row[f'recall@{k}']:.3f}" for k in (1, 5, 10)), f"{row['median_rank']:.0f}"
        )
    console.print(table)
    console.print(f"short queries, share of the first five that fit: {result['short_queries_precision@5']:.3f}")
    table = Table("attribute", "accuracy", "chance", "scenes", title="right caption among its variants")
    for name, row in result["attributes"].items():
        table.add_row(name, f"{row['accuracy']:.3f}", f"{row['chance']:.3f}", str(row["scenes"]))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure, print, and where asked write JSON or the model card."""
    parser = argparse.ArgumentParser(
        prog="python -m serve_app.demo.evaluate", description="Measure the demo model again."
    )
    parser.add_argument("--model", type=Path, default=network.MODEL_FOLDER, help="folder of a local-dir: checkpoint")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--write-card", action="store_true", help="write the tables into the model card")
    options = parser.parse_args(arguments)
    result = evaluate(options.model, options.scenes, options.seed)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, Console())
    if options.write_card:
        write_card(result, options.model)


if __name__ == "__main__":
    main()
