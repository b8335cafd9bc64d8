"""Where the files of a model are, by the name that the configuration gives it. Fetches from a hub, never from object storage.

Promises that a model in a folder needs no network, and that nothing which came with a model is run as code.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import snapshot_download
from open_clip.hf_configs import arch_dict
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from serve_app.adapters.checkpoint import (
    CONFIG_NAME,
    TEXT_CONFIG_NAME,
    TOKENIZER_FILES,
    Checkpoint,
    read_config,
    weights_among,
)
from serve_app.errors import ModelUnavailable

DEMO_MODEL = Path(__file__).parents[2] / "demo" / "model"
WAYS = ("mean", "std", "interpolation", "resize_mode")


def find(model: str, pretrained: str | None) -> Checkpoint:
    """The files of a model (see EncoderConfig for its names). Raises ModelUnavailable, and whatever a hub raises."""
    if model == "demo":
        return _in_folder(DEMO_MODEL)
    if model.startswith("local-dir:"):
        return _in_folder(Path(model.removeprefix("local-dir:")))
    if model.startswith("hf-hub:"):
        return _on_hub(model.removeprefix("hf-hub:"))
    architecture = open_clip.get_model_config(model)
    if architecture is None:
        raise ModelUnavailable("OpenCLIP knows no such architecture")
    if pretrained is None:
        raise ModelUnavailable("an architecture needs `pretrained`, a tag of OpenCLIP or the path of a checkpoint")
    tagged = get_pretrained_cfg(model, pretrained)
    if not tagged:
        return _of_file(model, architecture, Path(pretrained))
    _check_quick_gelu(model, architecture, tagged)
    return _complete(architecture, Path(download_pretrained(tagged)), _way_of(tagged))


def _in_folder(folder: Path) -> Checkpoint:
    config = read_config(folder)
    weights = weights_among(file.name for file in folder.iterdir())
    if weights is None:
        raise ModelUnavailable("the folder of the model holds no weights")
    return _complete(
        config["model_cfg"], folder / weights, _way_of(config["preprocess_cfg"]), beside=folder, ask_hub=False
    )


def _on_hub(repository: str) -> Checkpoint:
    config = read_config(Path(download_pretrained_from_hf(repository, filename=CONFIG_NAME)).parent)
    weights = Path(download_pretrained_from_hf(repository))
    return _complete(config["model_cfg"], weights, _way_of(config["preprocess_cfg"]))


def _of_file(model: str, architecture: Mapping[str, Any], file: Path) -> Checkpoint:
    if not file.is_file():
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ModelUnavailable(f"its `pretrained` is neither a file nor one of its tags, which are: {known}")
    return _complete(architecture, file, preprocessing_of_file(model, file), beside=file.parent)


def _complete(
    model_cfg: Mapping[str, Any],
    weights: Path,
    preprocess_cfg: Mapping[str, Any],
    *,
    beside: Path | None = None,
    ask_hub: bool = True,
) -> Checkpoint:
    """With the tokeniser and the text tower's config, from the folder `beside` the weights, else from the hub."""
    text_cfg = model_cfg["text_cfg"]
    tokenizer, text_tower = text_cfg.get("hf_tokenizer_name"), text_cfg.get("hf_model_name")
    return Checkpoint(
        model_cfg,
        weights,
        preprocess_cfg,
        tokenizer_folder=_holding(TOKENIZER_FILES, tokenizer, beside, ask_hub) if tokenizer else None,
        text_config_folder=_text_config(text_tower, beside, ask_hub) if text_tower else None,
    )


def _holding(patterns: Sequence[str], name: str, beside: Path | None, ask_hub: bool) -> Path:
    if beside is not None and any(any(beside.glob(pattern)) for pattern in patterns):
        return beside
    if not ask_hub:
        raise ModelUnavailable(f"the folder of the model holds no file {' or '.join(patterns)} of {name}")
    return Path(snapshot_download(name, allow_patterns=list(patterns)))


def _text_config(name: str, beside: Path | None, ask_hub: bool) -> Path:
    folder = _holding((TEXT_CONFIG_NAME,), name, beside, ask_hub)
    config = json.loads((folder / TEXT_CONFIG_NAME).read_text(encoding="utf-8"))
    # The config.json of a whole CLIP in the form of `transformers` has the type "clip" and describes another model.
    if config.get("model_type") not in arch_dict or "auto_map" in config:
        raise ModelUnavailable(
            f"its {TEXT_CONFIG_NAME} describes no text tower that OpenCLIP knows ({', '.join(arch_dict)})"
        )
    return folder


def preprocessing_of_file(model: str, file: Path) -> Mapping[str, Any]:
    """How pictures are prepared for a bare checkpoint, for which OpenCLIP would silently take OpenAI's values.

    By an open_clip_config.json beside it, else by the tag that the file is named after, else by what all tags of the
    architecture agree on. Raises ModelUnavailable, also where one of the first two says that QuickGELU differs.
    """
    architecture = open_clip.get_model_config(model) or {}
    if file.with_name(CONFIG_NAME).is_file():
        config = read_config(file.parent)
        if config["model_cfg"]:
            _check_quick_gelu(model, architecture, config["model_cfg"])
        return _way_of(config["preprocess_cfg"])
    tags = open_clip.list_pretrained_tags_by_model(model)
    named = sorted((tag for tag in tags if tag in file.stem.lower().replace("-", "_")), key=len)[-1:]
    if named:
        _check_quick_gelu(model, architecture, get_pretrained_cfg(model, named[0]))
    ways = [_way_of(get_pretrained_cfg(model, tag)) for tag in named or tags]
    if not ways or any(way != ways[0] for way in ways):
        raise ModelUnavailable(
            f"the checkpoint does not say how pictures are prepared: put its {CONFIG_NAME} beside it"
        )
    return ways[0]


def _check_quick_gelu(model: str, architecture: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    # OpenCLIP only warns, and gives vectors that the weights were not trained for.
    if bool(trained.get("quick_gelu")) != bool(architecture.get("quick_gelu")):
        raise ModelUnavailable(
            f"these weights and {model} differ in QuickGELU: name the architecture with or without -quickgelu"
        )


def _way_of(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: cfg[key] for key in (*WAYS, "fill_color") if cfg.get(key) is not None}
