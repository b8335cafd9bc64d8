"""How the frames of a video are called and told apart. Pure; knows no codec, no table and no HTTP.

A video is not a row: its frames are, `<id of the video>#t=<seconds>`. What all of them share is the content: a hash of the
video's bytes, of which frames were taken, and of how many there are. So a video whose frames are not all there is never taken
for one that is.
"""

import posixpath
from urllib.parse import urlsplit

from serve_app.core.ids import check_document_id, sha256_of
from serve_app.errors import InvalidDocumentId, InvalidRequest
from serve_app.types import And, Compare, Filter, FramePolicy, Modality, Operator

MARK = "#t="
# Of files that are taken for videos where only their names are known.
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".ogv", ".mpg", ".mpeg", ".ts", ".flv"})
MAX_VIDEO_ID_CHARACTERS = 480
MIN_EVERY_S, MAX_EVERY_S = 0.1, 3600.0


def is_video_uri(uri: str) -> bool:
    """By its name; what it really is, the reader of videos finds out."""
    return posixpath.splitext(urlsplit(uri).path)[1].lower() in VIDEO_SUFFIXES


def frame_id(video_id: str, offset_s: float) -> str:
    """Such as `holiday.mp4#t=12.500`."""
    return f"{video_id}{MARK}{offset_s:.3f}"


def video_of(document_id: str, modality: Modality) -> str | None:
    """The video that a document is a frame of, None for anything else."""
    return document_id.rpartition(MARK)[0] or document_id if modality is Modality.VIDEO_FRAME else None


def frames_of(video_id: str) -> Filter:
    """What all frames of a video match, and nothing else."""
    is_frame = Compare("modality", Operator.EQ, Modality.VIDEO_FRAME.value)
    return And((is_frame, Compare("id", Operator.PREFIX, video_id + MARK)))


def frames_of_others(video_id: str, content_sha256: str) -> Filter:
    """The frames that are left of another content of this video."""
    return And((frames_of(video_id), Compare("content_sha256", Operator.NE, content_sha256)))


def video_content(video_sha256: str, policy: FramePolicy, frame_px: int, frames: int) -> str:
    """The `content_sha256` of each frame. `video_sha256`: of the file. `frames`: how many were taken of it."""
    taken = "scenes" if policy.every_s is None else f"every {policy.every_s:g} s"
    return sha256_of(f"{video_sha256}\n{taken}, {frame_px} px\n{frames} frames".encode())


def check_video_id(value: str) -> None:
    """Raises InvalidDocumentId for what no frame could be called after."""
    check_document_id(value)
    if len(value) > MAX_VIDEO_ID_CHARACTERS or MARK in value:
        raise InvalidDocumentId(
            f"the id of a video has at most {MAX_VIDEO_ID_CHARACTERS} characters and no {MARK!r}: its frames are called "
            f"by it, {MARK!r} and the second"
        )


def check_policy(policy: FramePolicy) -> None:
    """Raises InvalidRequest."""
    if policy.every_s is not None and not MIN_EVERY_S <= policy.every_s <= MAX_EVERY_S:
        raise InvalidRequest(f"a frame is taken every {MIN_EVERY_S:g} to {MAX_EVERY_S:g} seconds (every_s)")
