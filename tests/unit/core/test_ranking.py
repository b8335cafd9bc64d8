import numpy as np
import pytest

from serve_app.core.ranking import (
    ENOUGH_PICTURES,
    PRIOR_DEVIATION,
    PRIOR_ROWS,
    aim,
    calibrated_scores,
    centred_query,
    compose,
    confidence,
    directions,
    empty_calibration,
    estimate_calibration,
    needs_calibration,
    pair_of,
)
from serve_app.core.vectors import cosines, unit
from serve_app.errors import InvalidVector
from serve_app.types import FloatMatrix, FloatVector, Modality, VectorQuery

TEXT, IMAGE, BOTH = Modality.TEXT, Modality.IMAGE, Modality.IMAGE_TEXT
# Rows that mean random things, each modality pushed away in a direction of its own: text-text about 0.7.
RNG = np.random.default_rng(7)
MEANINGS = RNG.normal(size=(200, 32)).astype(np.float32)
GAPS = {TEXT: 9 * np.eye(32, dtype=np.float32)[0], IMAGE: 9 * np.eye(32, dtype=np.float32)[1]}


def rows_of(modality: Modality) -> FloatMatrix:
    return np.stack([unit(meaning + GAPS[modality]) for meaning in MEANINGS])


def asked(vector: FloatVector, *made_of: tuple[Modality, float]) -> VectorQuery:
    return VectorQuery(vector, "f", made_of or ((TEXT, 1.0),), tuple(Modality), 10)


CALIBRATION = estimate_calibration({TEXT: rows_of(TEXT), IMAGE: rows_of(IMAGE)}, {TEXT: 200, IMAGE: 200}, version=1)


def test_the_right_picture_scores_as_high_as_the_right_text_and_far_above_all_others() -> None:
    query = asked(unit(MEANINGS[5] + GAPS[TEXT]))
    texts = calibrated_scores(query, rows_of(TEXT), [TEXT] * 200, CALIBRATION)
    pictures = calibrated_scores(query, rows_of(IMAGE), [IMAGE] * 200, CALIBRATION)
    assert texts.argmax() == pictures.argmax() == 5
    assert pictures[5] == pytest.approx(texts[5], rel=0.1)
    assert np.sort(np.concatenate([texts, pictures]))[-3] < pictures[5] - 1


def test_unrelated_scores_are_close_to_a_standard_normal() -> None:
    queries = [asked(unit(each + GAPS[TEXT])) for each in RNG.normal(size=(50, 32)).astype(np.float32)]
    for modality in (TEXT, IMAGE):
        scores = [calibrated_scores(query, rows_of(modality), [modality] * 200, CALIBRATION) for query in queries]
        assert np.mean(scores) == pytest.approx(0.0, abs=0.1)
        assert np.std(scores) == pytest.approx(1.0, abs=0.1)


def test_pairs_that_agree_less_for_all_are_not_put_behind_for_that() -> None:
    # Meanings in 6 of 128 directions. Pictures hold them with noise, which lowers every one of their cosines by one factor.
    meanings = np.zeros((200, 128), np.float32)
    meanings[:, :6] = RNG.normal(size=(200, 6))
    noise = 0.25 * RNG.normal(size=meanings.shape).astype(np.float32)
    texts, pictures = (np.stack([unit(row) for row in rows]) for rows in (meanings, meanings + noise))
    calibration = estimate_calibration({TEXT: texts, IMAGE: pictures}, {TEXT: 200, IMAGE: 200}, version=1)
    query = asked(texts[5])
    cosine = float(cosines(centred_query(query, calibration), pictures - calibration.means[IMAGE])[5])
    right = float(calibrated_scores(query, pictures, [IMAGE] * 200, calibration)[5])
    best = float(calibrated_scores(query, texts, [TEXT] * 200, calibration)[5])
    assert cosine < 0.75
    assert right / best > cosine + 0.1


def test_without_a_calibration_the_scores_are_cosines_in_the_prior_spread() -> None:
    scores = calibrated_scores(asked(rows_of(TEXT)[0]), rows_of(TEXT), [TEXT] * 200, empty_calibration())
    assert np.allclose(scores * PRIOR_DEVIATION, rows_of(TEXT) @ rows_of(TEXT)[0], atol=1e-5)


def test_the_only_document_of_a_modality_is_not_wiped_out_by_its_own_mean() -> None:
    lonely = unit(MEANINGS[0] + GAPS[IMAGE])
    calibration = estimate_calibration({TEXT: rows_of(TEXT), IMAGE: lonely[None]}, {TEXT: 200, IMAGE: 1}, version=1)
    assert np.allclose(calibration.means[IMAGE], lonely / (1 + PRIOR_ROWS), atol=1e-6)
    assert calibration.pair_scores[IMAGE, IMAGE].std == pytest.approx(PRIOR_DEVIATION)
    scores = calibrated_scores(asked(unit(MEANINGS[0] + GAPS[TEXT])), lonely[None], [IMAGE], calibration)
    assert scores[0] > 1.5


def test_a_calibration_is_due_after_growth_and_after_the_first_row_and_not_before() -> None:
    assert needs_calibration(empty_calibration(), {TEXT: 1}, growth=0.2)
    assert not needs_calibration(CALIBRATION, {TEXT: 230, IMAGE: 170}, growth=0.2)
    assert needs_calibration(CALIBRATION, {TEXT: 241, IMAGE: 200}, growth=0.2)
    assert needs_calibration(CALIBRATION, {TEXT: 200}, growth=0.2)


# --- where to look --------------------------------------------------------------------------------------------------


def test_what_lies_nearest_to_the_aim_is_what_scores_best() -> None:
    pictures = rows_of(IMAGE)
    found, found_by_the_query = 0, 0
    for meaning in RNG.normal(size=(50, 32)).astype(np.float32):
        query = asked(unit(meaning + GAPS[TEXT]))
        best = set(np.argsort(-calibrated_scores(query, pictures, [IMAGE] * 200, CALIBRATION))[:10])
        (aimed,) = aim(centred_query(query, CALIBRATION)[np.newaxis], IMAGE, CALIBRATION)
        assert np.linalg.norm(aimed) == pytest.approx(1.0, abs=1e-5)
        found += len(best & set(np.argsort(-pictures @ aimed)[:20]))
        found_by_the_query += len(best & set(np.argsort(-pictures @ query.vector)[:20]))
    assert found >= 490
    assert found_by_the_query < 450


def test_without_a_mean_the_aim_is_the_query() -> None:
    query = asked(rows_of(TEXT)[0])
    assert np.allclose(
        aim(centred_query(query, empty_calibration())[np.newaxis], IMAGE, empty_calibration()), query.vector
    )


# --- composed queries -----------------------------------------------------------------------------------------------


def test_a_composed_query_of_one_part_is_that_part() -> None:
    vector, made_of = compose([rows_of(IMAGE)[3]], [IMAGE], [2.5])
    assert np.allclose(vector, rows_of(IMAGE)[3], atol=1e-6)
    assert made_of == ((IMAGE, pytest.approx(1.0)),)


def test_the_mean_of_a_composed_query_is_composed_of_its_parts_means() -> None:
    parts, weights = [rows_of(TEXT)[1], rows_of(IMAGE)[2]], [0.7, -0.4]
    vector, made_of = compose(parts, [TEXT, IMAGE], weights)
    centred = 0.7 * (parts[0] - CALIBRATION.means[TEXT]) - 0.4 * (parts[1] - CALIBRATION.means[IMAGE])
    assert np.allclose(centred_query(asked(vector, *made_of), CALIBRATION), unit(centred), atol=1e-5)


def test_the_spread_of_a_composed_query_lies_between_those_of_its_parts() -> None:
    query = asked(rows_of(TEXT)[0], (TEXT, 1.0), (IMAGE, -3.0))
    pair = pair_of(query, TEXT, CALIBRATION)
    assert pair is not None
    text, image = (CALIBRATION.pair_scores[each, TEXT].std for each in (TEXT, IMAGE))
    assert pair.std == pytest.approx(0.25 * text + 0.75 * image)
    assert pair_of(asked(rows_of(TEXT)[0], (TEXT, 1.0), (BOTH, 1.0)), TEXT, CALIBRATION) is None


def test_parts_that_cancel_each_other_out_are_refused() -> None:
    with pytest.raises(InvalidVector, match="cancel each other out"):
        compose([rows_of(TEXT)[1], rows_of(TEXT)[1]], [TEXT, TEXT], [0.3, -0.3])


# --- confidence -----------------------------------------------------------------------------------------------------


def test_confidence_is_the_chance_that_the_best_of_as_many_unrelated_rows_scores_lower() -> None:
    best = RNG.normal(size=(4000, 100)).max(axis=1)
    for score in (2.0, 2.5, 3.0):
        assert confidence(score, 100) == pytest.approx((best < score).mean(), abs=0.03)


def test_confidence_grows_with_the_score_and_falls_with_the_rows_and_stays_between_0_and_1() -> None:
    values = [confidence(score, 1000) for score in (-40.0, 0.0, 2.0, 3.0, 4.0, 40.0)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert confidence(3.0, 10) > confidence(3.0, 10_000)
    assert confidence(1.0, 0) == 1.0


def test_frames_are_measured_as_pictures_where_there_are_enough_pictures() -> None:
    chance = np.random.default_rng(3)
    pictures = directions(chance.normal(1.0, 1.0, (ENOUGH_PICTURES, 8)).astype(np.float32))
    texts = directions(chance.normal(-1.0, 1.0, (64, 8)).astype(np.float32))
    # A long video of one scene: its own mean would be that scene.
    frames = np.repeat(pictures[:1], 500, axis=0)
    counts = {Modality.TEXT: 64, Modality.IMAGE: ENOUGH_PICTURES, Modality.VIDEO_FRAME: 500}
    samples = {Modality.TEXT: texts, Modality.IMAGE: pictures, Modality.VIDEO_FRAME: frames}
    estimated = estimate_calibration(samples, counts, 1)
    np.testing.assert_array_equal(estimated.means[Modality.VIDEO_FRAME], estimated.means[Modality.IMAGE])
    for other in (Modality.TEXT, Modality.IMAGE, Modality.VIDEO_FRAME):
        as_picture = Modality.IMAGE if other is Modality.VIDEO_FRAME else other
        assert estimated.pair_scores[other, Modality.VIDEO_FRAME] == estimated.pair_scores[as_picture, Modality.IMAGE]
    query = VectorQuery(texts[0], "f", ((Modality.TEXT, 1.0),), tuple(Modality), limit=9)
    scores = calibrated_scores(query, np.stack([pictures[0]] * 2), [Modality.IMAGE, Modality.VIDEO_FRAME], estimated)
    assert scores[0] == pytest.approx(scores[1])


def test_frames_have_a_mean_of_their_own_where_there_are_few_pictures() -> None:
    chance = np.random.default_rng(4)
    frames = directions(chance.normal(size=(50, 8)).astype(np.float32))
    samples = {Modality.IMAGE: frames[:3], Modality.VIDEO_FRAME: frames}
    estimated = estimate_calibration(samples, {Modality.IMAGE: 3, Modality.VIDEO_FRAME: 50}, 1)
    assert not np.allclose(estimated.means[Modality.VIDEO_FRAME], estimated.means[Modality.IMAGE])
    assert (Modality.IMAGE, Modality.VIDEO_FRAME) in estimated.pair_scores
