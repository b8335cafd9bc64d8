"""A user's text to tokens: bounded before it costs, and unable to speak the tokeniser's own language. Knows no model, no torch.

OpenCLIP's tokeniser takes time that grows with the square of a word's length (13 s for 40,000 letters), remembers every word it
ever met, and takes "<end_of_text>" in a text for the end of the text. None of that may be up to a user.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
"""Shape [texts, context_length]."""

# What OpenCLIP's tokeniser sees as one word: a run of letters, or of what is neither letter, digit nor space.
RUN = re.compile(r"[^\W\d_]+|(?:[^\w\s]|_)+")
MAX_REMEMBERED_WORDS = 50_000


class BoundedTokenizer:
    """Wraps a tokeniser of OpenCLIP (Simple, HF or SigLip), which it changes: use it for nothing else."""

    def __init__(self, tokenizer: Any, context_length: int, *, max_characters: int, max_word_characters: int) -> None:
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._max_characters = max_characters
        self._max_word_characters = max_word_characters
        self._remembered = dict(getattr(tokenizer, "cache", {}))
        # SigLipTokenizer has no clean_fn and needs none: it removes the punctuation that special tokens are made of.
        if hasattr(tokenizer, "clean_fn"):
            tokenizer.clean_fn = defusing(tokenizer.clean_fn, special_tokens(tokenizer))

    def __call__(self, texts: Sequence[str]) -> tuple[Tokens, list[bool]]:
        """Tokens, and for each text whether anything of it was cut."""
        bounded = [bound(text, self._max_characters, self._max_word_characters) for text in texts]
        tokens, too_long = self._tokenise([text for text, _ in bounded])
        return tokens, [was_cut or long for (_, was_cut), long in zip(bounded, too_long, strict=True)]

    def _tokenise(self, texts: Sequence[str]) -> tuple[Tokens, list[bool]]:
        if hasattr(self._tokenizer, "encode") and self._tokenizer.reduction_fn is None:
            return self._tokenise_simply(texts)
        tokens = np.asarray(self._tokenizer(list(texts), context_length=self._context_length), dtype=np.int64)
        return tokens, [length > self._context_length for length in self._lengths(texts)]

    def _tokenise_simply(self, texts: Sequence[str]) -> tuple[Tokens, list[bool]]:
        """What SimpleTokenizer.__call__ does; done here because there the lengths are lost."""
        if len(self._tokenizer.cache) > MAX_REMEMBERED_WORDS:
            self._tokenizer.cache = dict(self._remembered)
        begin, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        tokens = np.zeros((len(texts), self._context_length), dtype=np.int64)
        too_long = []
        for row, text in zip(tokens, texts, strict=True):
            words = self._tokenizer.encode(text)
            kept = [begin, *words[: self._context_length - 2], end]
            row[: len(kept)] = kept
            too_long.append(len(words) > self._context_length - 2)
        return tokens, too_long

    def _lengths(self, texts: Sequence[str]) -> Iterator[int]:
        """Tokens of each text, uncut."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        for text in texts:
            if inner is None:
                yield len(self._tokenizer.encode(text)) + 2
                continue
            clean = self._tokenizer.clean_fn(text) if hasattr(self._tokenizer, "clean_fn") else text
            # "clips" adds its three tokens by itself, after the tokeniser.
            own = 3 if getattr(self._tokenizer, "tokenizer_mode", "") == "clips" else 0
            yield len(inner(clean, truncation=False, add_special_tokens=not own)["input_ids"]) + own


def bound(text: str, max_characters: int, max_word_characters: int) -> tuple[str, bool]:
    """The first characters of a text, with long words cut, and whether anything was lost."""
    # Half a surrogate pair, which JSON can carry, is no character; the tokeniser would fail on it.
    sound = text[:max_characters].encode("utf-8", "replace").decode("utf-8")
    short = RUN.sub(lambda run: run.group()[:max_word_characters], sound)
    return short, len(short) < len(text)


def defusing(clean: Callable[[str], str], special: Sequence[str]) -> Callable[[str], str]:
    """Clean, then break what would be a special token: "<end_of_text>" becomes "< end_of_text>".

    In this order, because cleaning is what makes one of "&lt;end_of_text&gt;", and of full-width brackets.
    """
    if not special:
        return clean
    longest_first = sorted(special, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)
    return lambda text: pattern.sub(lambda found: f"{found.group()[0]} {found.group()[1:]}", clean(text))


def special_tokens(tokenizer: Any) -> list[str]:
    """The strings that the tokeniser takes for more than text."""
    if hasattr(tokenizer, "decoder"):
        found = [tokenizer.decoder[token] for token in tokenizer.all_special_ids]
    else:
        found = list(tokenizer.tokenizer.all_special_tokens)
    return [token for token in found if len(token) > 1]
