"""Text towers at the length of their texts, not of their context.

A causal tower that is read at the end token cannot see what comes after it, so a batch is cut to its longest text: the same
vectors for a fraction of the work (a query of ten words has 12 of 77 tokens). Towers that read both ways, or that put a token of
their own at the end, keep their padding. On a CPU most texts are not cut to the longest but packed (see sequence_packing).
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transformer import TextTransformer

from serve_app.adapters.tokenising import Tokens


def causal_part(model: Any) -> Any:
    """The module of an OpenCLIP model whose texts may be cut, or None where cutting would change the vectors."""
    part = model if isinstance(model, open_clip.CLIP) else getattr(model, "text", None)
    if not isinstance(part, (open_clip.CLIP, TextTransformer)) or part.attn_mask is None:
        return None
    return None if getattr(part, "cls_emb", None) is not None or end_token(part) is None else part


def end_token(part: Any) -> str | int | None:
    """How the tower finds the token that it is read at: "highest" or an id; None where it reads otherwise."""
    pool = getattr(part, "text_pool_type", None) or getattr(part, "pool_type", None)
    if pool == "argmax":
        return "highest"
    return int(getattr(part, "text_eos_id", None) or part.eos_id) if pool == "eos" else None


def lengths_of(tokens: Tokens, end: str | int) -> list[int]:
    """How many tokens of each row matter: up to the one that the tower is read at."""
    found = tokens.argmax(axis=1) if end == "highest" else (tokens == end).argmax(axis=1)
    return [int(at) + 1 for at in found]


def groups_of(lengths: Sequence[int], enough_tokens: int) -> list[list[int]]:
    """Indices of texts that go through the tower together, short ones apart from long ones.

    A group takes longer texts only until it has `enough_tokens` (texts x longest), the size at which the device is busy.
    """
    groups: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        group = groups[-1] if groups else []
        if not group or (len(group) * lengths[group[-1]] >= enough_tokens and lengths[at] > lengths[group[-1]]):
            groups.append([at])
        else:
            group.append(at)
    return groups


def cut_to(model: Any, length: int) -> Any:
    """The model as OpenCLIP made it, for texts of this many tokens: a copy that shares every weight, with fewer positions."""
    whole = causal_part(model)
    part = copy(whole)
    part._parameters = dict(part._parameters)
    part._buffers = dict(part._buffers)
    part.positional_embedding = torch.nn.Parameter(whole.positional_embedding[:length], requires_grad=False)
    part.attn_mask = whole.attn_mask[:length, :length]
    if whole is model:
        return part
    shorter = copy(model)
    shorter._modules = {**model._modules, "text": part}
    return shorter


def shortened(tokens: Tokens, length: int) -> Tokens:
    """The first tokens of each row, as one block."""
    return np.ascontiguousarray(tokens[:, :length])
