"""What is judged: documents, queries, and which documents answer which query. Knows no file format and no search.

A corpus is asked in directions. What is found is compared with what the query wants *in that direction*: a caption that asks
for pictures wants its picture, not the other captions of it.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from serve_app.types import FloatVector, Modality


class Direction(StrEnum):
    """Who asks for what. `mixed`: every query, for documents of every kind in one order."""

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_TEXT = "image-to-text"
    MIXED = "mixed"

    @property
    def arrow(self) -> str:
        """As it is written in tables: text→image."""
        return self.value.replace("-to-", "→")


# What may come back; a picture with a text beside it is found by both.
FINDABLE: Mapping[Direction, tuple[Modality, ...]] = MappingProxyType(
    {
        Direction.TEXT_TO_IMAGE: (Modality.IMAGE, Modality.IMAGE_TEXT),
        Direction.IMAGE_TO_TEXT: (Modality.TEXT, Modality.IMAGE_TEXT),
        Direction.MIXED: tuple(Modality),
    }
)


@dataclass(frozen=True, slots=True)
class JudgedDocument:
    """A document of a corpus. `picture`: the path of a file of this machine, or a URI. At least one of the two is there."""

    id: str
    text: str | None = None
    picture: str | None = None

    @property
    def modality(self) -> Modality:
        if self.picture is None:
            return Modality.TEXT
        return Modality.IMAGE if self.text is None else Modality.IMAGE_TEXT


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query and the documents that answer it, each with its gain (above 0); none: nothing answers it.

    `body`: a query as the service's JSON has it, in place of text and picture. `itself`: the document that the query was taken
    from, which answers nothing and does not count where it is found.
    """

    id: str
    text: str | None = None
    picture: str | None = None
    body: Mapping[str, Any] | None = None
    relevant: Mapping[str, float] = field(default_factory=dict)
    itself: str | None = None

    @property
    def direction(self) -> Direction:
        """The narrowest one that it fits: a query of words, or one of a picture; of both it fits `mixed` alone."""
        if self.body is not None or (self.text is not None and self.picture is not None):
            return Direction.MIXED
        return Direction.IMAGE_TO_TEXT if self.text is None else Direction.TEXT_TO_IMAGE


@dataclass(frozen=True, slots=True)
class JudgedCorpus:
    """`documents` is empty where they are in a service already, under the ids that `relevant` names.

    `remarks`: what a reader of the figures has to know. `broken`: rows that were left out, a sentence each.
    """

    name: str
    documents: Sequence[JudgedDocument]
    queries: Sequence[JudgedQuery]
    remarks: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Pictures in classes. `classes`: the names, each with its pictures (paths of this machine)."""

    name: str
    classes: Mapping[str, Sequence[str]]


def queries_of(corpus: JudgedCorpus, direction: Direction) -> list[JudgedQuery]:
    """The queries that are asked in this direction, each wanting only what may come back.

    A query of one kind that nothing of the other kind answers is not asked for it; `mixed` asks them all.
    """
    if direction is Direction.MIXED:
        return list(corpus.queries)
    findable = {each.id for each in corpus.documents if each.modality in FINDABLE[direction]}
    chosen = []
    for query in corpus.queries:
        wanted = {each: gain for each, gain in query.relevant.items() if each in findable}
        if query.direction is direction and wanted:
            chosen.append(replace(query, relevant=wanted))
    return chosen


def limited(corpus: JudgedCorpus, queries: int, seed: int) -> JudgedCorpus:
    """The corpus with so many queries, drawn evenly; all documents stay, for they are what makes a search hard."""
    if len(corpus.queries) <= queries:
        return corpus
    chosen = sorted(random.Random(seed).sample(range(len(corpus.queries)), queries))  # noqa: S311 - lots, no secrets
    remark = f"{queries:,} of {len(corpus.queries):,} queries were asked, drawn with the seed {seed}"
    return replace(corpus, queries=[corpus.queries[at] for at in chosen], remarks=(*corpus.remarks, remark))


@dataclass(frozen=True, slots=True)
class Question:
    """A query, ready to be asked: words, the vector of a picture, both, or a query as the service's JSON has it."""

    text: str | None = None
    picture: FloatVector | None = None
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A document that a search found, by its id in the corpus."""

    id: str
    modality: Modality
    score: float
    confidence: float | None = None
    text: str | None = None
