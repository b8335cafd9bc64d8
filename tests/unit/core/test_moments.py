"""A video is one result at its best moment, at the place that this moment has, whatever page is asked for."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.core.ordering import FRAMES_PER_ROW, Candidates, deeper, level_of, page, rows_of
from serve_app.core.ranking import empty_calibration
from serve_app.core.videos import frame_id, video_of
from serve_app.types import Document, Grouping, Hit, Modality, Ranking, StoredDocument, VectorQuery

FRAME, IMAGE, TEXT = Modality.VIDEO_FRAME, Modality.IMAGE, Modality.TEXT
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CANDIDATES = 10
NOTHING = empty_calibration()


def at_angle(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle), 0, 0], np.float32)


def frame(video: str, offset_s: float, angle: float, text: str | None = None) -> StoredDocument:
    document = Document(frame_id(video, offset_s), FRAME, "s3://b/v", text, "", {}, NOW, NOW, offset_s=offset_s)
    return StoredDocument(document, at_angle(angle), "f")


def picture(name: str, angle: float, text: str | None = None) -> StoredDocument:
    modality = IMAGE if text is None else TEXT
    return StoredDocument(Document(name, modality, None, text, "", {}, NOW, NOW), at_angle(angle), "f")


def search(rows: list[StoredDocument], ranking: Ranking = Ranking.COSINE, **options: Any) -> tuple[Hit, ...]:
    """As the retrieval does it: the nearest of each modality to the level's depth, and deeper where that is too shallow."""
    query = VectorQuery(at_angle(0.0), "f", ((IMAGE, 1.0),), (TEXT, IMAGE, FRAME), **{"limit": 5, **options})
    depth: int | None = level_of(query, CANDIDATES).rows
    while depth is not None:
        near = {}
        for modality in query.modalities:
            of_it = sorted(
                (row for row in rows if row.document.modality is modality), key=lambda row: -float(row.vector[0])
            )
            near[modality] = of_it[: rows_of(query, modality, depth) + len(query.exclude_ids)]
        matching = [row for row in rows if query.words and query.words in (row.document.text or "")]
        found = Candidates(near, matching[:depth], len(rows), depth)
        hits = page(query, found, ranking, NOTHING, CANDIDATES)
        depth = deeper(query, found, hits, CANDIDATES)
    return hits


def test_a_video_is_one_result_at_its_best_moment() -> None:
    rows = [frame("v", offset, abs(offset - 20) / 50) for offset in range(0, 40, 2)]
    (hit,) = search(rows)
    assert hit.document.offset_s == 20
    assert [moment.offset_s for moment in hit.moments] == [20, 14, 26, 32, 8]
    assert hit.moments[0].id == hit.document.id
    assert hit.moments[0].score == pytest.approx(hit.score)
    assert [moment.score for moment in hit.moments] == sorted((moment.score for moment in hit.moments), reverse=True)


def test_without_grouping_every_frame_is_a_result_and_tells_of_no_moments() -> None:
    hits = search([frame("v", at, at / 50) for at in range(4)], group_by=Grouping.NONE)
    assert [hit.document.offset_s for hit in hits] == [0, 1, 2, 3]
    assert all(hit.moments == () for hit in hits)


def test_pictures_and_texts_keep_their_places_beside_a_video_of_many_good_frames() -> None:
    rows = [*(frame("v", at, 0.01 + at / 1e4) for at in range(9)), picture("p", 0.2), picture("t", 0.1, "words")]
    assert [hit.document.id for hit in search(rows)] == ["v#t=0.000", "t", "p"]


def test_a_video_of_thousands_of_good_frames_hides_no_other_video() -> None:
    rows = [frame("long", float(at), at / 1e5) for at in range(FRAMES_PER_ROW * CANDIDATES + 30)]
    rows += [frame(f"other-{name}", 1.0, 0.5 + name / 10) for name in range(4)]
    assert [video_of(hit.document.id, FRAME) for hit in search(rows)] == [
        "long",
        *(f"other-{name}" for name in range(4)),
    ]


def test_the_text_of_a_video_counts_once_for_all_its_frames() -> None:
    rows = [frame("v", float(at), 0.5 + at / 1e3, "harbour") for at in range(8)]
    rows += [picture("t", 0.9, "harbour"), picture("p", 0.1)]
    hits = search(rows, Ranking.HYBRID, words="harbour")
    assert sorted(hit.document.id for hit in hits) == ["p", "t", "v#t=0.000"]
    assert hits[-1].document.id == "t"


def test_who_asks_by_a_frame_gets_other_videos() -> None:
    rows = [frame(video, float(at), at / 50) for video in ("asked", "other") for at in range(3)]
    assert [hit.document.id for hit in search(rows, exclude_ids=("asked#t=1.000",))] == ["other#t=0.000"]
    ungrouped = search(rows, exclude_ids=("asked#t=1.000",), group_by=Grouping.NONE, limit=9)
    assert len(ungrouped) == 5


CHANCE = np.random.default_rng(11)
MANY = [
    *(frame(f"v{video}", float(at), float(CHANCE.uniform(0, 1.5))) for video in range(25) for at in range(video * 4)),
    *(picture(f"p{at:02}", float(CHANCE.uniform(0, 1.5))) for at in range(30)),
    *(picture(f"t{at:02}", float(CHANCE.uniform(0, 1.5)), f"words {at}") for at in range(30)),
]


@settings(deadline=None, max_examples=60, database=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    ranking=st.sampled_from(list(Ranking)),
    diversity=st.sampled_from([0.0, 0.4]),
    frames_only=st.booleans(),
    min_score=st.sampled_from([None, 0.5]),
)
def test_pages_put_together_are_the_long_page_and_no_video_comes_twice(
    sizes: list[int], ranking: Ranking, diversity: float, frames_only: bool, min_score: float | None
) -> None:
    rows = [row for row in MANY if row.document.modality is FRAME] if frames_only else MANY
    options: dict[str, Any] = {"diversity": diversity, "words": "words 1", "min_score": min_score}
    whole = search(rows, ranking, limit=sum(sizes), **options)
    parts = [
        hit
        for size, end in zip(sizes, np.cumsum(sizes), strict=True)
        for hit in search(rows, ranking, limit=size, offset=int(end) - size, **options)
    ]
    assert [hit.document.id for hit in parts] == [hit.document.id for hit in whole]
    assert [hit.moments for hit in parts] == [hit.moments for hit in whole]
    found = [video_of(hit.document.id, hit.document.modality) or hit.document.id for hit in whole]
    assert len(set(found)) == len(found)


def test_every_video_is_found_by_who_pages_to_the_end() -> None:
    rows = [row for row in MANY if row.document.modality is FRAME]
    hits = search(rows, limit=40)
    assert {video_of(hit.document.id, FRAME) for hit in hits} == {f"v{video}" for video in range(1, 25)}
