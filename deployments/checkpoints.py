"""Where an encoder's checkpoint is, once it is on this machine. Knows the names of the config, and which file has a SHA-256."""

from pathlib import Path
from typing import TypedDict

from configs.schema import EncoderConfig
from serve_app.adapters.checkpoint import (
    CONFIG_NAME,
    TEXT_CONFIG_NAME,
    TOKENIZER_FILES,
    checked_sha256,
    weights_among,
)
from serve_app.adapters.object_store import fetch_file, fetch_folder
from serve_app.errors import ModelUnavailable, PictureNotFound


class TowerArguments(TypedDict):
    model: str
    pretrained: str | None
    sha256: str | None
    device: str
    precision: str


def tower_arguments(encoder: EncoderConfig) -> TowerArguments:
    """What the loaders of serve_app.adapters.open_clip take; a checkpoint in object storage is fetched first, once.

    Raises ModelUnavailable, StorageUnavailable.
    """
    model, pretrained = encoder.model, encoder.pretrained
    if "://" in model:
        model = "local-dir:" + _fetched_folder(model, encoder)
    elif pretrained is not None and "://" in pretrained:
        pretrained = _fetched_file(pretrained, encoder)
    return TowerArguments(
        model=model,
        pretrained=pretrained,
        sha256=encoder.sha256,
        device=encoder.device,
        precision=encoder.precision,
    )


def _fetched_folder(uri: str, encoder: EncoderConfig) -> str:
    def check(folder: Path) -> None:
        weights = weights_among(file.name for file in folder.iterdir())
        if encoder.sha256 and weights:
            checked_sha256(folder / weights, encoder.sha256)

    try:
        return fetch_folder(uri, encoder.cache_dir, encoder.options, check=check)
    except PictureNotFound as error:
        raise ModelUnavailable(f"there is no checkpoint at {uri}") from error


def _fetched_file(uri: str, encoder: EncoderConfig) -> str:
    def check(folder: Path) -> None:
        if encoder.sha256:
            checked_sha256(folder / uri.rpartition("/")[2], encoder.sha256)

    # How pictures and texts are prepared may lie beside the weights.
    beside = (CONFIG_NAME, TEXT_CONFIG_NAME, *TOKENIZER_FILES)
    try:
        return fetch_file(uri, encoder.cache_dir, encoder.options, beside=beside, check=check)
    except PictureNotFound as error:
        raise ModelUnavailable(f"there is no checkpoint at {uri}") from error
