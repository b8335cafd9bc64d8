"""Frames of one video become one result with its best moments. Pure; knows no ranking but its scores."""

from collections.abc import Iterable, Sequence

from serve_app.core.videos import MARK, video_of
from serve_app.types import Document, Moment, StoredDocument

MAX_MOMENTS = 5
# Frames nearer to a better one show the same moment.
APART_S = 5.0


def videos_of(documents: Iterable[Document]) -> set[str]:
    """The videos that any of these documents is a frame of."""
    found = {video_of(document.id, document.modality) for document in documents}
    return {video for video in found if video is not None}


def likely_videos(ids: Iterable[str]) -> set[str]:
    """The videos that documents of these ids would be frames of."""
    return {document_id.rpartition(MARK)[0] for document_id in ids if MARK in document_id}


def represented(rows: Sequence[StoredDocument], order: Sequence[int]) -> dict[int, list[int]]:
    """What stands for what: by position, each row that is no frame for itself, each video's best frame for all of them.

    `order`: positions of `rows`, best first. Each list begins with its key.
    """
    stands: dict[int, list[int]] = {}
    first: dict[str, int] = {}
    for at in order:
        video = video_of(rows[at].document.id, rows[at].document.modality)
        best = at if video is None else first.setdefault(video, at)
        stands.setdefault(best, []).append(at)
    return stands


def moments_of(
    rows: Sequence[StoredDocument], frames: Sequence[int], scores: Sequence[float], sure: Sequence[float | None]
) -> tuple[Moment, ...]:
    """The best of a video's frames, best first, none within APART_S of a better one; nothing for what is no frame."""
    moments: list[Moment] = []
    for at in frames:
        document = rows[at].document
        if document.offset_s is None or len(moments) == MAX_MOMENTS:
            continue
        if all(abs(document.offset_s - other.offset_s) >= APART_S for other in moments):
            moments.append(Moment(document.id, document.offset_s, scores[at], sure[at]))
    return tuple(moments)
