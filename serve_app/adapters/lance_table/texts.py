"""Full text in LanceDB: what a user types as a structured query, never as a query language; and the index of it."""

import re
from itertools import islice
from typing import Any

import lancedb
from lancedb import query as lance_query
from lancedb.index import FTS
from lancedb.query import FullTextQuery, Occur

from serve_app.adapters.lance_table.fields import make_index
from serve_app.types import TextIndexSpec

COLUMN = "text"
# Time grows with both: over 20,000 texts 1,000 words took 0.2 s, 10,000 words 2 s, and 5,000 phrases 75 s.
MAX_CHARACTERS = 2048
MAX_PHRASES = 8
_QUOTED = re.compile(r'"([^"]*)"')
# `icu` alone leaves "harbour's" in one piece.
_TOKENIZERS = {"icu": "icu/split"}
# Their defaults are pydantic's, which mypy takes for missing arguments.
_Match: Any = lance_query.MatchQuery
_Phrase: Any = lance_query.PhraseQuery


def words_query(text: str) -> FullTextQuery | None:
    """Any of the words, and all of the phrases in double quotes; None where there is no letter or digit to look for.

    Only the first MAX_CHARACTERS are looked at, and of more than MAX_PHRASES the rest are words.
    """
    asked = text[:MAX_CHARACTERS]
    phrases = [found[1] for found in islice(_QUOTED.finditer(asked), MAX_PHRASES) if _has_words(found[1])]
    words = _QUOTED.sub(" ", asked, count=MAX_PHRASES)
    parts: list[tuple[Occur, FullTextQuery]] = [(Occur.MUST, _Phrase(phrase, COLUMN)) for phrase in phrases]
    if _has_words(words):
        parts.append((Occur.SHOULD, _Match(words, COLUMN)))
    if not parts:
        return None
    return parts[0][1] if len(parts) == 1 else lance_query.BooleanQuery(parts)


async def index_texts(table: lancedb.AsyncTable, spec: TextIndexSpec) -> None:
    """Make the index, anew where it cuts texts in another way. Without one LanceDB takes the words of a query as they are.

    Rows that came after it are found too, by reading them; `optimize` takes them in.
    """
    wanted: dict[str, Any] = {
        "base_tokenizer": _TOKENIZERS.get(spec.tokenizer, spec.tokenizer),
        "language": spec.language or "English",  # of no effect without stemming and stop words
        "stem": spec.language is not None,
        "remove_stop_words": spec.stop_words,
        "ascii_folding": spec.fold_accents,
        "with_position": True,  # for phrases
    }
    for index in await table.list_indices():
        if index.columns == [COLUMN] and wanted.items() <= (index.index_details or {}).items():
            return
    await make_index(table, COLUMN, FTS(**wanted))


def _has_words(text: str) -> bool:
    return any(character.isalnum() for character in text)
