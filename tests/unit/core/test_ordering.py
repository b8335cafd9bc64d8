from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.core.ordering import Candidates, Level, effective_ranking, level_of, page
from serve_app.core.ranking import aim, centred_query, empty_calibration, estimate_calibration
from serve_app.core.vectors import unit
from serve_app.types import Document, FloatMatrix, FloatVector, Hit, Modality, Ranking, StoredDocument, VectorQuery

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RNG = np.random.default_rng(7)
MEANINGS = RNG.normal(size=(200, 32)).astype(np.float32)
GAPS = {TEXT: 9 * np.eye(32, dtype=np.float32)[0], IMAGE: 9 * np.eye(32, dtype=np.float32)[1]}
CANDIDATES = 20


def rows_of(modality: Modality) -> FloatMatrix:
    return np.stack([unit(meaning + GAPS[modality]) for meaning in MEANINGS])


def stored(name: str, modality: Modality, vector: FloatVector, text: str | None = None) -> StoredDocument:
    return StoredDocument(Document(name, modality, None, text, "", {}, NOW, NOW), vector, "f")


CALIBRATION = estimate_calibration({TEXT: rows_of(TEXT), IMAGE: rows_of(IMAGE)}, {TEXT: 200, IMAGE: 200}, version=1)
ROWS = {
    TEXT: [stored(f"text-{at:03}", TEXT, row, f"words {at}") for at, row in enumerate(rows_of(TEXT))],
    IMAGE: [stored(f"image-{at:03}", IMAGE, row) for at, row in enumerate(rows_of(IMAGE))],
}


def asked(vector: FloatVector | None = None, **options: Any) -> VectorQuery:
    vector = unit(MEANINGS[5] + GAPS[TEXT]) if vector is None else vector
    return VectorQuery(vector, "f", ((TEXT, 1.0),), (TEXT, IMAGE), **{"limit": 10, **options})


def nearest(query: VectorQuery, ranking: Ranking) -> Candidates:
    """As many rows of each modality as the query's level has, from where the product looks for them."""
    rows = level_of(query, CANDIDATES).rows + len(query.exclude_ids)

    def near(modality: Modality, documents: list[StoredDocument]) -> list[StoredDocument]:
        vector = query.vector
        if ranking is not Ranking.COSINE:
            vector = aim(centred_query(query, CALIBRATION)[None], modality, CALIBRATION)[0]
        scores = {each.document.id: round(float(each.vector @ vector), 6) for each in documents}
        return sorted(documents, key=lambda each: (-scores[each.document.id], each.document.id))[:rows]

    matching = [each for each in ROWS[TEXT] if query.words and query.words in (each.document.text or "")]
    found = {modality: near(modality, documents) for modality, documents in ROWS.items()}
    return Candidates(found, matching[:rows], 400)


def hits_of(query: VectorQuery, ranking: Ranking = Ranking.CALIBRATED) -> tuple[Hit, ...]:
    return page(query, nearest(query, ranking), ranking, CALIBRATION, CANDIDATES)


def ids_of(query: VectorQuery, ranking: Ranking = Ranking.CALIBRATED) -> list[str]:
    return [hit.document.id for hit in hits_of(query, ranking)]


def test_cosine_puts_every_text_before_the_right_picture_and_calibration_puts_the_right_ones_first() -> None:
    assert {each.split("-")[0] for each in ids_of(asked(), Ranking.COSINE)} == {"text"}
    assert set(ids_of(asked(limit=2))) == {"text-005", "image-005"}


def test_every_ranking_says_how_sure_it_is() -> None:
    for ranking in Ranking:
        by_id = {hit.document.id: hit.confidence for hit in hits_of(asked(), ranking)}
        assert (by_id["text-005"] or 0) > 0.95
        assert min(value for value in by_id.values() if value is not None) < 0.5


def test_a_table_without_a_calibration_is_sure_of_nothing() -> None:
    hits = page(asked(), nearest(asked(), Ranking.CALIBRATED), Ranking.CALIBRATED, empty_calibration(), CANDIDATES)
    assert {hit.confidence for hit in hits} == {None}


def test_the_documents_that_ask_are_left_out_and_cost_no_place() -> None:
    asking = asked(ROWS[TEXT][0].vector, exclude_ids=("text-000", "text-001"))
    ids = ids_of(asking, Ranking.COSINE)
    assert len(ids) == 10
    assert not {"text-000", "text-001"} & set(ids)


def test_equal_scores_stand_in_the_order_of_their_ids() -> None:
    found = Candidates({TEXT: [stored(name, TEXT, unit(MEANINGS[0])) for name in "cab"]}, (), 3)
    hits = page(asked(unit(MEANINGS[0])), found, Ranking.COSINE, CALIBRATION, CANDIDATES)
    assert [hit.document.id for hit in hits] == ["a", "b", "c"]


def test_vectors_come_back_only_where_asked_for() -> None:
    assert {hit.vector is None for hit in hits_of(asked())} == {True}
    (hit,) = hits_of(asked(limit=1, vectors=True))
    assert hit.vector is not None
    assert hit.vector.shape == (32,)


@pytest.mark.parametrize(
    ("counts", "options", "expected"),
    [
        ({TEXT: 5, IMAGE: 5}, {}, Ranking.CALIBRATED),
        ({TEXT: 5}, {}, Ranking.COSINE),
        ({}, {}, Ranking.COSINE),
        ({TEXT: 5}, {"min_confidence": 0.5}, Ranking.CALIBRATED),
        ({TEXT: 5, IMAGE: 5}, {"ranking": Ranking.HYBRID}, Ranking.HYBRID),
    ],
)
def test_ranking_is_calibrated_where_modalities_mix_or_confidence_is_asked_for(
    counts: dict[Modality, int], options: dict[str, Any], expected: Ranking
) -> None:
    assert effective_ranking(asked(**options), counts) is expected


# --- thresholds -----------------------------------------------------------------------------------------------------


def test_what_scores_lower_than_asked_for_is_left_out() -> None:
    scores = [hit.score for hit in hits_of(asked())]
    kept = [hit.score for hit in hits_of(asked(min_score=scores[3]))]
    assert kept == scores[:4]


@pytest.mark.parametrize("cosine", [0.6, 0.7, 0.8])
def test_a_score_as_it_is_shown_finds_its_document(cosine: float) -> None:
    row = np.zeros(32, np.float32)
    row[:2] = cosine, np.sqrt(1 - cosine**2)
    query = asked(np.eye(32, dtype=np.float32)[0], min_score=cosine)
    found = Candidates({TEXT: [stored("here", TEXT, row)]}, (), 1)
    assert [hit.score for hit in page(query, found, Ranking.COSINE, CALIBRATION, CANDIDATES)] == [cosine]


def test_what_a_batch_does_to_the_last_bits_parts_no_equals() -> None:
    row = ROWS[TEXT][5].vector
    same = [stored(f"{at}", TEXT, unit(row + 1e-7 * RNG.normal(size=32).astype(np.float32))) for at in range(9)]
    for ranking in (Ranking.COSINE, Ranking.CALIBRATED):
        hits = page(asked(), Candidates({TEXT: same[::-1]}, (), 9), ranking, CALIBRATION, CANDIDATES)
        assert [hit.document.id for hit in hits] == [each.document.id for each in same]


def test_a_query_without_a_good_match_finds_nothing_above_the_confidence_asked_for() -> None:
    assert set(ids_of(asked(min_confidence=0.9))) == {"text-005", "image-005"}
    strangers = [unit(each + GAPS[TEXT]) for each in RNG.normal(size=(100, 32)).astype(np.float32)]
    accepted = sum(bool(ids_of(asked(each, min_confidence=0.9))) for each in strangers)
    assert accepted <= 20  # one in ten is what 0.9 means


# --- pages ----------------------------------------------------------------------------------------------------------


def test_a_deeper_page_is_decided_among_more_rows() -> None:
    assert level_of(asked(limit=4), CANDIDATES) == Level(4, 10)
    assert level_of(asked(limit=5), CANDIDATES) == level_of(asked(limit=10), CANDIDATES) == Level(10, 20)
    assert level_of(asked(limit=1, offset=10), CANDIDATES) == Level(40, 80)
    assert level_of(asked(limit=2, offset=39), CANDIDATES) == Level(160, 320)
    assert level_of(asked(limit=1), 1) == Level(1, 1)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.sampled_from(Ranking),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([None, 0.0, 0.6]),
    st.sampled_from([None, "words 1"]),
)
def test_pages_put_together_are_the_long_page(
    sizes: list[int], ranking: Ranking, diversity: float, min_score: float | None, words: str | None
) -> None:
    options: dict[str, Any] = {
        "diversity": diversity,
        "min_score": min_score,
        "words": words,
        "exclude_ids": ("text-007",),
    }
    whole = ids_of(asked(limit=sum(sizes), **options), ranking)
    ends = np.cumsum(sizes)
    parts = [
        ids_of(asked(limit=size, offset=int(end) - size, **options), ranking)
        for size, end in zip(sizes, ends, strict=True)
    ]
    assert [each for part in parts for each in part] == whole
    assert len(set(whole)) == len(whole)


# --- hybrid ---------------------------------------------------------------------------------------------------------


def fused(query: VectorQuery, matching: list[StoredDocument]) -> list[str]:
    found = Candidates(nearest(query, Ranking.HYBRID).nearest, matching, 400)
    return [hit.document.id for hit in page(query, found, Ranking.HYBRID, CALIBRATION, CANDIDATES)]


def test_a_text_that_holds_the_words_comes_before_one_that_lies_as_near() -> None:
    by_vector = [each for each in ids_of(asked()) if each.startswith("text")]
    second = next(row for row in ROWS[TEXT] if row.document.id == by_vector[2])
    assert fused(asked(words="w"), [second]).index(by_vector[2]) < fused(asked(words="w"), []).index(by_vector[2])


def test_a_text_that_lies_far_away_is_found_by_its_words() -> None:
    far = ROWS[TEXT][150]
    assert far.document.id not in ids_of(asked())
    assert far.document.id in fused(asked(words="w"), [far])


def test_the_right_picture_is_not_punished_for_having_no_text() -> None:
    first, second = ids_of(asked(limit=2))
    assert {first, second} == {"text-005", "image-005"}
    assert set(fused(asked(words="w"), [ROWS[TEXT][5], *ROWS[TEXT][50:60]])[:2]) == {first, second}


def test_without_matches_hybrid_is_the_order_of_the_vectors() -> None:
    assert ids_of(asked(words="nothing like it"), Ranking.HYBRID) == ids_of(asked())


# --- diversity ------------------------------------------------------------------------------------------------------


def test_diversity_0_changes_nothing() -> None:
    assert ids_of(asked(limit=40, diversity=0.0)) == ids_of(asked(limit=40))


def test_look_alikes_make_room_and_the_best_stays_first() -> None:
    twins = [stored(f"twin-{at}", TEXT, unit(MEANINGS[5] + GAPS[TEXT] + 0.01 * at)) for at in range(6)]
    others = [ROWS[TEXT][at] for at in (17, 40, 99)]
    found = Candidates({TEXT: [*twins, *others]}, (), 400)

    def first(diversity: float) -> list[str]:
        hits = page(asked(limit=4, diversity=diversity), found, Ranking.CALIBRATED, CALIBRATION, CANDIDATES)
        return [hit.document.id for hit in hits]

    assert sum(each.startswith("twin") for each in first(0.0)) == 4
    assert sum(each.startswith("twin") for each in first(0.6)) == 1
    assert first(0.6)[0] == first(0.0)[0]
