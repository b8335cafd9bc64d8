"""How well a system finds what a corpus says it should, and how well it sorts pictures into classes.

Knows neither where the system runs nor how it searches: in process and over HTTP are two `EvaluatedSystem`s, asked the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serve_app.core.evaluation import (
    DRAWS,
    Accuracy,
    Figure,
    Gains,
    Refusal,
    accuracy,
    figures,
    first_ranks,
    gains_of,
    recall_curve,
    refusal,
    share,
)
from serve_app.core.judgements import (
    FINDABLE,
    Direction,
    Found,
    JudgedCorpus,
    JudgedDocument,
    JudgedQuery,
    LabelledPictures,
    Question,
    queries_of,
)
from serve_app.errors import InvalidRequest, error_of
from serve_app.types import FloatVector, ItemFailure, Modality, Ranking

ADDED_AT_ONCE = 256
ASKED_AT_ONCE = 128
CLASSIFIED_AT_ONCE = 32
WORST = 6
SHOWN = 10  # of what was found instead

Tell = Callable[[str, int, int], None]
"""Hears what is going on, how much of it is done, and how much there is."""


class EvaluatedSystem(Protocol):
    """What is evaluated. Ids are those of the corpus; results are best first; one bad item fails alone."""

    async def add(self, documents: Sequence[JudgedDocument]) -> list[ItemFailure | None]: ...

    async def settle(self) -> None:
        """Called once, after the last document: wait until what was added counts in full."""
        ...

    async def embed_pictures(self, pictures: Sequence[str]) -> list[FloatVector | ItemFailure]:
        """`pictures`: paths of this machine, or URIs."""
        ...

    async def search(
        self, questions: Sequence[Question], modalities: Sequence[Modality], ranking: Ranking, limit: int
    ) -> list[Sequence[Found] | ItemFailure]: ...

    async def classify(
        self, pictures: Sequence[str], labels: Sequence[str], templates: Sequence[str], limit: int
    ) -> list[Sequence[str] | ItemFailure]:
        """The best labels of each picture."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """`depth`: how many results count; what comes later was not found. `confidence`: below it a query counts as refused."""

    depth: int = 50
    seed: int = 0
    draws: int = DRAWS
    confidence: float = 0.9


@dataclass(frozen=True, slots=True)
class WorstQuery:
    """`rank`: of the first answer, infinite where none was found. `found`: what came first instead."""

    query: JudgedQuery
    rank: float
    found: Sequence[Found]


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything of one direction by one ranking. Shares are None where there is nothing to share.

    `pictures`: share of the first ten results that show one; `pictures_relevant`: the same of the right ones among them. A fair
    ranking brings the two together. `curve`: k, and recall at it.
    """

    direction: Direction
    ranking: Ranking
    queries: int  # that have an answer
    figures: Mapping[str, Figure]
    curve: tuple[Sequence[int], Sequence[Figure]]
    pictures: float | None
    pictures_relevant: float | None
    unanswerable: int
    refusal: Refusal
    worst: Sequence[WorstQuery]
    failures: Sequence[ItemFailure]  # of queries; they found nothing


@dataclass(frozen=True, slots=True)
class Classified:
    """Of zero-shot classification. `failures`: of pictures; they count as wrong."""

    pictures: int
    classes: int
    templates: Sequence[str]
    accuracy: Accuracy
    failures: Sequence[ItemFailure]


class Evaluator:
    """Puts a corpus into a system and asks it. A picture that asks is encoded once, and asks by its vector from then on."""

    def __init__(self, system: EvaluatedSystem, corpus: JudgedCorpus, settings: Settings, tell: Tell) -> None:
        self._system = system
        self._corpus = corpus
        self._settings = settings
        self._tell = tell
        self._vectors: dict[str, FloatVector | ItemFailure] = {}

    async def add_documents(self) -> list[str]:
        """Store the corpus; returns a sentence about what could not be stored, if anything.

        Raises the error of the first document if none could be stored.
        """
        documents = self._corpus.documents
        failed: list[tuple[str, ItemFailure]] = []
        for start in range(0, len(documents), ADDED_AT_ONCE):
            part = documents[start : start + ADDED_AT_ONCE]
            for document, failure in zip(part, await self._system.add(part), strict=True):
                if failure is not None:
                    failed.append((document.id, failure))
            self._tell("adding the corpus", start + len(part), len(documents))
        await self._system.settle()
        if not failed:
            return []
        name, first = failed[0]
        if len(failed) == len(documents):
            raise error_of(first.code, f"no document could be stored; {name}: {first.message}")
        return [
            f"{len(failed):,} of {len(documents):,} documents could not be stored and count as not found; the first, "
            f"{name}: {first.message}"
        ]

    async def ask(self, direction: Direction, ranking: Ranking) -> Asked:
        """The figures of one direction. Raises InvalidRequest where nothing is asked in it, and what all queries fail with."""
        queries = queries_of(self._corpus, direction)
        if not queries:
            raise InvalidRequest(f"{self._corpus.name} has no queries {direction.arrow}")
        depth = self._settings.depth
        # Where a query may find the document that it is, one more: that one is taken out again.
        limit = depth + (direction is Direction.MIXED and any(query.itself for query in queries))
        answers: list[Sequence[Found] | ItemFailure] = []
        for start in range(0, len(queries), ASKED_AT_ONCE):
            answers += await self._answers(queries[start : start + ASKED_AT_ONCE], FINDABLE[direction], ranking, limit)
            self._tell(f"asking {direction.arrow}, {ranking}", len(answers), len(queries))
        failures = [each for each in answers if isinstance(each, ItemFailure)]
        if len(failures) == len(queries):
            raise error_of(failures[0].code, failures[0].message)
        return _judged(direction, ranking, queries, answers, self._settings)

    async def _answers(
        self, queries: Sequence[JudgedQuery], modalities: Sequence[Modality], ranking: Ranking, limit: int
    ) -> list[Sequence[Found] | ItemFailure]:
        """What is found for each; a query whose picture cannot be encoded is not asked."""
        vectors = await self.vectors_of([each.picture for each in queries if each.picture is not None])
        questions = [_question(each, vectors) for each in queries]
        asked = [each for each in questions if isinstance(each, Question)]
        found = iter(await self._system.search(asked, modalities, ranking, limit) if asked else [])
        return [each if isinstance(each, ItemFailure) else next(found) for each in questions]

    async def vectors_of(self, pictures: Sequence[str]) -> Mapping[str, FloatVector | ItemFailure]:
        """By their paths, of these and of those that asked before."""
        new = [each for each in dict.fromkeys(pictures) if each not in self._vectors]
        if new:
            self._vectors.update(zip(new, await self._system.embed_pictures(new), strict=True))
        return self._vectors


def _question(query: JudgedQuery, vectors: Mapping[str, FloatVector | ItemFailure]) -> Question | ItemFailure:
    if query.picture is None:
        return Question(query.text, None, query.body)
    vector = vectors[query.picture]
    return vector if isinstance(vector, ItemFailure) else Question(query.text, vector)


async def classify(
    system: EvaluatedSystem, pictures: LabelledPictures, templates: Sequence[str], settings: Settings, tell: Tell
) -> Classified:
    """Top-1 and top-5 accuracy. Raises what all pictures fail with, and InvalidRequest for a wrong template."""
    labels = list(pictures.classes)
    named = [(path, label) for label, paths in pictures.classes.items() for path in paths]
    best: list[Sequence[str]] = []
    failures: list[ItemFailure] = []
    for start in range(0, len(named), CLASSIFIED_AT_ONCE):
        part = [path for path, _ in named[start : start + CLASSIFIED_AT_ONCE]]
        for found in await system.classify(part, labels, templates, min(5, len(labels))):
            if isinstance(found, ItemFailure):
                failures.append(found)
            best.append(() if isinstance(found, ItemFailure) else found)
        tell("classifying", len(best), len(named))
    if len(failures) == len(named):
        raise error_of(failures[0].code, failures[0].message)
    right = accuracy([label for _, label in named], best, settings.seed, settings.draws)
    return Classified(len(named), len(labels), tuple(templates), right, failures)


def _judged(
    direction: Direction,
    ranking: Ranking,
    queries: Sequence[JudgedQuery],
    answers: Sequence[Sequence[Found] | ItemFailure],
    settings: Settings,
) -> Asked:
    pages = [
        None if isinstance(answer, ItemFailure) else [hit for hit in answer if hit.id != query.itself][: settings.depth]
        for query, answer in zip(queries, answers, strict=True)
    ]
    answered = [(query, page or []) for query, page in zip(queries, pages, strict=True) if query.relevant]
    relevant = [query.relevant for query, _ in answered]
    gains = gains_of([[hit.id for hit in page] for _, page in answered], relevant, settings.depth)
    first = [(query, hit) for query, page in answered for hit in page[:10]]
    # What failed found nothing, and refused nothing either.
    told = [(query, page) for query, page in zip(queries, pages, strict=True) if page is not None]
    sure = [any((hit.confidence or 0.0) >= settings.confidence for hit in page) for _, page in told]
    return Asked(
        direction=direction,
        ranking=ranking,
        queries=len(answered),
        figures=figures(gains, relevant, settings.seed, settings.draws),
        curve=recall_curve(gains, settings.seed, settings.draws) if answered else ([], []),
        pictures=share([hit.modality is not Modality.TEXT for _, hit in first]),
        pictures_relevant=share(
            [hit.modality is not Modality.TEXT for query, hit in first if hit.id in query.relevant]
        ),
        unanswerable=len(queries) - len(answered),
        refusal=refusal([not each for each in sure], [not query.relevant for query, _ in told]),
        worst=_worst(answered, gains),
        failures=[answer for answer in answers if isinstance(answer, ItemFailure)],
    )


def _worst(answered: Sequence[tuple[JudgedQuery, Sequence[Found]]], gains: Gains) -> list[WorstQuery]:
    """Those whose first answer came last, of equals those as the corpus has them; none that was answered at once."""
    ranks = first_ranks(gains)
    order = [int(at) for at in np.argsort(-ranks, kind="stable")[:WORST] if ranks[at] > 1]
    return [WorstQuery(answered[at][0], float(ranks[at]), answered[at][1][:SHOWN]) for at in order]
