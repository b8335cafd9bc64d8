"""Scores that can be compared across modalities. Knows nothing of LanceDB, of HTTP, or of how results are put in order.

The spaces of CLIP-like models have a modality gap: any text lies nearer to any text than to the right picture (Liang et al.
2022, arXiv:2203.02053). Taking each modality's mean away closes it (GR-CLIP, arXiv:2507.19054):

    c(q, d) = cos(q - mean[modality of q], d - mean[modality of d])

What is left is a difference in spread: a caption and its picture agree less than two wordings of one caption do, and strangers
disagree less by the same factor. So a score counts in standard deviations of unrelated pairs of the two modalities:

    score(q, d) = (c(q, d) - pair mean) / pair deviation

Unrelated scores are then close to a standard normal, and the best of n of them stays below a score with the probability
Phi(score) ** n, which is its confidence. docs/ranking.md has the measurements.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from serve_app.core.vectors import cosines, unit
from serve_app.errors import InvalidVector
from serve_app.types import Calibration, FloatMatrix, FloatVector, Modality, PairScores, VectorQuery

# A mean of n vectors is drawn towards zero by n / (n + PRIOR_ROWS): one lonely document must not be its own mean, which
# would leave nothing of it.
PRIOR_ROWS = 2
# Rows of each modality whose pairs are scored: 512 x 512 pairs give the mean and the deviation to three digits.
PAIR_ROWS = 512
# Sampled pictures from which on a video's frames are measured by what is known of pictures: see `estimate_calibration`.
ENOUGH_PICTURES = 64
# The spread of n pairs is drawn towards this as if that many more had been seen: three documents say nothing of a spread.
PRIOR_PAIRS = 30
PRIOR_DEVIATION = 0.2
# How far a search starts from the mean towards the query; see `aim`.
AIMED_SCORE = 0.5

UNKNOWN_PAIR = PairScores(0.0, PRIOR_DEVIATION)


def empty_calibration() -> Calibration:
    """Of a table without rows: no means, and the prior spread for every pair."""
    return Calibration(version=0, row_counts={}, means={}, pair_scores={})


def estimate_calibration(
    samples: Mapping[Modality, FloatMatrix], row_counts: Mapping[Modality, int], version: int
) -> Calibration:
    """Means and spreads of unrelated pairs from sampled raw vectors [n, d] of each modality that has any.

    A frame of a video is a picture to the encoder, so its gap is that of pictures. Thousands of frames may be of a few videos
    and nearly alike: their own mean would be what these videos show, and taking it away would leave nothing of it. Where there
    are ENOUGH_PICTURES frames are therefore centred and scaled as pictures are.
    """
    as_pictures = len(samples.get(Modality.IMAGE, ())) >= ENOUGH_PICTURES and len(samples.get(Modality.VIDEO_FRAME, ()))
    if as_pictures:
        estimated = estimate_calibration(
            {**samples, Modality.VIDEO_FRAME: samples[Modality.IMAGE][:0]}, row_counts, version
        )
        return _with_frames_as_pictures(estimated)
    present = {modality: rows for modality, rows in samples.items() if len(rows)}
    means = {
        modality: (rows.mean(axis=0) * (len(rows) / (len(rows) + PRIOR_ROWS))).astype(np.float32)
        for modality, rows in present.items()
    }
    centred = {modality: directions(rows[:PAIR_ROWS] - means[modality]) for modality, rows in present.items()}
    pair_scores = {}
    for query_modality, queries in centred.items():
        for document_modality, documents in centred.items():
            scores = queries @ documents.T
            if query_modality is document_modality:
                scores = scores[~np.eye(len(queries), dtype=bool)]
            pair_scores[query_modality, document_modality] = _spread(scores.ravel())
    return Calibration(version=version, row_counts=dict(row_counts), means=means, pair_scores=pair_scores)


def _with_frames_as_pictures(calibration: Calibration) -> Calibration:
    pairs: dict[tuple[Modality, Modality], PairScores] = dict(calibration.pair_scores)
    for (query, document), scores in calibration.pair_scores.items():
        pairs.update(((one, other), scores) for one in _alike(query) for other in _alike(document))
    means = {**calibration.means, Modality.VIDEO_FRAME: calibration.means[Modality.IMAGE]}
    return replace(calibration, means=means, pair_scores=pairs)


def _alike(modality: Modality) -> tuple[Modality, ...]:
    return (modality, Modality.VIDEO_FRAME) if modality is Modality.IMAGE else (modality,)


def needs_calibration(calibration: Calibration, row_counts: Mapping[Modality, int], growth: float) -> bool:
    """Whether a modality grew or shrank by more than the share `growth` since its mean was estimated."""
    return any(
        abs(row_counts.get(modality, 0) - calibration.row_counts.get(modality, 0))
        > growth * calibration.row_counts.get(modality, 0)
        for modality in Modality
    )


def centred_query(query: VectorQuery, calibration: Calibration) -> FloatVector:
    """The query without the means of what it was made of, of unit length; zero if nothing is left of it.

    The mean of a weighted sum is the same weighted sum of the parts' means.
    """
    means = [weight * calibration.means[each] for each, weight in query.made_of if each in calibration.means]
    left = query.vector - np.sum(means, axis=0) if means else query.vector
    centred: FloatVector = directions(left[None])[0]
    return centred


def aim(centred: FloatMatrix, modality: Modality, calibration: Calibration) -> FloatMatrix:
    """For each centred query the unit vector whose nearest raw vectors, by plain cosine, have the best scores of a modality.

    For unit d, c(q, d) >= t is q·d - t |d - m| >= q·m with the centred query q and the mean m. |d - m| is close to its own mean
    s, and its slope in d is -m / s: so the d beyond the threshold are those that are far along q + (t / s) m. One t will
    do for all: measured, the best 50 of 3,500 pictures lie within 100 found with t = 0.5 to 0.999, within 100 found with the
    query as it is to 0.73 at the gap of a real CLIP. It also points where that modality lies, which an index wants.
    """
    mean = calibration.means.get(modality)
    if mean is None:
        return centred
    spread = math.sqrt(max(1.0 - float(mean @ mean), 1e-3))
    return directions(centred + (AIMED_SCORE / spread) * mean)


def calibrated_scores(
    query: VectorQuery, rows: FloatMatrix, modalities: Sequence[Modality], calibration: Calibration
) -> FloatVector:
    """Scores [n] of raw vectors [n, d] of these modalities, in standard deviations of unrelated pairs."""
    plain = cosines(centred_query(query, calibration), centred_rows(rows, modalities, calibration))
    pairs = {modality: pair_of(query, modality, calibration) or UNKNOWN_PAIR for modality in set(modalities)}
    means = np.array([pairs[modality].mean for modality in modalities], np.float32)
    deviations = np.array([pairs[modality].std for modality in modalities], np.float32)
    scores: FloatVector = (plain - means) / deviations
    return scores


def centred_rows(rows: FloatMatrix, modalities: Sequence[Modality], calibration: Calibration) -> FloatMatrix:
    """Raw vectors [n, d] without the means of their modalities, not of unit length."""
    nothing = np.zeros(rows.shape[1], np.float32)
    return rows - np.stack([calibration.means.get(modality, nothing) for modality in modalities])


def pair_of(query: VectorQuery, modality: Modality, calibration: Calibration) -> PairScores | None:
    """The spread of unrelated pairs of the query and one modality; None where the table has none of the query's kind.

    That of a composed query lies between those of its parts, as their weights do.
    """
    found = [(abs(weight), calibration.pair_scores.get((each, modality))) for each, weight in query.made_of]
    total = sum(weight for weight, _ in found)
    if total == 0.0 or any(pair is None for _, pair in found):
        return None
    mean = sum(weight * pair.mean for weight, pair in found if pair is not None) / total
    return PairScores(mean, sum(weight * pair.std for weight, pair in found if pair is not None) / total)


def confidence(score: float, rows_searched: int) -> float:
    """The probability that the best of so many unrelated rows scores lower than `score` (a calibrated one)."""
    above = 0.5 * math.erfc(score / math.sqrt(2.0))
    return 0.0 if above >= 1.0 else math.exp(rows_searched * math.log1p(-above))


def directions(rows: FloatMatrix) -> FloatMatrix:
    """Rows of unit length; zero rows stay zero."""
    lengths: FloatVector = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def compose(
    vectors: Sequence[FloatVector], modalities: Sequence[Modality], weights: Sequence[float]
) -> tuple[FloatVector, tuple[tuple[Modality, float], ...]]:
    """The unit vector of a weighted sum of unit vectors, and what it is made of (VectorQuery.made_of).

    Raises InvalidVector where nothing is left of the sum.
    """
    total = np.sum(
        [weight * vector.astype(np.float64) for vector, weight in zip(vectors, weights, strict=True)], axis=0
    )
    length = float(np.linalg.norm(total))
    # What rounding leaves of a vector that was taken from itself points nowhere.
    if not length > 1e-5 * max(map(abs, weights)):
        raise InvalidVector("the parts of the query cancel each other out: nothing is left to search for")
    made_of = tuple((modality, weight / length) for modality, weight in zip(modalities, weights, strict=True))
    return unit((total / length).astype(np.float32)), made_of


def _spread(scores: FloatVector) -> PairScores:
    count = len(scores)
    mean = float(scores.sum()) / (count + PRIOR_PAIRS)
    squares = float(np.square(scores, dtype=np.float64).sum()) + PRIOR_PAIRS * PRIOR_DEVIATION**2
    return PairScores(mean, math.sqrt(max(squares / (count + PRIOR_PAIRS) - mean**2, 1e-6)))
