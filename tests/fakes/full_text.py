"""BM25 in a few lines, for the table in memory: words of letters and digits, case folded; phrases in double quotes."""

import math
import re
from collections.abc import Sequence

_K1, _B = 1.2, 0.75


def bm25(query: str, texts: Sequence[str]) -> list[float | None]:
    """The score of each text; None for one that holds no word of the query, or not every phrase of it."""
    phrases = [words_of(phrase) for phrase in re.findall(r'"([^"]*)"', query) if words_of(phrase)]
    wanted = set(words_of(query))
    documents = [words_of(text) for text in texts]
    mean_length = sum(map(len, documents)) / max(len(documents), 1)
    rarity = {word: _rarity(sum(word in words for words in documents), len(documents)) for word in wanted}

    def score(words: list[str]) -> float | None:
        if not wanted.intersection(words) or not all(_holds(words, phrase) for phrase in phrases):
            return None
        longer = _K1 * (1 - _B + _B * len(words) / mean_length)
        counts = {word: words.count(word) for word in wanted}
        return sum(rarity[word] * count * (_K1 + 1) / (count + longer) for word, count in counts.items())

    return [score(words) for words in documents]


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _rarity(holding: int, total: int) -> float:
    return math.log(1 + (total - holding + 0.5) / (holding + 0.5))


def _holds(words: Sequence[str], phrase: Sequence[str]) -> bool:
    starts = range(len(words) - len(phrase) + 1)
    return any(list(words[at : at + len(phrase)]) == list(phrase) for at in starts)
