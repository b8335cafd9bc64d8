"""The towers of an OpenCLIP model, run: pixels and texts to unit vectors in float32.

Promises vectors that do not depend on the batch they travelled in. Knows nothing of where models come from, of batching or Ray.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import torch

from serve_app.adapters.tokenising import BoundedTokenizer
from serve_app.errors import InternalError
from serve_app.types import Embedding, EncoderCard, ItemFailure, Pixels

OPEN_CLIP_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


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
