"""A checkpoint of an OpenCLIP model as files: what it is, how it wants its pictures, and its fingerprint. Knows no torch.

Two checkpoints with the same architecture, weights, preprocessing and tokeniser have the same fingerprint, wherever they lie and
however they run.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serve_app.errors import ModelUnavailable
from serve_app.types import ImagePreprocessing

CONFIG_NAME = "open_clip_config.json"
CONTEXT_LENGTH = 77  # OpenCLIP's own, where a config names none
# .npz is NumPy's, and a TorchScript archive is code: neither is safetensors nor readable with `weights_only`.
WEIGHT_SUFFIXES = frozenset({".safetensors", ".pt", ".pth", ".bin", ".ckpt"})
# OpenCLIP's order of choice in a folder; of other names it takes the first safetensors, then the first of the others.
PREFERRED_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
TOKENIZER_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "special_tokens_map.json")
TEXT_CONFIG_NAME = "config.json"  # of a text tower of `transformers`


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as files of this machine. Raises ModelUnavailable for weights that would be read as code, or not at all."""

    model_cfg: Mapping[str, Any]
    weights: Path
    preprocess_cfg: Mapping[str, Any]
    """What differs from OpenCLIP's own values, of the keys mean, std, interpolation, resize_mode, fill_color."""
    tokenizer_folder: Path | None = None
    """Holds the tokeniser's files, where the model does not use OpenCLIP's own tokeniser."""
    text_config_folder: Path | None = None
    """Holds the config.json of the text tower, where that is one of `transformers`."""

    def __post_init__(self) -> None:
        if self.weights.suffix not in WEIGHT_SUFFIXES:
            raise ModelUnavailable(
                f"weights in a {self.weights.suffix or 'nameless'} file are not read: use safetensors"
            )
        if not all(isinstance(self.model_cfg.get(key), dict) for key in ("vision_cfg", "text_cfg")):
            raise ModelUnavailable(f"the {CONFIG_NAME} of the model describes no pair of towers")

    @property
    def dimension(self) -> int:
        return int(self.model_cfg["embed_dim"])

    @property
    def context_length(self) -> int:
        """In tokens."""
        return int(self.model_cfg["text_cfg"].get("context_length", CONTEXT_LENGTH))


def read_config(folder: Path) -> dict[str, Any]:
    """The open_clip_config.json of a folder. Raises ModelUnavailable, naming what is missing."""
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"the folder of the model has no readable {CONFIG_NAME}") from error
    for key in ("model_cfg", "preprocess_cfg"):
        if not isinstance(config, dict) or not isinstance(config.get(key), dict):
            raise ModelUnavailable(f"the {CONFIG_NAME} of the model has no {key}")
    return dict(config)


def weights_among(names: Iterable[str]) -> str | None:
    """The file of a folder that OpenCLIP would load, of the names that lie in it."""
    found = sorted(name for name in names if Path(name).suffix in {".safetensors", ".bin", ".pth"})
    preferred = [name for name in PREFERRED_WEIGHTS if name in found]
    return next(iter([*preferred, *(name for name in found if name.endswith(".safetensors")), *found]), None)


def image_preprocessing(cfg: Mapping[str, Any]) -> ImagePreprocessing:
    """OpenCLIP's `preprocess_cfg` as the value that travels. A single number stands for all sides or channels."""
    size = cfg["size"]
    height, width = (size, size) if isinstance(size, int) else size
    fill = cfg.get("fill_color", 0)
    return ImagePreprocessing(
        height=int(height),
        width=int(width),
        mean=_per_channel(cfg["mean"]),
        std=_per_channel(cfg["std"]),
        # "random" is of the training; OpenCLIP's inference takes it as bicubic.
        interpolation="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
        resize_mode=str(cfg["resize_mode"]),
        fill_color=int(fill if isinstance(fill, int | float) else fill[0]),
    )


def fingerprint_of(checkpoint: Checkpoint, preprocessing: ImagePreprocessing, sha256: str | None = None) -> str:
    """SHA-256 (hex) over canonical JSON of the architecture, the weights' own SHA-256, the preprocessing and the tokeniser.

    `sha256`: what the weights must have (hex). Raises ModelUnavailable where they have another.
    """
    identity = {
        "architecture": checkpoint.model_cfg,
        "preprocessing": asdict(preprocessing),
        "tokenizer": _tokenizer_identity(checkpoint),
        "weights": checked_sha256(checkpoint.weights, sha256),
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def checked_sha256(file: Path, wanted: str | None) -> str:
    """The SHA-256 of a file (hex). Raises ModelUnavailable where another is wanted."""
    digest = _sha256_of(file)
    if wanted is not None and digest != wanted.lower():
        raise ModelUnavailable(f"the weights have the SHA-256 {digest}, and `sha256` asks for {wanted.lower()}")
    return digest


def _tokenizer_identity(checkpoint: Checkpoint) -> dict[str, Any]:
    text_cfg = checkpoint.model_cfg["text_cfg"]
    keys = ("hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs")
    files: dict[str, str] = {}
    if checkpoint.tokenizer_folder is not None and text_cfg.get("hf_tokenizer_name"):
        found = {file for pattern in TOKENIZER_FILES for file in checkpoint.tokenizer_folder.glob(pattern)}
        files = {file.name: _sha256_of(file) for file in found if file.is_file()}
    return {**{key: text_cfg.get(key) for key in keys}, "context_length": checkpoint.context_length, "files": files}


def _sha256_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _per_channel(value: Any) -> tuple[float, float, float]:
    red, green, blue = (value,) * 3 if isinstance(value, int | float) else value
    return float(red), float(green), float(blue)
