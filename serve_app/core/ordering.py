"""One order for the candidates of a query: scored, fused with full text, thinned of look-alikes, cut into pages.

Promises pages that fit together: whatever `offset` and `limit`, a place of the order is decided among the same candidates.
Places are decided by levels. The first `candidates / 5`, a usual page, are given to the best of the nearest `candidates / 2`
rows of each modality, those up to `candidates / 2` among `candidates` rows, those up to four times as many among four times as
many, and so on. Where a video is one result, four times as many frames are looked at, and a level that too few videos fill
hands its free places on to the next. Knows nothing of tables or HTTP.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from serve_app.core.moments import likely_videos, moments_of, represented, videos_of
from serve_app.core.ranking import calibrated_scores, centred_rows, confidence, directions, pair_of
from serve_app.core.vectors import cosines
from serve_app.types import (
    Calibration,
    FloatMatrix,
    FloatVector,
    Grouping,
    Hit,
    Modality,
    Moment,
    Ranking,
    StoredDocument,
    VectorQuery,
)

Scores: TypeAlias = npt.NDArray[np.float64]

GROWTH = 4
# Frames that are looked at for one of another modality, where they count as one result for each video.
FRAMES_PER_ROW = 4
# Of the levels, counted from 0, the one that is looked at for more videos if there are too few in those before.
DEEPEST = 2
# Decimals of a score. What a batch does to the last bits of a vector, 1e-7, must not part what is equally good; a calibrated
# score, in deviations, shows it ten times as large.
COSINE_DECIMALS = 5
CALIBRATED_DECIMALS = 4
# Of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): how little the first place is worth more than the next.
FUSION = 60


@dataclass(frozen=True, slots=True)
class Level:
    """The first `places` of the order are decided among `rows` candidates of each modality."""

    places: int
    rows: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may come back, best first: the nearest rows of each modality, and those that hold the query's words.

    `rows_searched`: how many rows the best were chosen from. `rows`: of the level that was read, None for the query's own.
    """

    nearest: Mapping[Modality, Sequence[StoredDocument]]
    matching: Sequence[StoredDocument] = ()
    rows_searched: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class _Scored:
    """Candidates and their figures, [n] each, in the order of their ids. `moments`: of those that stand for a video."""

    documents: Sequence[StoredDocument]
    scores: Scores
    confidences: Sequence[float | None]
    moments: Sequence[tuple[Moment, ...]] = ()


def effective_ranking(query: VectorQuery, row_counts: Mapping[Modality, int]) -> Ranking:
    """What was asked for; by default calibrated where more than one modality can be returned, or confidence is asked for."""
    if query.ranking is not None:
        return query.ranking
    returnable = [modality for modality in query.modalities if row_counts.get(modality, 0)]
    return Ranking.CALIBRATED if len(returnable) > 1 or query.min_confidence is not None else Ranking.COSINE


def levels(candidates: int) -> Iterator[Level]:
    """The levels, without end."""
    yield Level(max(candidates // 5, 1), max(candidates // 2, 1))
    places, rows = max(candidates // 2, 1), candidates
    while True:
        yield Level(places, rows)
        places, rows = GROWTH * places, GROWTH * rows


def level_of(query: VectorQuery, candidates: int) -> Level:
    """The first level that decides all places up to the end of the query's page."""
    return next(level for level in levels(candidates) if level.places >= query.offset + query.limit)


def rows_of(query: VectorQuery, modality: Modality, rows: int) -> int:
    """The candidates of one modality on a level of `rows`."""
    return FRAMES_PER_ROW * rows if modality is Modality.VIDEO_FRAME and query.group_by is Grouping.VIDEO else rows


def deeper(query: VectorQuery, found: Candidates, hits: Sequence[Hit], candidates: int) -> int | None:
    """The rows of the level to read, where a page is not full and there may be more videos; None where it stands as it is."""
    rows = found.rows or level_of(query, candidates).rows
    deepest = candidates * GROWTH**DEEPEST
    frames = found.nearest.get(Modality.VIDEO_FRAME, ())
    is_short = len(hits) < query.limit and query.group_by is Grouping.VIDEO
    is_cut = len(frames) >= rows_of(query, Modality.VIDEO_FRAME, rows)
    return deepest if is_short and is_cut and rows < deepest else None


def page(
    query: VectorQuery, found: Candidates, ranking: Ranking, calibration: Calibration, candidates: int
) -> tuple[Hit, ...]:
    """The hits from `query.offset` on, `query.limit` at most, re-scored from their raw vectors, rounded to some decimals; equal
    scores in the order of their ids.

    `found` has the rows of its level, and as many more as `query.exclude_ids` can take away.
    """
    wanted = query.offset + query.limit
    last_rows = found.rows or level_of(query, candidates).rows
    frames = found.nearest.get(Modality.VIDEO_FRAME, ())
    hits: list[Hit] = []
    placed: dict[str, StoredDocument] = {}
    for level in levels(candidates):
        pool = _pool(query, found, level.rows, ranking, calibration, list(placed.values()))
        for at in _order(query, pool, ranking, calibration, list(placed.values()), level.places - len(hits)):
            row = pool.documents[at]
            placed[row.document.id] = row
            vector = row.vector if query.vectors else None
            hits.append(Hit(row.document, float(pool.scores[at]), pool.confidences[at], vector, pool.moments[at]))
        # Where a level cannot fill its places, the order ends: what more rows would give depends on how many were asked for.
        # Unless frames were cut off, whose videos the next level knows.
        is_cut = query.group_by is Grouping.VIDEO and len(frames) >= rows_of(query, Modality.VIDEO_FRAME, level.rows)
        ends = len(hits) < level.places and not is_cut
        if ends or level.rows >= last_rows or len(hits) >= wanted:
            break
    return tuple(hits[query.offset : wanted])


def _pool(
    query: VectorQuery,
    found: Candidates,
    rows: int,
    ranking: Ranking,
    calibration: Calibration,
    placed: Sequence[StoredDocument],
) -> _Scored:
    """The candidates of a level that have no place yet and are good enough; of each video the best frame."""
    groups = query.group_by is Grouping.VIDEO
    gone = {*query.exclude_ids, *(each.document.id for each in placed)}
    # Whoever asks by a frame wants other videos.
    gone_videos = videos_of(each.document for each in placed) | likely_videos(query.exclude_ids) if groups else set()

    def left(part: Sequence[StoredDocument], most: int) -> list[StoredDocument]:
        return [each for each in part if each.document.id not in query.exclude_ids][:most]

    # Frames were looked for by themselves.
    of_frames, of_others = _parted(found.matching)
    with_words = {each.document.id for each in (*left(of_frames, rows), *left(of_others, rows))}
    matching = [each for each in found.matching if each.document.id in with_words]
    lists = [left(part, rows_of(query, modality, rows)) for modality, part in found.nearest.items()]
    chosen = {each.document.id: each for part in (*lists, matching) for each in part}
    documents = [chosen[document_id] for document_id in sorted(chosen)]
    if not documents:
        return _Scored([], np.zeros(0), [])
    vectors = np.stack([each.vector for each in documents])
    modalities = [each.document.modality for each in documents]
    calibrated = _rounded(calibrated_scores(query, vectors, modalities, calibration), CALIBRATED_DECIMALS)
    known = {each: pair_of(query, each, calibration) is not None for each in set(modalities)}
    confidences = [
        confidence(float(score), found.rows_searched) if known[modality] else None
        for score, modality in zip(calibrated, modalities, strict=True)
    ]
    is_plain = ranking is Ranking.COSINE
    plain = _rounded(cosines(query.vector, vectors), COSINE_DECIMALS) if is_plain else calibrated
    order = _descending(plain)
    stands = represented(documents, order) if groups else {at: [at] for at in order}
    kept = sorted(stands)
    scores = plain[kept]
    if ranking is Ranking.HYBRID:
        by_id = {
            documents[at].document.id: documents[best].document.id for best, all_of in stands.items() for at in all_of
        }
        words = list(dict.fromkeys(by_id[each.document.id] for each in matching))
        scores = _fused([documents[at] for at in kept], calibrated[kept], words)
    good = [
        (place, at)
        for place, at in enumerate(kept)
        if documents[at].document.id not in gone
        and not (gone_videos and videos_of([documents[at].document]) & gone_videos)
        and _good_enough(query, float(scores[place]), confidences[at])
    ]
    told = plain.tolist()
    return _Scored(
        [documents[at] for _, at in good],
        scores[[place for place, _ in good]],
        [confidences[at] for _, at in good],
        [moments_of(documents, stands[at], told, confidences) if groups else () for _, at in good],
    )


def _rounded(scores: FloatVector, decimals: int) -> Scores:
    """In float64, where 0.7 is what a user writes for `min_score`, and not a little less."""
    return scores.astype(np.float64).round(decimals)


def _parted(rows: Sequence[StoredDocument]) -> tuple[list[StoredDocument], list[StoredDocument]]:
    frames = [each for each in rows if each.document.modality is Modality.VIDEO_FRAME]
    return frames, [each for each in rows if each.document.modality is not Modality.VIDEO_FRAME]


def _good_enough(query: VectorQuery, score: float, sure: float | None) -> bool:
    return (query.min_score is None or score >= query.min_score) and (
        query.min_confidence is None or (sure is not None and sure >= query.min_confidence)
    )


def _fused(documents: Sequence[StoredDocument], calibrated: Scores, matching: Sequence[str]) -> Scores:
    """Reciprocal rank fusion of the vectors' order and the words' order.

    A document without text cannot hold the words. It is put beside the words' order at the place that it has, by vector, among
    those without text: the best picture gains what the best match gains, and beyond as many as match nobody gains.
    """
    by_vector = _descending(calibrated)
    fused = np.zeros(len(documents))
    fused[by_vector] = 1.0 / (FUSION + 1 + np.arange(len(documents)))
    place = {document_id: at for at, document_id in enumerate(matching)}
    wordless = 0
    for at in by_vector:
        document = documents[at].document
        words_place = place.get(document.id)
        if document.text is None:
            words_place = wordless if wordless < len(matching) else None
            wordless += 1
        if words_place is not None:
            fused[at] += 1.0 / (FUSION + 1 + words_place)
    return fused


def _order(
    query: VectorQuery,
    pool: _Scored,
    ranking: Ranking,
    calibration: Calibration,
    placed: Sequence[StoredDocument],
    places: int,
) -> list[int]:
    """Positions in the pool of those that come next, best first."""
    order = _descending(pool.scores)
    if query.diversity == 0.0 or not order:
        return order[:places]

    def comparable(documents: Sequence[StoredDocument]) -> FloatMatrix:
        rows = np.array([each.vector for each in documents], np.float32).reshape(len(documents), len(query.vector))
        if ranking is not Ranking.COSINE and len(documents):
            rows = centred_rows(rows, [each.document.modality for each in documents], calibration)
        return directions(rows)

    return _spread_out(pool.scores, comparable(pool.documents), comparable(placed), order, query.diversity, places)


def _descending(scores: Scores) -> list[int]:
    """Positions, best first, equals as they stand (by id)."""
    return [int(at) for at in np.argsort(-scores, kind="stable")]


def _spread_out(
    scores: Scores,
    rows: FloatMatrix,
    placed: FloatMatrix,
    order: Sequence[int],
    diversity: float,
    places: int,
) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998) over directions [n, d], after those placed [m, d] already.

    Next comes what has the most of (1 - diversity) * relevance - diversity * likeness to what was chosen before. Relevance is
    the score between the pool's worst (0) and best (1), likeness the greatest cosine to anything chosen, 0 at the start.
    """
    low, high = float(scores.min()), float(scores.max())
    relevance = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    likeness = (rows @ placed.T).max(axis=1) if len(placed) else None
    left = list(order)
    chosen: list[int] = []
    while left and len(chosen) < places:
        worth = (1.0 - diversity) * relevance - diversity * (0.0 if likeness is None else likeness)
        best = max(left, key=lambda at: round(float(worth[at]), 6))  # of equals the first, which is the better one
        left.remove(best)
        chosen.append(best)
        to_best = rows @ rows[best]
        likeness = to_best if likeness is None else np.maximum(likeness, to_best)
    return chosen
