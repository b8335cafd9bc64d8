"""Several texts in one sequence: a causal text tower computes the tokens that there are, each beginning once, and no padding.

Queries have different lengths, and a batch of them is padded to the longest; besides, the attention of a sequence of ten tokens
takes a CPU nearly as long as that of forty. In one sequence each text keeps the positions that it has alone and is blind to the
others, so its vector stays what it was. And as no token knows what comes after it, texts that begin alike share their beginning:
all share the start token, and prompts made from one template most of what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from serve_app.adapters.open_clip.last_block import can_read, read_at
from serve_app.adapters.tokenising import Tokens

# Tokens of a sequence, where no text is longer. With fewer, more is padding and attention is slow; with more, most of what
# attention computes is between texts that must not see each other.
SEQUENCE_TOKENS = 48
ROOT = -1


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """Texts in sequences of one width."""

    tokens: Any
    """int64 [sequences, width], 0 where none is."""
    positions: Any
    """int64 [sequences, width], of each token in its texts."""
    paths: Sequence[Any]
    """For each text its tokens, in order: int64 [length], counted through all sequences."""

    @property
    def ends(self) -> Any:
        """int64 [texts]: the token that each text is read at, counted through all sequences."""
        return np.array([path[-1] for path in self.paths])


@dataclass(slots=True)
class TokenTree:
    """Texts that share beginnings, as one sequence: a token stands after those before it in its texts."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    _next: dict[tuple[int, int], int] = field(default_factory=dict)
    """Where the token stands that comes after another one's place, ROOT for the first, and is this one."""

    def shared(self, text: Sequence[int]) -> int:
        """How many of the text's first tokens stand here already."""
        at = ROOT
        for count, token in enumerate(text):
            found = self._next.get((at, token))
            if found is None:
                return count
            at = found
        return len(text)

    def add(self, text: Sequence[int]) -> list[int]:
        """Where the tokens of the text stand, now at the latest."""
        path: list[int] = []
        at = ROOT
        for position, token in enumerate(text):
            at = self._next.setdefault((at, token), len(self.tokens))
            if at == len(self.tokens):
                self.tokens.append(token)
                self.positions.append(position)
            path.append(at)
        return path


def can_be_packed(part: Any) -> bool:
    """Whether the causal part of a model takes several texts in one sequence: its attention has to take masks for each."""
    return all(can_read(block) for block in part.transformer.resblocks) and not getattr(part, "use_pad_mask", False)


def packed_texts(tokens: Tokens, lengths: Sequence[int]) -> PackedTexts:
    """Rows of tokens, of which the first `lengths` matter, as few sequences."""
    trees, places = in_sequences([row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)])
    # One width for all but a lone sequence: oneDNN generates code for every shape, and keeps it.
    width = max(SEQUENCE_TOKENS, *lengths) if len(trees) > 1 else len(trees[0].tokens)
    packed = PackedTexts(
        np.zeros((len(trees), width), np.int64),
        np.zeros((len(trees), width), np.int64),
        [row * width + np.array(path) for row, path in places],
    )
    for row, tree in enumerate(trees):
        packed.tokens[row, : len(tree.tokens)] = tree.tokens
        packed.positions[row, : len(tree.tokens)] = tree.positions
    return packed


def in_sequences(texts: Sequence[Sequence[int]]) -> tuple[list[TokenTree], list[tuple[int, list[int]]]]:
    """Texts as few sequences, and where each one is: which sequence, and where its tokens stand there.

    The longest first, each into the sequence with room that knows most of it, of equals the first.
    """
    most = max(SEQUENCE_TOKENS, *map(len, texts))
    trees: list[TokenTree] = []
    places: dict[int, tuple[int, list[int]]] = {}
    for number in sorted(range(len(texts)), key=lambda number: len(texts[number]), reverse=True):
        text, chosen, known = texts[number], len(trees), -1
        for row, tree in enumerate(trees):
            shared = tree.shared(text)
            if shared > known and len(tree.tokens) + len(text) - shared <= most:
                chosen, known = row, shared
        if chosen == len(trees):
            trees.append(TokenTree())
        places[number] = chosen, trees[chosen].add(text)
    return trees, [places[number] for number in range(len(texts))]


def encode_packed(part: Any, packed: PackedTexts) -> Any:
    """Features [texts, dimension], as the part's own `encode_text` or `forward` gives them for each text alone."""
    features = _features(part, packed)
    if len(packed.paths) > 1:
        # What is not a number in one text is none in all that share its sequence: nothing times it is none as well.
        for text in (~features.isfinite().all(dim=1)).nonzero().flatten().tolist():
            features[text] = _features(part, _alone(packed, text))
    return features


def _alone(packed: PackedTexts, text: int) -> PackedTexts:
    path = packed.paths[text]
    tokens, positions = (each.flatten()[path][None] for each in (packed.tokens, packed.positions))
    return PackedTexts(tokens, positions, [np.arange(len(path))])


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
    """What is added to scores, [sequences, 1, width, width]: a token sees itself and those before it in its texts."""
    sequences, width = packed.tokens.shape
    seen = np.tile(np.eye(width, dtype=bool), (sequences, 1, 1))  # padding too: attention to nothing is not a number
    for path in packed.paths:
        row, places = path[0] // width, path % width
        seen[row, places[:, None], places] |= np.tri(len(path), dtype=bool)
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(torch.from_numpy(~seen), float("-inf"))[:, None]
