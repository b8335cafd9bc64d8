import pytest

from serve_app.errors import InvalidRequest
from serve_app.services.classify import MAX_PROBABILITIES, ClassifyService
from serve_app.types import ClassifiedPicture, ClassifyRequest
from tests.fakes.parts import picture_of
from tests.unit.services.conftest import System

LABELS = tuple(f"label {at}" for at in range(1_001))
TEMPLATES = ("{}",)


async def test_an_answer_of_too_many_numbers_is_refused_unless_the_best_are_enough(system: System) -> None:
    service = ClassifyService(system.embeddings, max_prompts=2_000)
    pictures = (picture_of("boat"),) * (MAX_PROBABILITIES // 1_000)
    with pytest.raises(InvalidRequest, match="set limit"):
        await service.classify(ClassifyRequest(pictures, LABELS, TEMPLATES))
    assert system.texts.encoded == []
    answer = await service.classify(ClassifyRequest(pictures, LABELS, TEMPLATES, limit=2))
    assert len(answer.pictures) == 200
    first = answer.pictures[0]
    assert isinstance(first, ClassifiedPicture)
    assert [each.label for each in first.labels] == ["label 0", "label 1"], "labels that tie keep their order"
