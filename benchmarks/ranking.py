"""How fairly texts and pictures are ranked together, at growing modality gaps, and how well a query without an answer is refused.

    .venv/bin/python -m benchmarks.ranking
    .venv/bin/python -m benchmarks.ranking --plot docs/images/ranking.png     # and the plot of docs/ranking.md

The demo model's vectors of picture-book scenes have hardly a gap. One is put in: a constant for each modality is added and the
vectors are brought back to unit length; at a length of 1.5 the cosines are those of a real CLIP (text-text 0.7, a text and its
picture 0.3). Half of the scenes are in the table as five texts and five pictures, a quarter as texts only, a quarter as pictures
only; each is asked for in another wording. `cosine` and `calibrated` are the product's own (LanceTable, RetrievalService); the
z-scores and reciprocal-rank fusion are computed over the whole table. Others of the same world are asked for and are not there.
"""

import argparse
import asyncio
import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.reporting import machine_facts, told, write_report
from serve_app.adapters.lance_table import LanceTable
from serve_app.core.ranking import calibrated_scores, estimate_calibration
from serve_app.demo.captions import complete_caption
from serve_app.demo.evaluate import Measured
from serve_app.demo.scenes import held_out_scenes
from serve_app.services.retrieval import RetrievalService
from serve_app.types import (
    Calibration,
    EncoderCard,
    Hit,
    ImagePreprocessing,
    Modality,
    Ranking,
    Record,
    SearchPage,
    VectorQuery,
)

Matrix = NDArray[np.float32]
TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
GAPS = (0.0, 0.5, 1.0, 1.5, 2.0)
REAL_CLIP = 1.5
GAP_COSINE = 0.18  # between the two constants
COPIES = 5  # documents of a scene in each modality that has it
FIRST = 10
FUSION = 60
CANDIDATES = 100
CONFIDENCES = (0.5, 0.9, 0.95)
SEED = 77
REPORTS = {"ranking": "ranking", "candidates": "ranking_candidates", "refusal": "ranking_refusal"}


@dataclass(frozen=True, slots=True)
class World:
    """Unit vectors without a gap. `scenes` says which scene each row means; those from `answered` on are in no document."""

    texts: Matrix
    text_scenes: NDArray[np.int64]
    pictures: Matrix
    picture_scenes: NDArray[np.int64]
    queries: Matrix
    answered: int

    @property
    def mixed(self) -> NDArray[np.int64]:
        """Queries whose answers are texts and pictures, half and half."""
        return np.arange(0, self.answered, 2)

    @property
    def one_kind(self) -> NDArray[np.int64]:
        """Queries whose answers are all texts, or all pictures."""
        return np.arange(1, self.answered, 2)


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over queries."""

    ndcg: float
    recall: float
    pictures: float  # share of the first ten


def make_world(answered: int, unanswered: int) -> World:
    """Draw, tell and encode the scenes. Every second is there in both modalities, the others in one."""
    scenes = held_out_scenes(SEED, answered + unanswered)
    rng = random.Random(SEED)
    measured = Measured()
    # Of four scenes the second has texts only, the fourth pictures only.
    told_of = [at for at in range(answered) if at % 4 != 3 for _ in range(COPIES)]
    drawn = [at for at in range(answered) if at % 4 != 1 for _ in range(COPIES)]
    pictures = [replace(scenes[at], seed=rng.getrandbits(32)) for at in drawn]
    return World(
        texts=measured.texts([complete_caption(scenes[at], rng).text for at in told_of]),
        text_scenes=np.array(told_of),
        pictures=measured.images(pictures),
        picture_scenes=np.array(drawn),
        queries=measured.texts([complete_caption(scene, rng).text for scene in scenes]),
        answered=answered,
    )


def with_gap(world: World, length: float) -> World:
    """The same vectors with a constant of this length added for each modality."""
    rng = np.random.default_rng(0)
    one, other = unit_rows(rng.normal(size=(2, world.texts.shape[1])))
    across = unit_rows((other - (other @ one) * one)[None])[0]
    of_pictures = GAP_COSINE * one + math.sqrt(1 - GAP_COSINE**2) * across
    return replace(
        world,
        texts=unit_rows(world.texts + length * one),
        pictures=unit_rows(world.pictures + length * of_pictures),
        queries=unit_rows(world.queries + length * one),
    )


def unit_rows(rows: NDArray[Any]) -> Matrix:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# --- the product --------------------------------------------------------------------------------------------------------


class Product:
    """The world in a table of the product's own, asked through its own service."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._table = LanceTable(str(folder))
        self._service = RetrievalService(self._table, candidates=CANDIDATES)

    async def fill(self) -> Calibration:
        preprocessing = ImagePreprocessing(64, 64, (0.5,) * 3, (0.5,) * 3, "bicubic", "squash", 0)
        dimension = self._world.texts.shape[1]
        await self._table.create(
            EncoderCard("demo", "gap", "f" * 64, dimension, 40, preprocessing, "cpu", "float32", 100.0)
        )
        parts = (
            (TEXT, self._world.texts, self._world.text_scenes),
            (IMAGE, self._world.pictures, self._world.picture_scenes),
        )
        records = [
            Record(f"{modality}-{at:05d}", modality, None, None, "0" * 64, {"scene": int(scene)}, row, "f" * 64)
            for modality, rows, scenes in parts
            for at, (row, scene) in enumerate(zip(rows, scenes, strict=True))
        ]
        await self._table.upsert(records, {}, datetime.now(UTC))
        samples = {each: await self._table.sample(each, 2048) for each in Modality}
        calibration = estimate_calibration(samples, (await self._table.info()).counts, version=1)
        await self._table.store_calibration(calibration)
        return calibration

    async def ask(self, ranking: Ranking, limit: int = FIRST, **options: Any) -> list[tuple[Hit, ...]]:
        """The hits of every query."""
        queries = [replace(self.query(row, ranking, limit), **options) for row in self._world.queries]
        pages: list[tuple[Hit, ...]] = []
        for start in range(0, len(queries), 64):
            for page in await self._service.search(queries[start : start + 64]):
                if not isinstance(page, SearchPage):
                    raise RuntimeError(page.message)
                pages.append(page.hits)
        return pages

    @staticmethod
    def query(row: Matrix, ranking: Ranking = Ranking.CALIBRATED, limit: int = FIRST) -> VectorQuery:
        return VectorQuery(row, "f" * 64, ((TEXT, 1.0),), (TEXT, IMAGE), limit, ranking)


def places_of(world: World, pages: Sequence[tuple[Hit, ...]]) -> NDArray[np.int64]:
    """Rows of texts and then of pictures, as the other rankings number them; -1 where a page is short."""
    found = np.full((len(pages), FIRST), -1)
    for at, page in enumerate(pages):
        for place, hit in enumerate(page):
            number = int(hit.document.id.rsplit("-", 1)[1])
            found[at, place] = number + (len(world.texts) if hit.document.modality is IMAGE else 0)
    return found


# --- what it is compared with ---------------------------------------------------------------------------------------------


def first_by(scores: Matrix) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :FIRST]


def z_scores(world: World) -> NDArray[np.int64]:
    """Cosines in standard deviations of the query's own scores in each modality."""

    def standard(scores: Matrix) -> Matrix:
        return (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True)

    return first_by(np.hstack([standard(world.queries @ rows.T) for rows in (world.texts, world.pictures)]))


def rank_fusion(world: World) -> NDArray[np.int64]:
    """Reciprocal rank fusion of the two modalities' own orders."""

    def worth(scores: Matrix) -> Matrix:
        ranks = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
        return 1.0 / (FUSION + 1 + ranks)

    return first_by(np.hstack([worth(world.queries @ rows.T) for rows in (world.texts, world.pictures)]))


# --- measures -------------------------------------------------------------------------------------------------------------


def quality(world: World, places: NDArray[np.int64], asked: NDArray[np.int64]) -> Quality:
    """NDCG@10 and recall@10 with relevance 0 or 1, and the share of pictures in the first ten."""
    scenes = np.concatenate([world.text_scenes, world.picture_scenes])
    good = (scenes[places[asked]] == asked[:, None]) & (places[asked] >= 0)
    wanted = np.array([(scenes == each).sum() for each in asked])
    discount = 1.0 / np.log2(np.arange(FIRST) + 2)
    ideal = np.array([discount[: min(FIRST, count)].sum() for count in wanted])
    return Quality(
        ndcg=float(((good * discount).sum(axis=1) / ideal).mean()),
        recall=float((good.sum(axis=1) / np.minimum(wanted, FIRST)).mean()),
        pictures=float((places[asked] >= len(world.texts)).mean()),
    )


def cosines_of(world: World) -> dict[str, float]:
    """What a gap does to plain cosines: of any two texts, and of a text and its own picture."""
    first = {int(scene): at for at, scene in reversed(list(enumerate(world.picture_scenes)))}
    own = [world.queries[scene] @ world.pictures[at] for scene, at in first.items()]
    return {
        "text_text": float((world.queries[: world.answered] @ world.texts.T).mean()),
        "text_own_picture": float(np.mean(own)),
    }


def found_of_best(world: World, calibration: Calibration, pages: Sequence[tuple[Hit, ...]]) -> dict[str, float]:
    """Of the 50 pictures that score best of all, how many the service finds, and how many its candidates would have held had
    they been searched by the query as it is."""
    by_service, by_query = [], []
    for row, page in zip(world.queries, pages, strict=True):
        scores = calibrated_scores(Product.query(row), world.pictures, [IMAGE] * len(world.pictures), calibration)
        best = {f"image-{at:05d}" for at in np.argsort(-scores)[:50]}
        by_service.append(len(best & {hit.document.id for hit in page}) / 50)
        nearest = np.argsort(-(world.pictures @ row))[:CANDIDATES]
        by_query.append(len(best & {f"image-{at:05d}" for at in nearest}) / 50)
    return {"best_50_found": float(np.mean(by_service)), "best_50_by_plain_query": float(np.mean(by_query))}


def refusal(world: World, refused: NDArray[np.bool_]) -> dict[str, float]:
    """Of refusing queries without an answer."""
    right = int(refused[world.answered :].sum())
    return {
        "precision": right / max(int(refused.sum()), 1),
        "recall": right / (len(refused) - world.answered),
        "answered": float(1 - refused[: world.answered].mean()),
        "accepted_without_answer": float(1 - refused[world.answered :].mean()),
    }


def best_cutoff(world: World, top: NDArray[Any]) -> NDArray[np.bool_]:
    """Refused by the one cut-off of the first score that is best in hindsight (F1)."""

    def f1(cut: float) -> float:
        found = refusal(world, top < cut)
        return 2 * found["precision"] * found["recall"] / max(found["precision"] + found["recall"], 1e-9)

    return top < max(np.unique(top), key=lambda cut: f1(float(cut)))


# --- the run --------------------------------------------------------------------------------------------------------------


async def measure(plain: World, length: float) -> list[dict[str, Any]]:
    """The rows of one gap."""
    world = with_gap(plain, length)
    with tempfile.TemporaryDirectory(prefix="ranking-") as folder:
        product = Product(world, Path(folder))
        calibration = await product.fill()
        by_cosine = await product.ask(Ranking.COSINE)
        calibrated = await product.ask(Ranking.CALIBRATED)
        pictures = await product.ask(Ranking.CALIBRATED, limit=50, modalities=(IMAGE,))
    orders: Mapping[str, NDArray[np.int64]] = {
        "cosine": places_of(world, by_cosine),
        "z-score": z_scores(world),
        "rank fusion": rank_fusion(world),
        "calibrated": places_of(world, calibrated),
    }
    rows = []
    for name, places in orders.items():
        mixed, one = quality(world, places, world.mixed), quality(world, places, world.one_kind)
        rows.append(
            told(
                {
                    "row": "ranking",
                    "gap": length,
                    **cosines_of(world),
                    "ranking": name,
                    "ndcg@10": mixed.ndcg,
                    "recall@10": mixed.recall,
                    "pictures": mixed.pictures,
                    "ndcg@10_one_kind": one.ndcg,
                }
            )
        )
    rows.append(told({"row": "candidates", "gap": length, **found_of_best(world, calibration, pictures)}))
    rows += refusals(world, length, by_cosine, calibrated)
    return rows


def refusals(
    world: World, length: float, by_cosine: Sequence[tuple[Hit, ...]], calibrated: Sequence[tuple[Hit, ...]]
) -> list[dict[str, Any]]:
    """The rows of refusing, at one gap."""
    sure = np.array([max(hit.confidence or 0.0 for hit in page) for page in calibrated])
    top = np.array([page[0].score for page in by_cosine])
    share = np.array([0.5 * math.erfc(-page[0].score / math.sqrt(2)) for page in calibrated])
    rules = {
        **{f"confidence {least}": sure < least for least in CONFIDENCES},
        "share of unrelated pairs 0.95": share < 0.95,
        "share of unrelated pairs 0.999": share < 0.999,
        "cosine, best cut-off in hindsight": best_cutoff(world, top),
    }
    return [
        told({"row": "refusal", "gap": length, "rule": name, **refusal(world, each)}) for name, each in rules.items()
    ]


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """NDCG@10 and the share of pictures over the gap."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = {"cosine": "#c0392b", "z-score": "#8e8e8e", "rank fusion": "#d68910", "calibrated": "#1f618d"}
    panels = (
        ("ndcg@10", "NDCG@10, half of the answers pictures"),
        ("pictures", "share of pictures in the first ten"),
        ("ndcg@10_one_kind", "NDCG@10, answers all texts or all pictures"),
    )
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), sharex=True)
    for axis, (key, title) in zip(axes, panels, strict=True):
        for name, colour in names.items():
            of_name = [row for row in rows if row.get("ranking") == name]
            axis.plot([row["gap"] for row in of_name], [row[key] for row in of_name], "o-", color=colour, label=name)
        axis.axvline(REAL_CLIP, color="#444444", linestyle=":", linewidth=1)
        axis.text(REAL_CLIP + 0.03, 0.05, "as real CLIP", fontsize=8, color="#444444")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("length of the constant that makes the gap")
        axis.set_ylim(-0.02, 1.03)
        axis.grid(alpha=0.25)
    axes[1].axhline(0.5, color="#444444", linestyle=":", linewidth=1)
    axes[0].legend(loc="lower left", fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description=__doc__)
    parser.add_argument("--scenes", type=int, default=400, help="scenes with documents")
    parser.add_argument("--without-answer", type=int, default=200, help="scenes that are asked for and are not there")
    parser.add_argument("--plot", type=Path, help="save the plot as this file")
    options = parser.parse_args()
    machine = machine_facts()
    world = make_world(options.scenes, options.without_answer)
    rows = [row for length in GAPS for row in asyncio.run(measure(world, length))]
    settings = {
        "scenes": options.scenes,
        "without_answer": options.without_answer,
        "texts": len(world.texts),
        "pictures": len(world.pictures),
    }
    for kind, name in REPORTS.items():
        write_report(name, [_without_row(row) for row in rows if row["row"] == kind], settings, machine=machine)
    if options.plot:
        plot(rows, options.plot)


def _without_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "row"}


if __name__ == "__main__":
    main()
