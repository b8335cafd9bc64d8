"""Several texts in one sequence, end to end: a causal text tower computes the tokens that there are, and no padding.

Queries have different lengths, and a batch of them is padded to the longest; besides, the attention of a sequence of ten tokens
takes a CPU nearly as long as that of forty. Put end to end, each text keeps the positions that it has alone and is blind to the
others, so its vector stays what it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from serve_app.adapters.open_clip.last_block import can_read, read_at
from serve_app.adapters.tokenising import Tokens

# Tokens of a sequence, where no text is longer. With fewer, more is padding and attention is slow; with more, most of what
# attention computes is between texts that must not see each other.
SEQUENCE_TOKENS = 48
PADDING = -1


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """Texts in sequences of one width. Arrays are int64 [sequences, width], but for `ends`."""

    tokens: Any
    positions: Any
    """Of a token in its text."""
    texts: Any
    """Which text a token is of; PADDING where it is of none."""
    ends: Any
    """[texts]: the token that each text is read at, counted through all sequences."""


def can_be_packed(part: Any) -> bool:
    """Whether the causal part of a model takes several texts in one sequence: its attention has to take masks for each."""
    return all(can_read(block) for block in part.transformer.resblocks) and not getattr(part, "use_pad_mask", False)


def packed_texts(tokens: Tokens, lengths: Sequence[int]) -> PackedTexts:
    """Rows of tokens, of which the first `lengths` matter, as few sequences."""
    sequences = in_sequences(lengths)
    # One width for all but a lone sequence: oneDNN generates code for every shape, and keeps it.
    width = max(SEQUENCE_TOKENS, *lengths) if len(sequences) > 1 else sum(lengths)
    shape = (len(sequences), width)
    packed = PackedTexts(
        np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, PADDING), np.zeros(len(lengths), np.int64)
    )
    for row, sequence in enumerate(sequences):
        begin = 0
        for text in sequence:
            end = begin + lengths[text]
            packed.tokens[row, begin:end] = tokens[text, : lengths[text]]
            packed.positions[row, begin:end] = np.arange(lengths[text])
            packed.texts[row, begin:end] = text
            packed.ends[text] = row * width + end - 1
            begin = end
    return packed


def in_sequences(lengths: Sequence[int]) -> list[list[int]]:
    """Which texts share a sequence, by first fit, the longest first."""
    room_at_first = max(SEQUENCE_TOKENS, *lengths)
    sequences: list[list[int]] = []
    room: list[int] = []
    for text in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        at = next((at for at, left in enumerate(room) if left >= lengths[text]), len(sequences))
        if at == len(sequences):
            sequences.append([])
            room.append(room_at_first)
        sequences[at].append(text)
        room[at] -= lengths[text]
    return sequences


def encode_packed(part: Any, packed: PackedTexts) -> Any:
    """Features [texts, dimension], as the part's own `encode_text` or `forward` gives them for each text alone."""
    features = _features(part, packed)
    if len(packed.ends) > 1:
        # What is not a number in one text is none in all that share its sequence: nothing times it is none as well.
        for text in (~features.isfinite().all(dim=1)).nonzero().flatten().tolist():
            features[text] = _features(part, _alone(packed, text))
    return features


def _alone(packed: PackedTexts, text: int) -> PackedTexts:
    of_it = packed.texts == text
    tokens, positions, texts = (each[of_it][None] for each in (packed.tokens, packed.positions, packed.texts))
    return PackedTexts(tokens, positions, texts, np.array([tokens.size - 1]))


def _features(part: Any, packed: PackedTexts) -> Any:
    dtype = part.transformer.get_cast_dtype()
    tokens, positions, ends = (torch.from_numpy(each) for each in (packed.tokens, packed.positions, packed.ends))
    features = part.token_embedding(tokens).to(dtype) + part.positional_embedding[positions].to(dtype)
    mask = mask_of(packed, dtype)
    *blocks, last = part.transformer.resblocks
    for block in blocks:
        features = block(features, attn_mask=mask)
    features = part.ln_final(read_at(last, features, ends, mask))
    projection = part.text_projection
    if projection is None:
        return features
    return projection(features) if isinstance(projection, torch.nn.Module) else features @ projection


def mask_of(packed: PackedTexts, dtype: torch.dtype) -> Any:
    """What is added to scores, [sequences, 1, width, width]: a token sees those of its text up to itself."""
    width = packed.texts.shape[1]
    seen = (packed.texts[:, :, None] == packed.texts[:, None, :]) & np.tri(width, dtype=bool)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(torch.from_numpy(~seen), float("-inf"))[:, None]
