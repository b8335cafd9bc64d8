"""Train the demo model from nothing: `python -m serve_app.demo.train`. Knows scenes and captions, no serving.

Contrastive learning as in CLIP (Radford et al. 2021), with three turns. A batch is made of families, so that most wrong
answers differ from the right one in a single respect. A short caption may fit several pictures of a batch; those are no
wrong answers and are left out of the loss. The weights kept are an exponential average over the steps.
"""

# ruff: noqa: S311 - lots are drawn here, no secrets made

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from serve_app.demo import network
from serve_app.demo.captions import Caption, caption, complete_caption, scene_facts
from serve_app.demo.drawing import draw
from serve_app.demo.pool import FAMILY, Pool, shrink
from serve_app.demo.pool import family as family_of
from serve_app.demo.scenes import COLOURS, KINDS, OPPOSITE, Scene, held_out_scenes

# The scenes watched during training are not those that evaluate.py measures in the end.
WATCHED_SEED = 101
MAX_SCALE = 100.0
LONGEST_STEP_S = 20.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides a run. `minutes` bounds its time over all resumptions, `steps` its length; the first one ends it."""

    seed: int = 7
    minutes: float = 600.0
    steps: int = 4000
    batch_families: int = 32
    pool_families: int = 18_000
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.05
    warmup_steps: int = 300
    ema_decay: float = 0.998
    # Contrast alone finds places and colours first and is content for long: place, weather and colour suffice to find one
    # picture among a thousand. Heads that have to tell kind, colour and layout from the image's vector make it look at
    # the things.
    telling: float = 1.0
    threads: int = 2
    watched: int = 500
    watch_minutes: float = 3.0
    model_cfg: dict[str, Any] = field(default_factory=lambda: network.MODEL_CFG)


@dataclass(slots=True)
class Batch:
    """Pictures uint8 (n, side, side, 3), tokens (n, context), `wrong` (n, n): caption i surely not of picture j, and
    `labels` (n, 5): what each picture shows, see `picture_labels`."""

    pictures: Tensor
    tokens: Tensor
    wrong: Tensor
    labels: Tensor


LAYOUTS = ("1", "2", "3", "4", "left of", "above")
LABELS = (len(LAYOUTS), len(KINDS), len(COLOURS), len(KINDS), len(COLOURS))


def picture_labels(scene: Scene) -> list[int]:
    """Layout, then kind and colour of the left or upper thing, then those of the other (-1 where there is none)."""
    first, second, relation = scene.thing, scene.other, scene.relation
    if second is None or relation is None:
        return [LAYOUTS.index(str(scene.count)), KINDS.index(first.kind), COLOURS.index(first.colour), -1, -1]
    if relation in ("right of", "below"):
        first, second, relation = second, first, OPPOSITE[relation]
    things = [number for each in (first, second) for number in (KINDS.index(each.kind), COLOURS.index(each.colour))]
    return [LAYOUTS.index(relation), *things]


class Trainer:
    """Model, average, optimiser and their clock; everything that a resumed run needs."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.model: Any = network.build(recipe.model_cfg).to(self.device).to(memory_format=torch.channels_last)
        self.heads = torch.nn.Linear(recipe.model_cfg["embed_dim"], sum(LABELS)).to(self.device)
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        weights = [*self.model.parameters(), *self.heads.parameters()]
        plain = [p for p in weights if p.ndim < 2]
        decayed = [p for p in weights if p.ndim >= 2]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6)
        text_cfg = recipe.model_cfg["text_cfg"]
        self.tokenise = open_clip.tokenizer.SimpleTokenizer(context_length=text_cfg["context_length"])
        self.known_tokens = torch.zeros(text_cfg["vocab_size"], dtype=torch.bool)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return min(1.0, max(self.step / self.recipe.steps, self.seconds / 60 / self.recipe.minutes))

    def learn(self, batch: Batch) -> float:
        """One step of the optimiser; the loss before it."""
        recipe = self.recipe
        rate = recipe.learning_rate * min(1.0, (self.step + 1) / recipe.warmup_steps)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        self.known_tokens[batch.tokens.flatten()] = True
        loss = self._loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(MAX_SCALE))
            decay = min(recipe.ema_decay, (1 + self.step) / (10 + self.step))
            for name, value in self.model.state_dict().items():
                kept = self.average[name]
                # Counters (of batch normalisation) have no average.
                kept.lerp_(value, 1 - decay) if kept.is_floating_point() else kept.copy_(value)
        return float(loss.detach())

    def _loss(self, batch: Batch) -> Tensor:
        tokens, wrong = batch.tokens.to(self.device), batch.wrong.to(self.device)
        # On CPUs the plain attention is faster backwards than the flash kernel on sequences as short as these.
        with torch.autocast(self.device.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            images = self.model.encode_image(_normalised(batch.pictures.to(self.device)))
            texts = network.encode_text_trimmed(self.model, tokens)
        # Normalise and compare in float32: bfloat16 cannot tell close neighbours apart.
        told = self._telling_loss(images.float(), batch.labels.to(self.device))
        images, texts = functional.normalize(images.float(), dim=-1), functional.normalize(texts.float(), dim=-1)
        logits = self.model.logit_scale.exp() * texts @ images.T
        right = torch.arange(len(logits), device=self.device)
        neither = ~wrong
        neither[right, right] = False
        logits = logits.masked_fill(neither, float("-inf"))
        contrast = (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2
        return contrast + self.recipe.telling * told

    def _telling_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """How badly linear heads tell from an image's vector what it shows; they are not part of the checkpoint."""
        answers = self.heads(images).split(LABELS, dim=1)
        # Sums, divided by hand: the mean over no pair at all would not be a number.
        losses = [
            functional.cross_entropy(answer, labels[:, i], ignore_index=-1, reduction="sum")
            / (labels[:, i] >= 0).sum().clamp(min=1)
            for i, answer in enumerate(answers)
        ]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def recall(self, pictures: NDArray[np.uint8], captions: Sequence[str]) -> tuple[float, float, float]:
        """Recall@1 text to image, image to text, and the lesser recall@5, of the averaged weights."""
        held = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        images, texts = [], []
        for start in range(0, len(captions), 250):
            part = torch.from_numpy(pictures[start : start + 250]).to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16):
                images.append(self.model.encode_image(_normalised(part)).float())
                tokens = self.tokenise(list(captions[start : start + 250])).to(self.device)
                texts.append(network.encode_text_trimmed(self.model, tokens).float())
        self.model.load_state_dict(held)
        scores = functional.normalize(torch.cat(texts), dim=-1) @ functional.normalize(torch.cat(images), dim=-1).T
        by_text, by_image = ranks(scores), ranks(scores.T)
        share = [float((found == 0).float().mean()) for found in (by_text, by_image)]
        return share[0], share[1], min(float((found < 5).float().mean()) for found in (by_text, by_image))

    def save(self) -> None:
        """Write the state to resume from, and beside it the averaged weights as a checkpoint."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "known_tokens": self.known_tokens,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "recipe": asdict(self.recipe),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "state.pt.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "state.pt")
        self.write_checkpoint(self.folder / "model")

    def write_checkpoint(self, folder: Path) -> None:
        """Write the averaged weights in OpenCLIP's `local-dir:` form."""
        network.write_checkpoint(folder, self.average, self.recipe.model_cfg, self.known_tokens)

    def start_from(self, checkpoint: Path) -> None:
        """Begin with the weights of a checkpoint instead of random ones."""
        model, _, _ = network.load(checkpoint)
        self.model.load_state_dict(model.state_dict())
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.known_tokens = (self.model.token_embedding.weight != 0).any(dim=1).cpu()

    def resume(self) -> bool:
        """Take up the stored state, if there is one."""
        file = self.folder / "state.pt"
        if not file.exists():
            return False
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.known_tokens = state["known_tokens"].cpu()
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        return True


def ranks(scores: Tensor) -> Tensor:
    """For each row i, how many columns score above column i: 0 where the right one is first. Ties count against it."""
    right = scores.diagonal()[:, None]
    return (scores >= right).sum(dim=1) - 1


def _normalised(pictures: Tensor) -> Tensor:
    mean = torch.tensor(network.PREPROCESS_CFG["mean"], device=pictures.device)
    std = torch.tensor(network.PREPROCESS_CFG["std"], device=pictures.device)
    return ((pictures.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def _jittered(pictures: NDArray[np.uint8], rng: random.Random, reach: int = 2) -> NDArray[np.uint8]:
    """Each picture shifted by up to `reach` pixels and a little lighter or darker. Never mirrored: left is not right."""
    side = pictures.shape[1]
    padded = np.pad(pictures, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    moved = np.empty_like(pictures)
    for i in range(len(pictures)):
        x, y, light = rng.randint(0, 2 * reach), rng.randint(0, 2 * reach), rng.uniform(0.9, 1.08)
        moved[i] = np.clip(padded[i, y : y + side, x : x + side] * light, 0, 255)
    return moved


def batches(pool: Pool, recipe: Recipe, trainer: Trainer) -> Iterator[Batch]:
    """Batches without end, each a function of seed, step and how far the pool has grown."""
    while True:
        rng = random.Random(f"batch {recipe.seed} {trainer.step}")
        families = rng.sample(range(pool.ready), recipe.batch_families)
        scenes = [scene for index in families for scene in family_of(pool.seed, index)]
        pictures = _jittered(np.concatenate([pool.pixels(index) for index in families]), rng)
        captions = [caption(scene, rng) for scene in scenes]
        tokens = trainer.tokenise([each.text for each in captions])
        wrong = torch.from_numpy(_surely_wrong(captions, scenes))
        yield Batch(torch.from_numpy(pictures), tokens, wrong, torch.tensor([picture_labels(each) for each in scenes]))


def _surely_wrong(captions: Sequence[Caption], scenes: Sequence[Scene]) -> NDArray[np.bool_]:
    facts = [scene_facts(scene) for scene in scenes]
    return np.array([[not each.facts <= known for known in facts] for each in captions])


def _watched(count: int, size: int) -> tuple[NDArray[np.uint8], list[str]]:
    scenes = held_out_scenes(WATCHED_SEED, count)
    captions = [complete_caption(scene, random.Random(f"watched {scene.spec}")).text for scene in scenes]
    return np.stack([np.asarray(shrink(draw(scene), size)) for scene in scenes]), captions


def train(recipe: Recipe, folder: Path, console: Console | None = None, start: Path | None = None) -> Trainer:
    """Run a recipe, or what is left of it, keeping its state in `folder`; the trainer at its end."""
    console = console or Console()
    trainer = Trainer(recipe, folder)
    if trainer.resume():
        console.log(f"resumed at step {trainer.step} after {trainer.seconds / 60:.1f} minutes")
    elif start is not None:
        trainer.start_from(start)
    size = recipe.model_cfg["vision_cfg"]["image_size"]
    pictures, captions = _watched(recipe.watched, size)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TaskProgressColumn(), TimeElapsedColumn())
    with Pool(folder, recipe.seed, recipe.pool_families, size) as pool, Progress(*columns, console=console) as bar:
        task = bar.add_task("drawing the first pictures", total=1.0)
        while pool.ready < min(recipe.pool_families, 4 * recipe.batch_families):
            time.sleep(0.2)
        supply, watched_at, recent = batches(pool, recipe, trainer), time.monotonic(), 0.0
        while trainer.progress < 1.0:
            started = time.monotonic()
            # While pictures are being drawn, that process has a core to itself: threads that wait for each other
            # would all run at the pace of the one that shares its core.
            torch.set_num_threads(recipe.threads if pool.full else max(1, recipe.threads - 1))
            loss = trainer.learn(next(supply))
            # A machine that was suspended during a step has not trained meanwhile.
            trainer.seconds += min(time.monotonic() - started, LONGEST_STEP_S)
            recent = loss if not recent else 0.95 * recent + 0.05 * loss
            bar.update(task, completed=trainer.progress, description=f"step {trainer.step}  loss {recent:.3f}")
            if time.monotonic() - watched_at > 60 * recipe.watch_minutes or trainer.progress >= 1.0:
                t2i, i2t, five = trainer.recall(pictures, captions)
                minutes = trainer.seconds / 60
                trainer.history.append(
                    {"step": trainer.step, "minutes": minutes, "loss": recent, "t2i": t2i, "i2t": i2t}
                )
                speed = trainer.step * recipe.batch_families * FAMILY / trainer.seconds
                console.log(
                    f"step {trainer.step}  {minutes:.1f} min  loss {recent:.3f}  "
                    f"R@1 text {t2i:.3f} image {i2t:.3f}  R@5 {five:.3f}  pool {pool.ready * FAMILY}  {speed:.0f} img/s"
                )
                trainer.save()
                watched_at = time.monotonic()
    return trainer


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: train, then write the checkpoint."""
    standard = Recipe()
    parser = argparse.ArgumentParser(
        prog="python -m serve_app.demo.train", description="Train the demo model from nothing."
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("var/demo-train"), help="state to resume from, and the pool"
    )
    parser.add_argument("--out", type=Path, help="where the finished checkpoint goes (default: FOLDER/model only)")
    parser.add_argument("--start", type=Path, help="checkpoint whose weights to begin with (default: random weights)")
    for name in ("seed", "steps", "batch_families", "pool_families", "threads"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(standard, name))
    for name in ("minutes", "learning_rate", "watch_minutes", "telling"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(standard, name))
    given = vars(parser.parse_args(arguments))
    folder, out, start = given.pop("folder"), given.pop("out"), given.pop("start")
    trainer = train(Recipe(**given), folder, start=start)
    if out is not None:
        trainer.write_checkpoint(out)


if __name__ == "__main__":
    main()
