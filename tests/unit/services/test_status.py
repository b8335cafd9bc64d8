import numpy as np

from serve_app.core.ranking import PRIOR_ROWS
from serve_app.core.usual_texts import ENOUGH_TEXTS, USUAL_TEXTS
from serve_app.services.status import PROBE_TEXT
from serve_app.types import DocumentInput, Modality
from tests.fakes.parts import OTHER_CARD, FakeTextEncoding, picture_of
from tests.unit.services.conftest import System, make_system


async def test_ready_means_that_a_text_and_a_picture_went_all_the_way_and_the_table_is_open(system: System) -> None:
    readiness = await system.status.readiness()
    assert readiness.ready
    assert (system.texts.encoded, len(system.pictures.encoded)) == ([PROBE_TEXT, *USUAL_TEXTS], 1)
    assert readiness.table is not None
    assert readiness.table.fingerprint == system.texts.card.fingerprint


async def test_a_table_of_pictures_alone_is_calibrated_for_queries_in_words(system: System) -> None:
    await system.documents.add([DocumentInput(picture=picture_of(name)) for name in ("red boat", "cat")])
    await system.status.readiness()
    await system.indexing.settled()
    calibration = await system.table.calibration()
    assert (Modality.TEXT, Modality.IMAGE) in calibration.pair_scores
    assert calibration.row_counts[Modality.TEXT] == 0


async def test_a_table_with_texts_enough_needs_no_usual_ones(system: System) -> None:
    await system.documents.add([DocumentInput(text=f"text {number}") for number in range(ENOUGH_TEXTS)])
    system.texts.encoded.clear()
    await system.status.readiness()
    assert system.texts.encoded == [PROBE_TEXT]


async def test_usual_texts_step_back_where_a_table_has_enough_of_its_own(system: System) -> None:
    await system.documents.add([DocumentInput(picture=picture_of(name)) for name in ("red boat", "cat")])
    await system.status.readiness()  # brings the usual texts
    own = await system.documents.add([DocumentInput(text=f"text {number}") for number in range(ENOUGH_TEXTS)])
    await system.indexing.settled()
    vectors = await system.table.sample(Modality.TEXT, len(own))
    mean = (await system.table.calibration()).means[Modality.TEXT]
    np.testing.assert_allclose(mean, vectors.sum(axis=0) / (len(own) + PRIOR_ROWS), atol=1e-6)


async def test_a_table_of_another_encoder_is_a_reason_that_names_both_and_the_way_out(system: System) -> None:
    await system.documents.add([DocumentInput(text="red boat")])
    readiness = await make_system(system.table, FakeTextEncoding(OTHER_CARD)).status.readiness()
    assert not readiness.ready
    assert readiness.failure is not None
    assert readiness.failure.code == "fingerprint_mismatch"
    assert all(
        word in readiness.failure.message for word in ("fake", "ffffffffffff", "other", "eeeeeeeeeeee", "table.uri")
    )


async def test_two_encoders_of_different_models_are_not_ready(system: System) -> None:
    system.pictures.card = OTHER_CARD
    readiness = await system.status.readiness()
    assert readiness.failure is not None
    assert "different models" in readiness.failure.message
