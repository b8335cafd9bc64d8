"""Where an encoder's checkpoint is, once it is on this machine. Knows the names of the config, not what they hold."""

from typing import TypedDict

from configs.schema import EncoderConfig
from serve_app.adapters.object_store import fetch_folder
from serve_app.errors import ModelUnavailable, PictureNotFound


class TowerArguments(TypedDict):
    model: str
    pretrained: str | None
    device: str
    precision: str


def tower_arguments(encoder: EncoderConfig) -> TowerArguments:
    """What the loaders of serve_app.adapters.open_clip take; a checkpoint in object storage is fetched first, once."""
    model = encoder.model
    if "://" in model:
        try:
            model = "local-dir:" + fetch_folder(model, encoder.cache_dir, encoder.options)
        except PictureNotFound as error:
            raise ModelUnavailable(f"there is no checkpoint at {model}") from error
    return TowerArguments(
        model=model, pretrained=encoder.pretrained, device=encoder.device, precision=encoder.precision
    )
