"""An evaluation of a system whose answers are written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from serve_app.core.judgements import (
    Direction,
    Found,
    JudgedCorpus,
    JudgedDocument,
    JudgedQuery,
    LabelledPictures,
    Question,
)
from serve_app.errors import EmptyText, InvalidRequest, NotAPicture
from serve_app.services.evaluation import Evaluator, Settings, classify
from serve_app.services.evaluation_report import Evaluation, as_json, as_markdown
from serve_app.types import FloatVector, ItemFailure, Modality, Ranking

BROKEN = ItemFailure("not_a_picture", "broken.png is no picture.")
FACTS: Mapping[str, str | int] = {"model": "m", "where": "here"}


@dataclass
class WrittenDown:
    """Finds for each text the ids that are written down for it, each less sure than the one before."""

    answers: Mapping[str | None, Sequence[str]] = field(default_factory=dict)
    embedded: list[str] = field(default_factory=list)
    asked: list[Question] = field(default_factory=list)
    limits: set[int] = field(default_factory=set)

    async def add(self, documents: Sequence[JudgedDocument]) -> list[ItemFailure | None]:
        return [BROKEN if each.picture == "broken.png" else None for each in documents]

    async def settle(self) -> None: ...

    async def embed_pictures(self, pictures: Sequence[str]) -> list[FloatVector | ItemFailure]:
        self.embedded += pictures
        return [BROKEN if each == "broken.png" else np.zeros(2, np.float32) for each in pictures]

    async def search(
        self, questions: Sequence[Question], modalities: Sequence[Modality], ranking: Ranking, limit: int
    ) -> list[Sequence[Found] | ItemFailure]:
        self.asked += questions
        self.limits.add(limit)
        return [
            ItemFailure("empty_text", "The text is empty.")
            if each.text == ""
            else [
                Found(hit, Modality.IMAGE if hit.startswith("p") else Modality.TEXT, 1.0 - at, 0.95 - 0.1 * at)
                for at, hit in enumerate(self.answers.get(each.text, ()))
            ]
            for each in questions
        ]

    async def classify(
        self, pictures: Sequence[str], labels: Sequence[str], templates: Sequence[str], limit: int
    ) -> list[Sequence[str] | ItemFailure]:
        return [BROKEN if each == "broken.png" else list(labels)[:limit] for each in pictures]


def tell(what: str, done: int, of: int) -> None:
    assert 0 < done <= of, what


def corpus_of(*queries: JudgedQuery, documents: Sequence[JudgedDocument] = ()) -> JudgedCorpus:
    return JudgedCorpus("corpus", documents, queries)


def evaluator(system: WrittenDown, corpus: JudgedCorpus, depth: int = 10) -> Evaluator:
    return Evaluator(system, corpus, Settings(depth=depth, draws=50), tell)


async def test_a_query_that_fails_counts_as_not_found_and_is_told() -> None:
    corpus = corpus_of(
        JudgedQuery("1", text="boat", relevant={"p1": 1.0}),
        JudgedQuery("2", text="", relevant={"p1": 1.0}),
        JudgedQuery("3", picture="broken.png", relevant={"p1": 1.0}),
        JudgedQuery("4", text="", relevant={}),
    )
    asked = await evaluator(WrittenDown({"boat": ["p1"]}), corpus).ask(Direction.MIXED, Ranking.COSINE)
    assert (asked.queries, asked.figures["recall@1"].value) == (3, pytest.approx(1 / 3))
    assert [each.code for each in asked.failures] == ["empty_text", "not_a_picture", "empty_text"]
    # The one without an answer failed: it says nothing about refusing.
    assert (asked.refusal.precision, asked.refusal.recall) == (None, None)
    text = as_markdown(Evaluation("corpus", FACTS, [asked]))
    assert "- mixed, cosine: 3 queries failed and count as not found; The text is empty." in text


async def test_where_every_query_fails_that_is_the_error() -> None:
    with pytest.raises(EmptyText):
        await evaluator(WrittenDown(), corpus_of(JudgedQuery("1", text="", relevant={"a": 1.0}))).ask(
            Direction.MIXED, Ranking.COSINE
        )


async def test_a_query_does_not_count_where_it_finds_itself_and_looks_one_deeper_for_it() -> None:
    system = WrittenDown({"boat": ["me", *"abcdefghi", "p1"]})
    corpus = corpus_of(JudgedQuery("1", text="boat", relevant={"p1": 1.0}, itself="me"))
    asked = await evaluator(system, corpus).ask(Direction.MIXED, Ranking.COSINE)
    assert asked.figures["mrr"].value == pytest.approx(1 / 10)
    assert system.limits == {11}


async def test_a_picture_that_asks_is_encoded_once_for_all_rankings() -> None:
    system = WrittenDown({None: ["t1"], "red": ["t1"]})
    corpus = corpus_of(
        JudgedQuery("1", picture="a.png", relevant={"t1": 1.0}),
        JudgedQuery("2", text="red", picture="a.png", relevant={"t1": 1.0}),
        JudgedQuery("3", body={"document_id": "x"}, relevant={"t1": 1.0}),
    )
    asking = evaluator(system, corpus)
    for ranking in (Ranking.COSINE, Ranking.CALIBRATED):
        await asking.ask(Direction.MIXED, ranking)
    assert system.embedded == ["a.png"]
    assert [(each.text, each.picture is not None, each.body) for each in system.asked[:3]] == [
        (None, True, None),
        ("red", True, None),
        (None, False, {"document_id": "x"}),
    ]


async def test_the_worst_are_those_found_last_and_none_that_was_found_at_once() -> None:
    system = WrittenDown({"good": ["p1"], "late": ["x", "p1"], "never": ["x", "y"]})
    corpus = corpus_of(*(JudgedQuery(each, text=each, relevant={"p1": 1.0}) for each in ("late", "good", "never")))
    asked = await evaluator(system, corpus).ask(Direction.MIXED, Ranking.COSINE)
    assert [(each.query.id, each.rank) for each in asked.worst] == [("never", np.inf), ("late", 2.0)]
    assert [hit.id for hit in asked.worst[0].found] == ["x", "y"]
    report = as_json(Evaluation("corpus", FACTS, [asked]))
    assert [each["rank"] for each in report["results"][0]["worst"]] == [None, 2.0]


async def test_refusing_is_told_by_the_confidence() -> None:
    system = WrittenDown({"boat": ["p1"], "sure": ["p1"]})
    corpus = corpus_of(
        JudgedQuery("1", text="boat", relevant={"p1": 1.0}),
        JudgedQuery("2", text="house", relevant={}),
        JudgedQuery("3", text="sure", relevant={}),
    )
    asked = await evaluator(system, corpus).ask(Direction.MIXED, Ranking.CALIBRATED)
    assert (asked.queries, asked.unanswerable) == (1, 2)
    assert (asked.refusal.precision, asked.refusal.recall) == (1.0, 0.5)
    assert "| refused, recall | 0.500 |" in as_markdown(Evaluation("corpus", FACTS, [asked]))


async def test_nothing_is_asked_in_a_direction_that_nobody_asks_in() -> None:
    corpus = corpus_of(JudgedQuery("1", text="boat", relevant={"t": 1.0}), documents=[JudgedDocument("t", text="t")])
    with pytest.raises(InvalidRequest, match="corpus has no queries text→image"):
        await evaluator(WrittenDown(), corpus).ask(Direction.TEXT_TO_IMAGE, Ranking.COSINE)


async def test_documents_that_cannot_be_stored_are_told_and_all_of_them_an_error() -> None:
    good, broken = JudgedDocument("a", text="a"), JudgedDocument("b", picture="broken.png")
    remarks = await evaluator(WrittenDown(), corpus_of(documents=[good, broken])).add_documents()
    assert remarks == [
        "1 of 2 documents could not be stored and count as not found; the first, b: broken.png is no picture."
    ]
    assert await evaluator(WrittenDown(), corpus_of(documents=[good])).add_documents() == []
    with pytest.raises(NotAPicture, match="no document could be stored; b: broken"):
        await evaluator(WrittenDown(), corpus_of(documents=[broken])).add_documents()


async def test_a_picture_that_cannot_be_classified_counts_as_wrong() -> None:
    pictures = LabelledPictures("zoo", {"cat": ["a.png", "broken.png"], "dog": ["b.png", "c.png"]})
    found = await classify(WrittenDown(), pictures, ["a {}"], Settings(draws=50), tell)
    assert (found.accuracy.top1.value, found.accuracy.top5.value) == (0.25, 0.75)
    assert found.accuracy.per_class == {"cat": 0.5, "dog": 0.0}
    text = as_markdown(Evaluation("zoo", FACTS, classified=found))
    assert "- 1 pictures failed and count as wrong; the first: broken.png is no picture." in text
    assert "| dog | 0.000 |" in text


def test_a_report_says_what_was_left_out_and_where_it_ran() -> None:
    evaluation = Evaluation("corpus", FACTS, remarks=["remark"], broken=["x.csv:3 is wrong", "x.csv:4 is wrong"])
    text = as_markdown(evaluation)
    assert "- remark." in text
    assert "- 2 rows are broken and were left out; the first: x.csv:3 is wrong." in text
    assert "model m; where here" in text
    assert as_json(evaluation)["broken"] == ["x.csv:3 is wrong", "x.csv:4 is wrong"]
