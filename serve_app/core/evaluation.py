"""From ranked results to the field's figures, with confidence intervals. Pure NumPy; knows no search and no files.

A page of results is a row of gains, [depth]: what the result at each place is worth, 0 where it answers nothing. From the gains
of all queries, [n, depth], come

    recall@k         share of queries with an answer among the first k, as CLIP's papers have it (Success@k elsewhere)
    capped_recall@k  share of a query's answers among the first k, of k at most (R_cap@k of BEIR, arXiv:2104.08663)
    mrr              mean of 1 / place of the first answer; 0 where there is none
    ndcg@k           gains over log2(place + 1), over that of the ideal order (Järvelin and Kekäläinen 2002)
    median_rank      of the first answer, from 1; infinite where it is not among the `depth` results of half of the queries

With one answer a query the first two are the same. Intervals are those of the percentile bootstrap over queries: queries are
drawn anew with replacement, so they say what other queries of this kind would have given, not what another model would.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Gains = npt.NDArray[np.float64]
"""Shape [n, depth]: what the result at each place is worth to each query."""
Values = npt.NDArray[np.float64]
"""Shape [n]: a measure of each query."""

CUTS = (1, 5, 10)
DRAWS = 1000
# Numbers of one part of the bootstrap's weights: 32 MB.
_PART = 4_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A measure over all queries, and the interval that holds 95 % of its bootstrapped values."""

    value: float
    low: float
    high: float


def gains_of(found: Sequence[Sequence[str]], relevant: Sequence[Mapping[str, float]], depth: int) -> Gains:
    """The gains of pages of ids, best first, [n, depth]. A page that is short, or names an id again, gains nothing there."""
    gains = np.zeros((len(found), depth))
    for row, ids, wanted in zip(gains, found, relevant, strict=True):
        left = dict(wanted)
        for place, document_id in enumerate(ids[:depth]):
            row[place] = left.pop(document_id, 0.0)
    return gains


def first_ranks(gains: Gains) -> Values:
    """The place of the first answer, from 1; infinite where there is none."""
    good = gains > 0
    return np.where(good.any(axis=1), good.argmax(axis=1) + 1.0, math.inf)


def recall(gains: Gains, k: int) -> Values:
    """1 where an answer is among the first k, else 0."""
    return np.asarray((gains[:, :k] > 0).any(axis=1), np.float64)


def capped_recall(gains: Gains, answers: npt.NDArray[np.int64], k: int) -> Values:
    """The share of the answers, of which there are `answers` [n], at least one, that is among the first k; of k at most."""
    return np.asarray((gains[:, :k] > 0).sum(axis=1) / np.minimum(answers, k), np.float64)


def ndcg(gains: Gains, ideal: Gains, k: int = 10) -> Values:
    """Of the first k, 0 to 1. `ideal`: the gains of the ideal order, [n, k or more]."""
    discount = 1.0 / np.log2(np.arange(k) + 2)

    def worth(rows: Gains) -> Values:
        return np.asarray(rows[:, :k] @ discount[: rows.shape[1]], np.float64)

    return worth(gains) / worth(ideal)


def ideal_gains(relevant: Sequence[Mapping[str, float]], k: int = 10) -> Gains:
    """The gains of the order that has the best answers first, [n, k]."""
    ideal = np.zeros((len(relevant), k))
    for row, wanted in zip(ideal, relevant, strict=True):
        best = sorted(wanted.values(), reverse=True)[:k]
        row[: len(best)] = best
    return ideal


def measures(gains: Gains, relevant: Sequence[Mapping[str, float]]) -> dict[str, Values]:
    """Every measure of each query, all of which have an answer, but for the median rank."""
    answers = np.array([len(wanted) for wanted in relevant])
    ranks = first_ranks(gains)
    return {
        **{f"recall@{k}": recall(gains, k) for k in CUTS},
        "capped_recall@10": capped_recall(gains, answers, 10),
        "mrr": np.asarray(1.0 / ranks, np.float64),
        "ndcg@10": ndcg(gains, ideal_gains(relevant), 10),
    }


def figures(gains: Gains, relevant: Sequence[Mapping[str, float]], seed: int, draws: int = DRAWS) -> dict[str, Figure]:
    """Every figure over the queries, with its interval; nothing where there are no queries."""
    if not len(gains):
        return {}
    of_queries = measures(gains, relevant)
    intervals = bootstrap_means(np.stack(list(of_queries.values()), axis=1), seed, draws)
    found = {
        name: Figure(float(values.mean()), *bounds)
        for (name, values), bounds in zip(of_queries.items(), intervals, strict=True)
    }
    ranks = first_ranks(gains)
    return {**found, "median_rank": Figure(float(np.median(ranks)), *bootstrap_median(ranks, seed, draws))}


def recall_curve(gains: Gains, seed: int, draws: int = DRAWS) -> tuple[list[int], list[Figure]]:
    """Recall at growing k up to the depth: about ten steps for each power of ten."""
    depth = gains.shape[1]
    cuts = sorted({round(10 ** (step / 10)) for step in range(math.floor(10 * math.log10(depth)) + 1)} | {depth})
    hits = np.stack([recall(gains, k) for k in cuts], axis=1)
    intervals = bootstrap_means(hits, seed, draws)
    return cuts, [Figure(float(value), *bounds) for value, bounds in zip(hits.mean(axis=0), intervals, strict=True)]


def bootstrap_means(values: npt.NDArray[np.float64], seed: int, draws: int = DRAWS) -> list[tuple[float, float]]:
    """The 95 % interval of the mean of each column of [n, measures].

    A resample of queries is a vector of how often each was drawn; so all means of all resamples are one matrix product.
    """
    means = np.concatenate([weights @ values for weights in resamples(len(values), seed, draws)]) / len(values)
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def bootstrap_median(values: Values, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % interval of the median; a bound may be infinite."""
    count = len(values)
    ordered = np.sort(values)
    order = np.argsort(values, kind="stable")
    # The two middle ones of each resample, which are one where the count is odd.
    middles = ((count + 1) // 2, count // 2 + 1)
    medians = []
    for weights in resamples(count, seed, draws):
        drawn = np.cumsum(weights[:, order], axis=1)
        medians.append(sum(ordered[(drawn >= middle).argmax(axis=1)] for middle in middles) / 2.0)
    # The inverse of the distribution: between two places, one of them infinite, nothing can be interpolated.
    low, high = np.quantile(np.concatenate(medians), (0.025, 0.975), method="inverted_cdf")
    return float(low), float(high)


def resamples(count: int, seed: int, draws: int) -> Iterator[npt.NDArray[np.float64]]:
    """How often each query stands in each resample, [draws, count] in parts. The same for every measure of one run."""
    random = np.random.default_rng(seed)
    even = np.full(count, 1.0 / count)
    part = max(1, _PART // count)
    for start in range(0, draws, part):
        yield random.multinomial(count, even, size=min(part, draws - start)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Of refusing what has no answer. None where nothing lacks an answer, or nothing was refused."""

    precision: float | None
    recall: float | None


def refusal(refused: Sequence[bool], hopeless: Sequence[bool]) -> Refusal:
    """`refused`: nothing found was sure enough; `hopeless`: nothing answers it."""
    if not any(hopeless):
        return Refusal(None, None)
    right = sum(no and without for no, without in zip(refused, hopeless, strict=True))
    return Refusal(right / sum(refused) if any(refused) else None, right / sum(hopeless))


def share(flags: Sequence[bool]) -> float | None:
    """The share of those that are true; None of nothing."""
    return sum(flags) / len(flags) if flags else None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of zero-shot classification: a picture is right in the first k where its class is among its k best labels."""

    top1: Figure
    top5: Figure
    per_class: Mapping[str, float]  # top-1
    confused: Sequence[tuple[str, str, int]]  # class, the other label that stood first, how often; the commonest first


def accuracy(classes: Sequence[str], best: Sequence[Sequence[str]], seed: int, draws: int = DRAWS) -> Accuracy:
    """Of pictures of these classes, at least one, whose labels are `best`, best first."""
    ranked = zip(classes, best, strict=True)
    hits = np.array([[right in labels[:1], right in labels[:5]] for right, labels in ranked], np.float64)
    means, intervals = hits.mean(axis=0).tolist(), bootstrap_means(hits, seed, draws)
    names = list(dict.fromkeys(classes))
    of_class = {name: [hit for hit, own in zip(hits[:, 0], classes, strict=True) if own == name] for name in names}
    wrong: dict[tuple[str, str], int] = {}
    for right, labels in zip(classes, best, strict=True):
        if labels and labels[0] != right:
            wrong[right, labels[0]] = wrong.get((right, labels[0]), 0) + 1
    return Accuracy(
        Figure(means[0], *intervals[0]),
        Figure(means[1], *intervals[1]),
        {name: float(np.mean(values)) for name, values in of_class.items()},
        [(*pair, times) for pair, times in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))],
    )
