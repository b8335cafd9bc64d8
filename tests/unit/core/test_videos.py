"""How frames are called, and when a video's frames are its own."""

import pytest

from serve_app.core.videos import (
    check_policy,
    check_video_id,
    frame_id,
    frames_of,
    frames_of_others,
    video_content,
    video_of,
)
from serve_app.errors import InvalidDocumentId, InvalidRequest
from serve_app.types import And, Compare, FramePolicy, Modality, Operator

FRAME = Modality.VIDEO_FRAME


def test_a_frame_is_called_by_its_video_and_its_moment() -> None:
    assert frame_id("a/b.mp4", 12.5) == "a/b.mp4#t=12.500"
    assert video_of("a/b.mp4#t=12.500", FRAME) == "a/b.mp4"
    assert video_of("a/b.mp4#t=12.500", Modality.IMAGE) is None
    assert video_of("of nobody's making", FRAME) == "of nobody's making"


def test_what_frames_of_a_video_match_names_no_other_kind() -> None:
    where = And((Compare("modality", Operator.EQ, "video_frame"), Compare("id", Operator.PREFIX, "a#t=")))
    assert frames_of("a") == where
    assert frames_of_others("a", "c" * 64) == And((where, Compare("content_sha256", Operator.NE, "c" * 64)))


def test_the_content_changes_with_the_bytes_the_choice_and_the_number_of_frames() -> None:
    contents = {
        video_content("a" * 64, FramePolicy(2.0), 640, 7),
        video_content("b" * 64, FramePolicy(2.0), 640, 7),
        video_content("a" * 64, FramePolicy(1.0), 640, 7),
        video_content("a" * 64, FramePolicy(None), 640, 7),
        video_content("a" * 64, FramePolicy(2.0), 320, 7),
        video_content("a" * 64, FramePolicy(2.0), 640, 6),
    }
    assert len(contents) == 6


@pytest.mark.parametrize("video_id", ["", " a", "a#t=1", "x" * 481])
def test_an_id_that_no_frame_could_be_called_by_is_refused(video_id: str) -> None:
    with pytest.raises(InvalidDocumentId):
        check_video_id(video_id)


@pytest.mark.parametrize("every_s", [0.0, -1.0, 1e9, float("nan")])
def test_a_step_that_is_none_is_refused(every_s: float) -> None:
    with pytest.raises(InvalidRequest):
        check_policy(FramePolicy(every_s))
