"""The towers of an OpenCLIP model, run: pixels and texts to unit vectors in float32.

Promises vectors that do not depend on the batch they travelled in. A tower works in two steps, so that on a GPU the next batch is
staged (stacked or tokenised, and uploaded) while the present one is computed. Knows nothing of where models come from, of
batching or Ray.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import open_clip
import torch

from serve_app.adapters.open_clip.activations import fuse_activations, replace_quick_gelu
from serve_app.adapters.open_clip.attention import use_contiguous_attention
from serve_app.adapters.open_clip.branches import merge_branches
from serve_app.adapters.open_clip.cpu_layers import use_cpu_layers
from serve_app.adapters.open_clip.fastest import Fastest, Forward, sizes_up_to, ways_on
from serve_app.adapters.open_clip.hardware import OPEN_CLIP_PRECISIONS
from serve_app.adapters.open_clip.last_block import use_class_token_block
from serve_app.adapters.open_clip.sequence_packing import can_be_packed, encode_packed, packed_texts
from serve_app.adapters.open_clip.trimming import causal_part, cut_to, end_token, groups_of, lengths_of, shortened
from serve_app.adapters.open_clip.uploads import Upload, Uploads
from serve_app.adapters.open_clip.weight_packing import pack_weights
from serve_app.adapters.tokenising import BoundedTokenizer
from serve_app.errors import InternalError
from serve_app.types import Embedding, EncoderCard, ItemFailure, Pixels

# Tokens at which a batch keeps the device busy; beyond, short texts go apart from long ones. A GPU wants few large kernels.
ENOUGH_TOKENS_CPU, ENOUGH_TOKENS_GPU = 128, 8192
# Lengths at which compiled text towers are made: a recorded shape for every length would be too many.
LENGTH_STEP = 16


@dataclass(frozen=True, slots=True)
class StagedPictures:
    """Pixels on the device, uint8 [n, height, width, 3], of the pictures that fit; None where none does."""

    pixels: Any
    fits: Sequence[bool]


@dataclass(frozen=True, slots=True)
class StagedTexts:
    """Tokens on the device, in groups of one length each, or packed: (indices of the texts, their tokens, how to encode them)."""

    groups: Sequence[tuple[Sequence[int], Upload, Forward]]
    lengths: Sequence[int]
    truncated: Sequence[bool]


class OpenClipImageTower:
    """Implements ports.ImageTower and StagedTower. Keeps the image tower of the model, in `card.precision` on `card.device`."""

    def __init__(self, model: Any, card: EncoderCard) -> None:
        self.card = card
        merge_branches(model.visual)
        replace_quick_gelu(model.visual)
        # Pixels come with their channels last; kernels that have them first would be turned for every batch.
        self.module = model.visual.to(card.device, memory_format=torch.channels_last)
        self.uploads = Uploads(card.device)
        self._dtype = open_clip.get_input_dtype(OPEN_CLIP_PRECISIONS[card.precision])
        # For a whole row of pixels: sums over rows of three numbers are slow.
        width = card.preprocessing.width
        self._mean = torch.tensor(card.preprocessing.mean, device=card.device).repeat(width)
        self._std = torch.tensor(card.preprocessing.std, device=card.device).repeat(width)
        self._forward = Fastest(self.module)
        self._packed = False
        use_class_token_block(self.module)
        if card.device == "cpu":
            use_contiguous_attention(self.module)
            use_cpu_layers(self.module)
            wanted = card.preprocessing
            blank = np.zeros((wanted.height, wanted.width, 3), np.uint8)
            self._packed = pack_weights(self.module, lambda: self.encode([blank]))
            if self._packed:
                fuse_activations(self.module)

    @property
    def overlaps(self) -> bool:
        """Whether the next batch is to be staged while the present one is computed."""
        return self.uploads.overlap

    def warm_up(self, max_batch_size: int, wanted: str) -> None:
        """Measure the `wanted` ways to run batches of every size, and keep the fastest of each. See EncoderConfig.compile."""
        size_of = self.card.preprocessing
        with torch.inference_mode():
            batches = (
                torch.rand(size, 3, size_of.height, size_of.width, device=self.card.device).to(
                    self._dtype, memory_format=torch.channels_last
                )
                for size in sizes_up_to(max_batch_size)
            )
            self._forward.warm_up(batches, ways_on(self.card.device, self._packed, wanted), "image tower")

    def encode(self, pictures: Sequence[Pixels]) -> list[Embedding | ItemFailure]:
        """An embedding for each uint8 [height, width, 3] of the card's size; a wrong shape fails alone. Raises InternalError."""
        return self.compute(self.stage(pictures))

    def stage(self, pictures: Sequence[Pixels]) -> StagedPictures:
        """The pictures on the device; on a GPU, on their way there."""
        wanted = (self.card.preprocessing.height, self.card.preprocessing.width, 3)
        fits = [picture.shape == wanted and picture.dtype == np.uint8 for picture in pictures]
        sound = [picture for picture, good in zip(pictures, fits, strict=True) if good]
        return StagedPictures(self.uploads.stack(sound) if sound else None, fits)

    def compute(self, staged: StagedPictures) -> list[Embedding | ItemFailure]:
        """What became of a staged batch. Raises InternalError."""
        embeddings = iter(self._encode(staged.pixels) if staged.pixels is not None else [])
        misfit = ItemFailure(InternalError.code, "the pixels do not have the shape that the encoder takes")
        return [next(embeddings) if good else misfit for good in staged.fits]

    def _encode(self, pixels: Any) -> list[Embedding | ItemFailure]:
        try:
            with torch.inference_mode():
                arrived = self.uploads.arrived(pixels)
                batch = arrived.flatten(2).float().div_(255).sub_(self._mean).div_(self._std).to(self._dtype)
                # The permuted view keeps its channels last, the layout that convolutions like best.
                rows = unit_rows(self._forward(batch.view(arrived.shape).permute(0, 3, 1, 2)))
        except RuntimeError as error:
            raise InternalError("the image encoder failed") from error
        return as_embeddings(rows, self.card)


class OpenClipTextTower:
    """Implements ports.TextTower and StagedTower. Keeps the text tower of the model and its tokeniser.

    In `card.precision` on `card.device`.
    """

    def __init__(self, model: Any, tokenizer: BoundedTokenizer, card: EncoderCard) -> None:
        self.card = card
        for other in ("visual", "text_decoder"):  # text_decoder: CoCa's captioning part
            if hasattr(model, other):
                delattr(model, other)
        self.module = model.to(card.device)
        replace_quick_gelu(self.module)
        use_contiguous_attention(self.module)
        if card.device == "cpu":
            use_cpu_layers(self.module)
        self.uploads = Uploads(card.device)
        self._tokenizer = tokenizer
        part = causal_part(self.module)
        self._end = None if part is None else end_token(part)
        self._packable = part if card.device == "cpu" and part is not None and can_be_packed(part) else None
        self._forwards: dict[int, Fastest] = {}  # by length in tokens
        self._length_step = 1
        self._enough_tokens = ENOUGH_TOKENS_GPU if self.uploads.overlap else ENOUGH_TOKENS_CPU
        self._packed = card.device == "cpu" and pack_weights(self.module, lambda: self.encode(["a few words"]))
        if self._packed:
            fuse_activations(self.module)

    @property
    def overlaps(self) -> bool:
        """Whether the next batch is to be staged while the present one is computed."""
        return self.uploads.overlap

    def warm_up(self, max_batch_size: int, wanted: str) -> None:
        """The same for batches of every size and length."""
        ways = ways_on(self.card.device, self._packed, wanted)
        if not ways or self._packable is not None:  # packed texts have a shape of their own each time
            return
        tokens, _ = self._tokenizer([f"picture {at}" for at in range(max_batch_size)])
        longest = tokens.shape[1]
        self._length_step = LENGTH_STEP
        lengths = [longest] if self._end is None else [*range(LENGTH_STEP, longest, LENGTH_STEP), longest]
        with torch.inference_mode():
            for length in lengths:
                batches = (
                    torch.from_numpy(shortened(tokens[:size], length)).to(self.card.device)
                    for size in sizes_up_to(max_batch_size)
                )
                self._forward_of(length).warm_up(batches, ways, f"text tower at {length} tokens")

    def encode(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        """An embedding for each text; `truncated` where the tower did not read all of it. Raises InternalError."""
        return self.compute(self.stage(texts))

    def stage(self, texts: Sequence[str]) -> StagedTexts:
        """The texts as tokens on the device, packed or grouped by length where the tower allows it."""
        if not texts:
            return StagedTexts([], [], [])
        tokens, truncated = self._tokenizer(texts)
        if self._end is None:
            width = tokens.shape[1]
            whole = (range(len(texts)), self.uploads.one(tokens), self._forward_of(width))
            return StagedTexts([whole], [width] * len(texts), truncated)
        lengths = lengths_of(tokens, self._end)
        if self._packable is not None:
            packed = Upload(packed_texts(tokens, lengths))
            return StagedTexts(
                [(range(len(texts)), packed, partial(encode_packed, self._packable))], lengths, truncated
            )
        groups = []
        for group in groups_of(lengths, self._enough_tokens):
            longest = min(-(-lengths[group[-1]] // self._length_step) * self._length_step, tokens.shape[1])
            rows = self.uploads.one(shortened(tokens[group], longest))
            groups.append((group, rows, self._forward_of(longest)))
        return StagedTexts(groups, lengths, truncated)

    def _forward_of(self, length: int) -> Fastest:
        if length not in self._forwards:
            tower = self.module if self._end is None else cut_to(self.module, length)
            self._forwards[length] = Fastest(tower.encode_text)
        return self._forwards[length]

    def compute(self, staged: StagedTexts) -> list[Embedding | ItemFailure]:
        """What became of a staged batch. Raises InternalError."""
        results: dict[int, Embedding | ItemFailure] = {}
        try:
            with torch.inference_mode():
                for group, tokens, forward in staged.groups:
                    rows = unit_rows(forward(self.uploads.arrived(tokens)))
                    truncated = [staged.truncated[at] for at in group]
                    lengths = [staged.lengths[at] for at in group]
                    results.update(zip(group, as_embeddings(rows, self.card, truncated, lengths), strict=True))
        except RuntimeError as error:
            raise InternalError("the text encoder failed") from error
        return [results[at] for at in range(len(results))]


def unit_rows(features: Any) -> Any:
    """Unit vectors of features [n, dimension], float32; a row without a direction is NaN or zero."""
    # Normalise in float32: norms in half precision reorder close hits.
    return torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()


def as_embeddings(
    rows: Any, card: EncoderCard, truncated: Sequence[bool] | None = None, tokens: Sequence[int] | None = None
) -> list[Embedding | ItemFailure]:
    """Rows of `unit_rows` as embeddings; one without a direction is a failure."""
    # All at once: on a GPU, some calls for each row would take longer than the tower does.
    sound = (np.isfinite(rows).all(axis=1) & rows.any(axis=1)).tolist()
    return [
        Embedding(row.copy(), card.fingerprint, cut, length)
        if good
        else ItemFailure(InternalError.code, "the model gave no finite vector for this item")
        for row, good, cut, length in zip(
            rows, sound, truncated or [False] * len(rows), tokens or [0] * len(rows), strict=True
        )
    ]
