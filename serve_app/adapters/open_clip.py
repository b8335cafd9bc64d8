"""The towers of an OpenCLIP model: found by name, loaded, described and run. The only place of the service that imports torch.

Promises the model's own preprocessing and tokeniser, weights that were really loaded (no random ones, no remote code), only one
tower in memory, and unit vectors in float32. Knows nothing of batching, Ray, object storage or picture files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.factory import _find_checkpoint_in_dir as find_weights
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from serve_app.adapters.checkpoint import CONFIG_NAME, Checkpoint, fingerprint_of, image_preprocessing, read_config
from serve_app.adapters.tokenising import BoundedTokenizer
from serve_app.errors import InternalError, ModelUnavailable
from serve_app.types import Embedding, EncoderCard, ItemFailure, Pixels

DEMO_MODEL = Path(__file__).parents[1] / "demo" / "model"
OPEN_CLIP_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
WAYS = ("mean", "std", "interpolation", "resize_mode")


class OpenClipImageTower:
    """Implements ports.ImageTower. Keeps the image tower of the model, in `card.precision` on `card.device`."""

    def __init__(self, model: Any, card: EncoderCard) -> None:
        self.card = card
        self.module = model.visual.to(card.device)
        self._dtype = open_clip.get_input_dtype(OPEN_CLIP_PRECISIONS[card.precision])
        self._mean = torch.tensor(card.preprocessing.mean, device=card.device).view(1, 3, 1, 1)
        self._std = torch.tensor(card.preprocessing.std, device=card.device).view(1, 3, 1, 1)

    def encode(self, pictures: Sequence[Pixels]) -> list[Embedding | ItemFailure]:
        """An embedding for each uint8 [height, width, 3] of the card's size; a wrong shape fails alone. Raises InternalError."""
        wanted = (self.card.preprocessing.height, self.card.preprocessing.width, 3)
        fits = [picture.shape == wanted and picture.dtype == np.uint8 for picture in pictures]
        sound = [picture for picture, good in zip(pictures, fits, strict=True) if good]
        embeddings = iter(self._encode(np.stack(sound)) if sound else [])
        misfit = ItemFailure(InternalError.code, f"the encoder takes uint8 pixels of the shape {wanted}")
        return [next(embeddings) if good else misfit for good in fits]

    def _encode(self, pixels: Pixels) -> list[Embedding | ItemFailure]:
        try:
            with torch.inference_mode():
                batch = torch.from_numpy(pixels).to(self.card.device).permute(0, 3, 1, 2).float().div_(255)
                features = self.module(batch.sub_(self._mean).div_(self._std).to(self._dtype))
                return as_embeddings(features, self.card, [False] * len(pixels))
        except RuntimeError as error:
            raise InternalError("the image encoder failed") from error


class OpenClipTextTower:
    """Implements ports.TextTower. Keeps the text tower of the model, in `card.precision` on `card.device`, and its tokeniser."""

    def __init__(self, model: Any, tokenizer: BoundedTokenizer, card: EncoderCard) -> None:
        self.card = card
        for other in ("visual", "text_decoder"):  # text_decoder: CoCa's captioning part
            if hasattr(model, other):
                delattr(model, other)
        self.module = model.to(card.device)
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        """An embedding for each text; `truncated` where the tower did not read all of it. Raises InternalError."""
        if not texts:
            return []
        tokens, truncated = self._tokenizer(texts)
        try:
            with torch.inference_mode():
                features = self.module.encode_text(torch.from_numpy(tokens).to(self.card.device))
                return as_embeddings(features, self.card, truncated)
        except RuntimeError as error:
            raise InternalError("the text encoder failed") from error


def as_embeddings(features: Any, card: EncoderCard, truncated: Sequence[bool]) -> list[Embedding | ItemFailure]:
    """Unit vectors of a tower's features [n, dimension]; a row without a direction fails alone."""
    pooled = features[0] if isinstance(features, tuple) else features  # CoCa's towers give their tokens as well
    # Normalise in float32: norms in half precision reorder close hits.
    rows = torch.nn.functional.normalize(pooled.float(), dim=-1).cpu().numpy()
    failure = ItemFailure(InternalError.code, "the model gave no finite vector for this item")
    return [
        Embedding(row.copy(), card.fingerprint, cut) if np.isfinite(row).all() and row.any() else failure
        for row, cut in zip(rows, truncated, strict=True)
    ]


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
    where = _device(device)
    how = _precision(precision, where)
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


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailable(f"the device {wanted} is asked for, and this process has no GPU")
    return wanted


def _precision(wanted: str, device: str) -> str:
    if wanted == "auto":
        return (
            "bfloat16"
            if device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
            else "float32"
        )
    if wanted not in OPEN_CLIP_PRECISIONS:
        raise ModelUnavailable(f"there is no precision {wanted!r}; there are {', '.join(OPEN_CLIP_PRECISIONS)}")
    return wanted


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
