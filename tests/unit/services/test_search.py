import pytest

from serve_app.errors import DocumentNotFound, EmptyText, FingerprintMismatch, InvalidRequest, InvalidVector
from serve_app.types import (
    DocumentInput,
    DocumentQuery,
    Modality,
    PictureQuery,
    Query,
    Ranking,
    RawVectorQuery,
    SearchRequest,
    TextQuery,
)
from tests.fakes.parts import DIMENSION, OTHER_CARD, FakeTextEncoding, picture_of, vector_of
from tests.unit.services.conftest import System, make_system

WORDS = ("red boat", "blue cat", "green tree", "red house", "snow tree", "blue house")


async def filled(system: System) -> System:
    await system.documents.add([DocumentInput(text=words, id=f"text {words}") for words in WORDS])
    await system.documents.add([DocumentInput(picture=picture_of(words), id=f"image {words}") for words in WORDS])
    await system.indexing.settled()
    return system


async def found(system: System, query: Query, **wanted: object) -> list[str]:
    answer = await system.search.search(SearchRequest(query, limit=2, **wanted))  # type: ignore[arg-type]
    return [hit.document.id for hit in answer.page.hits]


@pytest.mark.parametrize(
    "query",
    [
        TextQuery("blue cat"),
        PictureQuery(picture_of("blue cat")),
        RawVectorQuery(tuple(7 * vector_of("blue cat", Modality.TEXT)), Modality.TEXT),
    ],
    ids=["words", "picture", "vector"],
)
async def test_each_kind_of_query_finds_the_text_and_the_picture_that_mean_the_same(
    system: System, query: Query
) -> None:
    assert set(await found(await filled(system), query)) == {"text blue cat", "image blue cat"}


async def test_more_like_a_document_leaves_the_document_out(system: System) -> None:
    ids = await found(await filled(system), DocumentQuery("image blue cat"))
    assert ids[0] == "text blue cat"
    assert "image blue cat" not in ids


async def test_only_the_modalities_asked_for_come_back(system: System) -> None:
    await filled(system)
    assert await found(system, TextQuery("red boat"), modalities=(Modality.IMAGE,)) == [
        "image red boat",
        "image red house",
    ]


async def test_search_over_both_is_calibrated_and_names_the_calibration(system: System) -> None:
    await filled(system)
    page = (await system.search.search(SearchRequest(TextQuery("red boat")))).page
    assert page.ranking is Ranking.CALIBRATED
    assert page.calibration_version == (await system.table.calibration()).version > 0
    assert all(hit.confidence is not None for hit in page.hits)
    plain = (await system.search.search(SearchRequest(TextQuery("red boat"), ranking=Ranking.COSINE))).page
    assert [hit.document.modality for hit in plain.hits[:6]] == [Modality.TEXT] * 6


async def test_an_empty_table_answers_with_no_results(system: System) -> None:
    assert await found(system, TextQuery("red boat")) == []


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (SearchRequest(TextQuery(" ")), EmptyText),
        (SearchRequest(TextQuery("a"), limit=0), InvalidRequest),
        (SearchRequest(TextQuery("a"), limit=51), InvalidRequest),
        (SearchRequest(TextQuery("a"), modalities=()), InvalidRequest),
        (SearchRequest(DocumentQuery("nobody")), DocumentNotFound),
        (SearchRequest(RawVectorQuery((1.0, 2.0), Modality.TEXT)), InvalidVector),
        (SearchRequest(RawVectorQuery((0.0,) * DIMENSION, Modality.TEXT)), InvalidVector),
        (SearchRequest(RawVectorQuery((float("nan"),) * DIMENSION, Modality.TEXT)), InvalidVector),
    ],
)
async def test_a_bad_question_is_told_what_is_wrong(
    system: System, request_: SearchRequest, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await system.search.search(request_)


async def test_a_question_of_another_encoder_is_refused(system: System) -> None:
    await filled(system)
    stranger = make_system(system.table, FakeTextEncoding(OTHER_CARD))
    with pytest.raises(FingerprintMismatch):
        await stranger.search.search(SearchRequest(TextQuery("red boat")))
