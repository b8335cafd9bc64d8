"""OpenCLIP models, loaded and described: one tower each, with the model's own preprocessing and tokeniser.

Promises weights that were really loaded (no random ones, no remote code), and only one tower in memory. Knows nothing of
batching, Ray, object storage or picture files.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from open_clip import tokenizer as open_clip_tokenizer
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from serve_app.adapters.checkpoint import Checkpoint, fingerprint_of, image_preprocessing
from serve_app.adapters.open_clip.building import Tower, load_tower, release
from serve_app.adapters.open_clip.finding import find
from serve_app.adapters.open_clip.hardware import OPEN_CLIP_PRECISIONS, chosen_device, chosen_precision, compute_in
from serve_app.adapters.open_clip.towers import OpenClipImageTower, OpenClipTextTower
from serve_app.adapters.tokenising import BoundedTokenizer
from serve_app.errors import InternalError, ModelUnavailable
from serve_app.types import EncoderCard, ImagePreprocessing


def load_image_tower(
    *,
    model: str,
    pretrained: str | None = None,
    sha256: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> OpenClipImageTower:
    """The image tower of a model (see EncoderConfig for its names). `threads`: of torch, for all of the process.

    `sha256`: what the file of the weights must have. Raises ModelUnavailable with one sentence.
    """
    loaded, _, card = _load("image", model, pretrained, sha256, device, precision, threads)
    with _as_unavailable(card):
        tower = OpenClipImageTower(loaded, card)
    del loaded  # and with it the map of the other tower
    release()
    return tower


def load_text_tower(
    *,
    model: str,
    pretrained: str | None = None,
    sha256: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    max_tokenised_characters: int = 4_000,
    max_word_characters: int = 64,
) -> OpenClipTextTower:
    """The text tower and tokeniser of a model (see EncoderConfig for its names). `threads`: of torch, for all of the process.

    `sha256`: what the file of the weights must have. Raises ModelUnavailable with one sentence.
    """
    loaded, checkpoint, card = _load("text", model, pretrained, sha256, device, precision, threads)
    try:
        tokenizer = tokenizer_of(checkpoint)
    except Exception as error:
        raise ModelUnavailable(f"the tokeniser of {card.model} cannot be loaded: {_first_line(error)}") from error
    bounded = BoundedTokenizer(
        tokenizer,
        card.context_length,
        max_characters=max_tokenised_characters,
        max_word_characters=max_word_characters,
    )
    with _as_unavailable(card):
        tower = OpenClipTextTower(loaded, bounded, card)
    release()
    return tower


@contextmanager
def _as_unavailable(card: EncoderCard) -> Iterator[None]:
    """Around the making of a tower, which runs it once: a tower that does not run is a model that cannot be used."""
    try:
        yield
    except InternalError as error:
        why = _first_line(error.__cause__ or error)
        raise ModelUnavailable(f"the model {card.model} does not run in {card.precision}: {why}") from error


def tokenizer_of(checkpoint: Checkpoint) -> Any:
    """OpenCLIP's tokeniser of the model, from files of this machine alone. Never runs code that came with them."""
    text_cfg = checkpoint.model_cfg["text_cfg"]
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    if checkpoint.tokenizer_folder is None:
        return sharing_tables(SimpleTokenizer(context_length=checkpoint.context_length, **options))
    return HFTokenizer(
        str(checkpoint.tokenizer_folder),
        context_length=checkpoint.context_length,
        tokenizer_mode=text_cfg.get("tokenizer_mode"),
        trust_remote_code=False,
        local_files_only=True,
        **options,
    )


def sharing_tables(tokenizer: Any) -> Any:
    """The same tokeniser with the tables of the one that OpenCLIP makes for itself, where they are equal: 10 MiB less."""
    known = getattr(open_clip_tokenizer, "_tokenizer", None)
    for name in ("encoder", "decoder", "bpe_ranks"):
        table = getattr(known, name, None)
        if table == getattr(tokenizer, name):
            setattr(tokenizer, name, table)
    return tokenizer


def _load(
    tower: Tower,
    model: str,
    pretrained: str | None,
    sha256: str | None,
    device: str,
    precision: str,
    threads: int | None,
) -> tuple[Any, Checkpoint, EncoderCard]:
    if threads is not None:
        torch.set_num_threads(threads)
    where = chosen_device(device)
    shown = _shown(model, pretrained)
    try:
        checkpoint = find(model, pretrained)
        how = chosen_precision(
            precision, where, sensitive=tower == "image" and loses_in_half_precision(checkpoint.model_cfg)
        )
        compute_in(how, where)
        loaded, scale = load_tower(checkpoint, tower, OPEN_CLIP_PRECISIONS[how], where)
        preprocessing = preprocessing_of(checkpoint, loaded.visual.image_size)
        fingerprint = fingerprint_of(checkpoint, preprocessing, sha256)
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
        logit_scale=scale.scale,
        logit_bias=scale.bias,
    )
    return loaded, checkpoint, card


def preprocessing_of(checkpoint: Checkpoint, image_size: int | tuple[int, int]) -> ImagePreprocessing:
    """OpenCLIP's own values, changed by the checkpoint's; the size is always that of the image tower, in pixels."""
    cfg = merge_preprocess_dict(asdict(PreprocessCfg()), dict(checkpoint.preprocess_cfg))
    return image_preprocessing({**cfg, "size": image_size})


def loses_in_half_precision(model_cfg: Mapping[str, Any]) -> bool:
    """Whether the image tower is a ResNet, OpenCLIP's own (several depths for `layers`) or timm's, or MobileCLIP's FastViT.

    Their many convolutions add up the roundings of bfloat16: with random weights the cosine to float32 is 0.95 and 0.997, where
    transformers and ConvNeXt keep 0.9997 (`make parity PRECISION=bfloat16`).
    """
    vision = model_cfg["vision_cfg"]
    timm_name = vision.get("timm_model_name", "")
    return isinstance(vision.get("layers"), list | tuple) or any(kind in timm_name for kind in ("resnet", "fastvit"))


def _shown(model: str, pretrained: str | None) -> tuple[str, str]:
    """Names for the card, which everybody may read: no folders of this machine."""
    scheme, separator, path = model.partition(":")
    name = f"local-dir:{Path(path).name}" if separator and scheme == "local-dir" else model
    return name, Path(pretrained).name if pretrained else ""


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
