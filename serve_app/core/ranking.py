"""One order for candidates of several modalities. Knows nothing of LanceDB or HTTP.

The spaces of CLIP-like models have a modality gap: any text lies nearer to any text than to the right picture (Liang et al.
2022, arXiv:2203.02053). Taking each modality's mean away closes it (GR-CLIP, arXiv:2507.19054):

    score(q, d) = cos(q - mean[modality of q], d - mean[modality of d])
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from serve_app.core.vectors import cosines
from serve_app.types import (
    Calibration,
    FloatMatrix,
    FloatVector,
    Hit,
    Modality,
    PairScores,
    Ranking,
    StoredDocument,
    VectorQuery,
)

# A mean of n vectors is drawn towards zero by n / (n + PRIOR_ROWS): one lonely document must not be its own mean, which
# would leave nothing of it.
PRIOR_ROWS = 2
# Rows of each modality whose pairs are scored: 512 x 512 pairs give the mean and the deviation to three digits.
PAIR_ROWS = 512


def empty_calibration() -> Calibration:
    """Of a table without rows: calibrated scores are then plain cosines."""
    return Calibration(version=0, row_counts={}, means={}, pair_scores={})


def estimate_calibration(
    samples: Mapping[Modality, FloatMatrix], row_counts: Mapping[Modality, int], version: int
) -> Calibration:
    """Means and scores of unrelated pairs from sampled raw vectors [n, d] of each modality that has any."""
    present = {modality: rows for modality, rows in samples.items() if len(rows)}
    means = {
        modality: (rows.mean(axis=0) * (len(rows) / (len(rows) + PRIOR_ROWS))).astype(np.float32)
        for modality, rows in present.items()
    }
    centred = {modality: _directions(rows[:PAIR_ROWS] - means[modality]) for modality, rows in present.items()}
    pair_scores = {}
    for query_modality, queries in centred.items():
        for document_modality, documents in centred.items():
            scores = queries @ documents.T
            if query_modality is document_modality:
                scores = scores[~np.eye(len(queries), dtype=bool)]
            if scores.size:
                pair_scores[query_modality, document_modality] = PairScores(float(scores.mean()), float(scores.std()))
    return Calibration(version=version, row_counts=dict(row_counts), means=means, pair_scores=pair_scores)


def needs_calibration(calibration: Calibration, row_counts: Mapping[Modality, int], growth: float) -> bool:
    """Whether a modality grew or shrank by more than the share `growth` since its mean was estimated."""
    return any(
        abs(row_counts.get(modality, 0) - calibration.row_counts.get(modality, 0))
        > growth * calibration.row_counts.get(modality, 0)
        for modality in Modality
    )


def effective_ranking(query: VectorQuery, row_counts: Mapping[Modality, int]) -> Ranking:
    """What was asked for; by default calibrated where more than one modality can be returned."""
    if query.ranking is not None:
        return query.ranking
    returnable = [modality for modality in query.modalities if row_counts.get(modality, 0)]
    return Ranking.CALIBRATED if len(returnable) > 1 else Ranking.COSINE


def rank(
    query: VectorQuery, candidates: Sequence[StoredDocument], ranking: Ranking, calibration: Calibration
) -> tuple[Hit, ...]:
    """The best `query.limit` candidates, re-scored exactly, best first; equal scores in the order of their ids."""
    wanted = [candidate for candidate in candidates if candidate.document.id != query.exclude_id]
    if not wanted:
        return ()
    rows = np.stack([candidate.vector for candidate in wanted])
    if ranking is Ranking.COSINE:
        scores = cosines(query.vector, rows)
    else:
        nothing = np.zeros(rows.shape[1], np.float32)
        means = np.stack([calibration.means.get(each.document.modality, nothing) for each in wanted])
        scores = cosines(query.vector - calibration.means.get(query.modality, nothing), rows - means)
    # Rounded, because the last bits of a product depend on the row's place in the matrix.
    order = sorted(range(len(wanted)), key=lambda at: (-round(float(scores[at]), 6), wanted[at].document.id))
    return tuple(
        Hit(
            document=wanted[at].document,
            score=float(scores[at]),
            confidence=None
            if ranking is Ranking.COSINE
            else _confidence(
                float(scores[at]), calibration.pair_scores.get((query.modality, wanted[at].document.modality))
            ),
        )
        for at in order[: query.limit]
    )


def _confidence(score: float, unrelated: PairScores | None) -> float | None:
    """The share of unrelated pairs that score lower, taking their scores as normally distributed."""
    if unrelated is None or unrelated.std == 0.0:
        return None
    return 0.5 * (1.0 + math.erf((score - unrelated.mean) / (unrelated.std * math.sqrt(2.0))))


def _directions(rows: FloatMatrix) -> FloatMatrix:
    lengths: FloatVector = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
