"""The towers of an OpenCLIP model: named, loaded, described and run. The only place of the service that imports torch.

Promises the model's own preprocessing and tokeniser, weights that were really loaded, and unit vectors in float32. Knows
nothing of batching, of Ray, or of picture files: an image tower takes pixels of the size that its card asks for.
"""

import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from serve_app.errors import InternalError, ModelUnavailable
from serve_app.types import Embedding, EncoderCard, ImagePreprocessing, ItemFailure, Pixels

DEMO_MODEL = Path(__file__).parents[1] / "demo" / "model"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What a text tower consists of in `open_clip.CLIP`, which has no submodule for it; other classes have `text`.
_TEXT_PARTS = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection", "attn_mask")
# The tokeniser remembers every word it ever met.
_MAX_REMEMBERED_WORDS = 50_000
_PREPROCESSING_KEYS = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A model by OpenCLIP's own names, the file of its weights, and preprocessing where OpenCLIP would guess it."""

    name: str
    pretrained: str | None
    model_cfg: Mapping[str, Any]
    weights: Path
    preprocessing: Mapping[str, Any] | None = None


class OpenClipImageTower:
    """ports.ImageTower: pixels are normalised on the device with the model's own mean and deviation."""

    def __init__(self, model: Any, card: EncoderCard) -> None:
        self.card = card
        self._runner = _Runner(card)
        for part in ("text", "text_decoder", *_TEXT_PARTS):
            _drop(model, part)
        self._model = model.to(card.device)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(card.preprocessing.mean, device=card.device).view(shape)
        self._std = torch.tensor(card.preprocessing.std, device=card.device).view(shape)

    def encode(self, pictures: Sequence[Pixels]) -> list[Embedding | ItemFailure]:
        """An embedding for each uint8 [height, width, 3] of the card's size; a wrong shape fails alone."""
        wanted = (self.card.preprocessing.height, self.card.preprocessing.width, 3)
        good = [picture for picture in pictures if picture.shape == wanted and picture.dtype == np.uint8]
        vectors = iter(self._runner.run(self._forward, np.stack(good)) if good else [])
        return [
            next(vectors)
            if picture.shape == wanted and picture.dtype == np.uint8
            else ItemFailure(InternalError.code, f"pixels have the shape {picture.shape}, the model wants {wanted}")
            for picture in pictures
        ]

    def _forward(self, pixels: Pixels) -> torch.Tensor:
        batch = torch.from_numpy(pixels).to(self.card.device).permute(0, 3, 1, 2).float()
        features: torch.Tensor = self._model.encode_image((batch / 255.0 - self._mean) / self._std)
        return features


class OpenClipTextTower:
    """ports.TextTower: bounded before it is tokenised, with the model's own tokeniser."""

    def __init__(
        self, model: Any, tokenizer: Any, card: EncoderCard, *, max_tokenised_characters: int, max_word_characters: int
    ) -> None:
        self.card = card
        self._runner = _Runner(card)
        _drop(model, "visual")
        self._model = model.to(card.device)
        self._tokenizer = tokenizer
        self._max_characters = max_tokenised_characters
        self._long_word = re.compile(rf"(\S{{{max_word_characters}}})\S+")
        self._special = re.compile("|".join(map(re.escape, _special_tokens(tokenizer))), re.IGNORECASE)

    def encode(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        """An embedding for each text; `truncated` where the tower did not read all of it."""
        bounded = [self._bounded(text) for text in texts]
        cut = [was_cut or self._is_too_long(text) for text, was_cut in bounded]
        return self._runner.run(self._forward, [text for text, _ in bounded], cut)

    def _bounded(self, text: str) -> tuple[str, bool]:
        """The text as the tokeniser may have it, and whether something was cut.

        A tag such as <end_of_text> in a user's text would be a real token and hide what follows. Cleaning comes first: it
        is what turns &lt;end_of_text&gt; into one. Its own work may not grow without bound either.
        """
        short = text[: self._max_characters]
        words = self._long_word.sub(r"\1", short)
        clean = self._tokenizer.clean_fn(html.unescape(html.unescape(words)))
        harmless = self._special.sub(lambda tag: f"{tag.group()[:1]} {tag.group()[1:]}", clean)
        return self._long_word.sub(r"\1", harmless), len(words) < len(text)

    def _is_too_long(self, text: str) -> bool:
        if hasattr(self._tokenizer, "encode"):
            return len(self._tokenizer.encode(text)) + 2 > self.card.context_length
        return len(self._tokenizer.tokenizer(text, truncation=False)["input_ids"]) > self.card.context_length

    def _forward(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = self._tokenizer(list(texts)).to(self.card.device)
        remembered = getattr(self._tokenizer, "cache", None)
        if remembered is not None and len(remembered) > _MAX_REMEMBERED_WORDS:
            for word in list(remembered)[: len(remembered) // 2]:
                if word not in self._tokenizer.encoder:
                    del remembered[word]
        features: torch.Tensor = self._model.encode_text(tokens)
        return features


class _Runner:
    """Runs a tower in its precision and makes unit vectors of what comes out."""

    def __init__(self, card: EncoderCard) -> None:
        self._card = card

    def run(self, forward: Any, batch: Any, cut: Sequence[bool] | None = None) -> list[Embedding | ItemFailure]:
        low = self._card.precision != "float32"
        with torch.inference_mode(), torch.autocast(self._card.device, _DTYPES[self._card.precision], enabled=low):
            features = forward(batch)
        # Normalise in float32: norms in half precision reorder close hits.
        features = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
        flags = cut or [False] * len(features)
        return [
            Embedding(vector.copy(), self._card.fingerprint, truncated)
            if np.isfinite(vector).all() and vector.any()
            else ItemFailure(InternalError.code, "the model gave no finite vector for this item")
            for vector, truncated in zip(features, flags, strict=True)
        ]


def load_image_tower(
    *, model: str, pretrained: str | None = None, device: str = "auto", precision: str = "auto"
) -> OpenClipImageTower:
    """The image tower of a model (see EncoderConfig for its names). Raises ModelUnavailable."""
    loaded, _, card = _load(model, pretrained, device, precision)
    return OpenClipImageTower(loaded, card)


def load_text_tower(
    *,
    model: str,
    pretrained: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_tokenised_characters: int = 4_000,
    max_word_characters: int = 64,
) -> OpenClipTextTower:
    """The text tower and tokeniser of a model (see EncoderConfig for its names). Raises ModelUnavailable."""
    loaded, tokenizer, card = _load(model, pretrained, device, precision)
    return OpenClipTextTower(
        loaded,
        tokenizer,
        card,
        max_tokenised_characters=max_tokenised_characters,
        max_word_characters=max_word_characters,
    )


def _load(model: str, pretrained: str | None, device: str, precision: str) -> tuple[Any, Any, EncoderCard]:
    try:
        checkpoint = _find(f"local-dir:{DEMO_MODEL}" if model == "demo" else model, pretrained)
        loaded = open_clip.create_model(
            checkpoint.name,
            pretrained=checkpoint.pretrained,
            force_preprocess_cfg=dict(checkpoint.preprocessing) if checkpoint.preprocessing else None,
            require_pretrained=True,  # else a missing file means random weights and a log line
            weights_only=True,
        ).eval()
        tokenizer = open_clip.get_tokenizer(checkpoint.name)
    except ModelUnavailable:
        raise
    except Exception as error:
        named = model if pretrained is None else f"{model} ({pretrained})"
        raise ModelUnavailable(f"the model {named} cannot be loaded: {str(error).splitlines()[0][:300]}") from error
    preprocessing = _preprocessing(open_clip.get_model_preprocess_cfg(loaded))
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    card = EncoderCard(
        model=model,
        pretrained=pretrained or "",
        fingerprint=_fingerprint(checkpoint, preprocessing, tokenizer),
        dimension=int(checkpoint.model_cfg["embed_dim"]),
        context_length=int(tokenizer.context_length),
        preprocessing=preprocessing,
        device=where,
        precision=_precision(precision, where),
    )
    return loaded, tokenizer, card


def _find(model: str, pretrained: str | None) -> _Checkpoint:
    if model.startswith("local-dir:"):
        return _in_folder(model, Path(model.removeprefix("local-dir:")))
    if model.startswith("hf-hub:"):
        repository = model.removeprefix("hf-hub:")
        config = json.loads(Path(download_pretrained_from_hf(repository, filename="open_clip_config.json")).read_text())
        return _Checkpoint(model, None, config["model_cfg"], Path(download_pretrained_from_hf(repository)))
    config = open_clip.get_model_config(model)
    if config is None:
        raise ModelUnavailable(f"OpenCLIP knows no architecture {model!r}")
    if pretrained is None:
        raise ModelUnavailable(f"{model} needs `pretrained`: a tag of OpenCLIP or the path of a checkpoint")
    tagged = get_pretrained_cfg(model, pretrained)
    if tagged:
        return _Checkpoint(model, pretrained, config, Path(download_pretrained(tagged)))
    file = Path(pretrained)
    if not file.is_file():
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ModelUnavailable(f"{pretrained!r} is neither a file nor a tag of {model}; its tags are: {known}")
    return _Checkpoint(model, pretrained, config, file, _preprocessing_of_file(model, file))


def _in_folder(name: str, folder: Path) -> _Checkpoint:
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    files = sorted(folder.glob("*.safetensors")) or sorted([*folder.glob("*.bin"), *folder.glob("*.pth")])
    if len(files) != 1:
        raise ModelUnavailable(f"the folder of the model holds {len(files)} checkpoints instead of one")
    if "preprocess_cfg" not in config:
        raise ModelUnavailable("the open_clip_config.json of the model has no preprocess_cfg")
    return _Checkpoint(name, None, config["model_cfg"], files[0])


def _preprocessing_of_file(model: str, file: Path) -> Mapping[str, Any]:
    """How pictures are prepared for a bare checkpoint, for which OpenCLIP would silently take OpenAI's values.

    From an open_clip_config.json beside it, else from the tags of the architecture if they all agree.
    """
    beside = file.with_name("open_clip_config.json")
    if beside.is_file():
        given: Mapping[str, Any] = json.loads(beside.read_text(encoding="utf-8"))["preprocess_cfg"]
        return given
    tags = [get_pretrained_cfg(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)]
    ways = {json.dumps({key: tag.get(key) for key in _PREPROCESSING_KEYS}) for tag in tags}
    if len(ways) != 1:
        raise ModelUnavailable(
            f"the checkpoint of {model} does not say how pictures are prepared: put its open_clip_config.json beside it"
        )
    agreed: Mapping[str, Any] = {key: value for key, value in json.loads(ways.pop()).items() if value is not None}
    return agreed


def _preprocessing(cfg: Mapping[str, Any]) -> ImagePreprocessing:
    size = cfg["size"]
    height, width = (size, size) if isinstance(size, int) else size
    fill = cfg.get("fill_color", 0)
    return ImagePreprocessing(
        height=int(height),
        width=int(width),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation=cfg["interpolation"],
        resize_mode=cfg["resize_mode"],
        fill_color=int(fill if isinstance(fill, int) else fill[0]),
    )


def _fingerprint(checkpoint: _Checkpoint, preprocessing: ImagePreprocessing, tokenizer: Any) -> str:
    with checkpoint.weights.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    identity = {
        "architecture": checkpoint.model_cfg,
        "preprocessing": asdict(preprocessing),
        "tokenizer": [type(tokenizer).__name__, int(tokenizer.context_length)],
        "weights": weights,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def _precision(wanted: str, device: str) -> str:
    if wanted != "auto":
        return wanted
    return "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def _special_tokens(tokenizer: Any) -> list[str]:
    if hasattr(tokenizer, "decoder"):
        return [tokenizer.decoder[token] for token in tokenizer.all_special_ids]
    return list(tokenizer.tokenizer.all_special_tokens)


def _drop(model: Any, part: str) -> None:
    """Free a part of the model that this replica does not run."""
    if hasattr(model, part):
        delattr(model, part)
