"""OpenCLIP models, found by name, loaded and described.

Promises the model's own preprocessing and tokeniser, weights that were really loaded (no random ones, no remote code), and only
one tower in memory. Knows nothing of batching, Ray, object storage or picture files.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import _find_checkpoint_in_dir as find_weights
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from serve_app.adapters.checkpoint import CONFIG_NAME, Checkpoint, fingerprint_of, image_preprocessing, read_config
from serve_app.adapters.open_clip.hardware import OPEN_CLIP_PRECISIONS, chosen_device, chosen_precision
from serve_app.adapters.open_clip.towers import OpenClipImageTower, OpenClipTextTower
from serve_app.adapters.tokenising import BoundedTokenizer
from serve_app.errors import ModelUnavailable
from serve_app.types import EncoderCard

DEMO_MODEL = Path(__file__).parents[2] / "demo" / "model"
WAYS = ("mean", "std", "interpolation", "resize_mode")


def load_image_tower(
    *,
    model: str,
    pretrained: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> OpenClipImageTower:
    """The image tower of a model (see EncoderConfig for its names). `threads`: of torch, for all of the process.

    Raises ModelUnavailable with one sentence.
    """
    loaded, _, card = _load(model, pretrained, device, precision, threads)
    return OpenClipImageTower(loaded, card)


def load_text_tower(
    *,
    model: str,
    pretrained: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    max_tokenised_characters: int = 4_000,
    max_word_characters: int = 64,
) -> OpenClipTextTower:
    """The text tower and tokeniser of a model (see EncoderConfig for its names). `threads`: of torch, for all of the process.

    Raises ModelUnavailable with one sentence.
    """
    loaded, checkpoint, card = _load(model, pretrained, device, precision, threads)
    try:
        tokenizer = open_clip.get_tokenizer(checkpoint.name)
    except Exception as error:
        raise ModelUnavailable(f"the tokeniser of {card.model} cannot be loaded: {_first_line(error)}") from error
    bounded = BoundedTokenizer(
        tokenizer,
        card.context_length,
        max_characters=max_tokenised_characters,
        max_word_characters=max_word_characters,
    )
    return OpenClipTextTower(loaded, bounded, card)


def _load(
    model: str, pretrained: str | None, device: str, precision: str, threads: int | None
) -> tuple[Any, Checkpoint, EncoderCard]:
    if threads is not None:
        torch.set_num_threads(threads)
    where = chosen_device(device)
    how = chosen_precision(precision, where)
    shown = _shown(model, pretrained)
    try:
        checkpoint = _find(f"local-dir:{DEMO_MODEL}" if model == "demo" else model, pretrained)
        loaded = open_clip.create_model(
            checkpoint.name,
            pretrained=checkpoint.pretrained,
            precision=OPEN_CLIP_PRECISIONS[how],
            force_preprocess_cfg=dict(checkpoint.preprocessing or {}),
            require_pretrained=True,  # else a missing file means random weights and a line in the log
            weights_only=True,
        ).eval()  # OpenCLIP gives models in training mode, where one picture's vector depends on its neighbours
        preprocessing = image_preprocessing(open_clip.get_model_preprocess_cfg(loaded))
        fingerprint = fingerprint_of(checkpoint, preprocessing)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"the model {' '.join(shown).strip()} cannot be loaded: {error.message}") from error
    except Exception as error:
        raise ModelUnavailable(f"the model {' '.join(shown).strip()} cannot be loaded: {_first_line(error)}") from error
    card = EncoderCard(
        model=shown[0],
        pretrained=shown[1],
        fingerprint=fingerprint,
        dimension=checkpoint.dimension,
        context_length=checkpoint.context_length,
        preprocessing=preprocessing,
        device=where,
        precision=how,
        logit_scale=float(loaded.logit_scale.detach().exp()),
        logit_bias=None if getattr(loaded, "logit_bias", None) is None else float(loaded.logit_bias.detach()),
    )
    return loaded, checkpoint, card


def _find(model: str, pretrained: str | None) -> Checkpoint:
    """The files of a model, fetched from a hub if need be. Raises ModelUnavailable, and whatever OpenCLIP raises."""
    if model.startswith("local-dir:"):
        return _in_folder(model, Path(model.removeprefix("local-dir:")))
    if model.startswith("hf-hub:"):
        repository = model.removeprefix("hf-hub:")
        config = Path(download_pretrained_from_hf(repository, filename=CONFIG_NAME))
        weights = Path(download_pretrained_from_hf(repository))
        return Checkpoint(model, None, read_config(config.parent)["model_cfg"], weights)
    architecture = open_clip.get_model_config(model)
    if architecture is None:
        raise ModelUnavailable("OpenCLIP knows no such architecture")
    if pretrained is None:
        raise ModelUnavailable("an architecture needs `pretrained`, a tag of OpenCLIP or the path of a checkpoint")
    tagged = get_pretrained_cfg(model, pretrained)
    if not tagged:
        return _of_file(model, architecture, Path(pretrained))
    if bool(tagged.get("quick_gelu")) != bool(architecture.get("quick_gelu")):
        # OpenCLIP only warns, and gives vectors that the weights were not trained for.
        raise ModelUnavailable(
            f"these weights and {model} differ in QuickGELU: name the architecture with or without -quickgelu"
        )
    found = Checkpoint(model, None, architecture, Path(download_pretrained(tagged)), _way_of(tagged))
    return replace(found, pretrained=str(found.weights))


def _in_folder(name: str, folder: Path) -> Checkpoint:
    config = read_config(folder)
    weights = find_weights(folder)  # OpenCLIP's own choice: what it loads is what is hashed
    if weights is None:
        raise ModelUnavailable("the folder of the model holds no weights")
    return Checkpoint(name, None, config["model_cfg"], Path(weights), tokenizer_folder=folder)


def _of_file(model: str, architecture: Mapping[str, Any], file: Path) -> Checkpoint:
    if not file.is_file():
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ModelUnavailable(f"its `pretrained` is neither a file nor one of its tags, which are: {known}")
    return Checkpoint(model, str(file), architecture, file, preprocessing_of_file(model, file))


def preprocessing_of_file(model: str, file: Path) -> Mapping[str, Any]:
    """How pictures are prepared for a bare checkpoint, for which OpenCLIP would silently take OpenAI's values.

    By an open_clip_config.json beside it, else by the tag that the file is named after, else by what all tags of the
    architecture agree on. Raises ModelUnavailable.
    """
    if file.with_name(CONFIG_NAME).is_file():
        return _way_of(read_config(file.parent)["preprocess_cfg"])
    tags = open_clip.list_pretrained_tags_by_model(model)
    named = [tag for tag in tags if tag in file.stem.lower().replace("-", "_")]
    ways = [_way_of(get_pretrained_cfg(model, tag)) for tag in [*sorted(named, key=len)[-1:]] or tags]
    if not ways or any(way != ways[0] for way in ways):
        raise ModelUnavailable(
            f"the checkpoint does not say how pictures are prepared: put its {CONFIG_NAME} beside it"
        )
    return ways[0]


def _way_of(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: cfg[key] for key in (*WAYS, "fill_color") if cfg.get(key) is not None}


def _shown(model: str, pretrained: str | None) -> tuple[str, str]:
    """Names for the card, which everybody may read: no folders of this machine."""
    scheme, separator, path = model.partition(":")
    name = f"local-dir:{Path(path).name}" if separator and scheme == "local-dir" else model
    return name, Path(pretrained).name if pretrained else ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
