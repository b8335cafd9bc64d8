from datetime import UTC, datetime

import numpy as np
import pytest

from serve_app.core.ranking import (
    PRIOR_ROWS,
    effective_ranking,
    empty_calibration,
    estimate_calibration,
    needs_calibration,
    rank,
)
from serve_app.core.vectors import unit
from serve_app.types import Document, FloatMatrix, FloatVector, Modality, Ranking, StoredDocument, VectorQuery

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Rows that mean random things, each modality pushed away in a direction of its own: text-text about 0.7.
RNG = np.random.default_rng(7)
MEANINGS = RNG.normal(size=(200, 32)).astype(np.float32)
GAPS = {TEXT: 9 * np.eye(32, dtype=np.float32)[0], IMAGE: 9 * np.eye(32, dtype=np.float32)[1]}


def rows_of(modality: Modality) -> FloatMatrix:
    return np.stack([unit(meaning + GAPS[modality]) for meaning in MEANINGS])


def stored(name: str, modality: Modality, vector: FloatVector) -> StoredDocument:
    return StoredDocument(Document(name, modality, None, None, "", {}, NOW, NOW), vector, "f")


def asked(vector: FloatVector, limit: int = 10, exclude_id: str | None = None) -> VectorQuery:
    return VectorQuery(vector, "f", TEXT, (TEXT, IMAGE), limit, exclude_id=exclude_id)


CALIBRATION = estimate_calibration({TEXT: rows_of(TEXT), IMAGE: rows_of(IMAGE)}, {TEXT: 200, IMAGE: 200}, version=1)
CANDIDATES = [
    *(stored(f"text-{at:03}", TEXT, row) for at, row in enumerate(rows_of(TEXT))),
    *(stored(f"image-{at:03}", IMAGE, row) for at, row in enumerate(rows_of(IMAGE))),
]


def test_cosine_puts_every_text_before_the_right_picture_and_calibration_puts_the_right_ones_first() -> None:
    query = asked(unit(MEANINGS[5] + 0.3 * RNG.normal(size=32).astype(np.float32) + GAPS[TEXT]))
    plain = rank(query, CANDIDATES, Ranking.COSINE, CALIBRATION)
    assert all(hit.document.modality is TEXT for hit in plain)
    calibrated = rank(query, CANDIDATES, Ranking.CALIBRATED, CALIBRATION)
    assert {hit.document.id for hit in calibrated[:2]} == {"text-005", "image-005"}


def test_confidence_is_high_for_the_right_document_and_middling_for_unrelated_ones() -> None:
    hits = rank(asked(unit(MEANINGS[5] + GAPS[TEXT]), limit=400), CANDIDATES, Ranking.CALIBRATED, CALIBRATION)
    confidences = {hit.document.id: hit.confidence for hit in hits}
    assert (confidences["image-005"] or 0) > 0.99
    assert 0.4 < float(np.mean([value for value in confidences.values() if value is not None])) < 0.6


def test_without_a_calibration_the_scores_are_cosines() -> None:
    query = asked(CANDIDATES[0].vector)
    plain = rank(query, CANDIDATES, Ranking.COSINE, empty_calibration())
    calibrated = rank(query, CANDIDATES, Ranking.CALIBRATED, empty_calibration())
    assert [(hit.document.id, hit.score) for hit in plain] == [(hit.document.id, hit.score) for hit in calibrated]


def test_the_only_document_of_a_modality_is_not_wiped_out_by_its_own_mean() -> None:
    lonely = unit(MEANINGS[0] + GAPS[IMAGE])
    calibration = estimate_calibration({TEXT: rows_of(TEXT), IMAGE: lonely[None]}, {TEXT: 200, IMAGE: 1}, version=1)
    assert np.allclose(calibration.means[IMAGE], lonely / (1 + PRIOR_ROWS), atol=1e-6)
    hits = rank(asked(unit(MEANINGS[0] + GAPS[TEXT])), [stored("it", IMAGE, lonely)], Ranking.CALIBRATED, calibration)
    assert hits[0].score > 0.3


def test_the_document_that_asks_is_left_out_and_the_limit_holds() -> None:
    hits = rank(asked(CANDIDATES[0].vector, 3, exclude_id="text-000"), CANDIDATES, Ranking.COSINE, CALIBRATION)
    assert len(hits) == 3
    assert "text-000" not in {hit.document.id for hit in hits}


def test_equal_scores_stand_in_the_order_of_their_ids() -> None:
    vector = unit(MEANINGS[0])
    hits = rank(asked(vector), [stored(name, TEXT, vector) for name in "cab"], Ranking.COSINE, CALIBRATION)
    assert [hit.document.id for hit in hits] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [({TEXT: 5, IMAGE: 5}, Ranking.CALIBRATED), ({TEXT: 5}, Ranking.COSINE), ({}, Ranking.COSINE)],
)
def test_ranking_is_calibrated_where_more_than_one_modality_can_be_returned(
    counts: dict[Modality, int], expected: Ranking
) -> None:
    assert effective_ranking(asked(CANDIDATES[0].vector), counts) is expected


def test_a_calibration_is_due_after_growth_and_after_the_first_row_and_not_before() -> None:
    assert needs_calibration(empty_calibration(), {TEXT: 1}, growth=0.2)
    assert not needs_calibration(CALIBRATION, {TEXT: 230, IMAGE: 170}, growth=0.2)
    assert needs_calibration(CALIBRATION, {TEXT: 241, IMAGE: 200}, growth=0.2)
    assert needs_calibration(CALIBRATION, {TEXT: 200}, growth=0.2)
