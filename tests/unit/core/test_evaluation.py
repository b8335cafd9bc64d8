"""The figures of an evaluation: worked out by hand, and compared with a plain reckoning of other shape."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.core.evaluation import (
    accuracy,
    bootstrap_means,
    bootstrap_median,
    figures,
    gains_of,
    measures,
    recall_curve,
    refusal,
    resamples,
    share,
)

PAGES = [["a", "b", "c"], ["x", "y", "a"], ["x", "y", "z"]]
RELEVANT = [{"a": 1.0}, {"a": 1.0, "q": 1.0}, {"q": 1.0}]


def test_figures_are_those_that_a_hand_works_out() -> None:
    found = figures(gains_of(PAGES, RELEVANT, 10), RELEVANT, seed=0)
    second_ndcg = (1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert {name: figure.value for name, figure in found.items()} == {
        "recall@1": pytest.approx(1 / 3),
        "recall@5": pytest.approx(2 / 3),
        "recall@10": pytest.approx(2 / 3),
        "capped_recall@10": pytest.approx((1 + 0.5 + 0) / 3),
        "mrr": pytest.approx((1 + 1 / 3 + 0) / 3),
        "ndcg@10": pytest.approx((1 + second_ndcg + 0) / 3),
        "median_rank": 3.0,
    }


def test_graded_gains_count_in_ndcg_and_an_ideal_order_has_one() -> None:
    relevant = [{"best": 2.0, "good": 1.0}]
    ideal, swapped = (
        measures(gains_of([page], relevant, 10), relevant)["ndcg@10"][0]
        for page in (["best", "good"], ["good", "best"])
    )
    assert ideal == pytest.approx(1)
    assert swapped == pytest.approx((1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3)))


def test_an_id_that_stands_twice_gains_once_and_keeps_the_places_of_the_others() -> None:
    assert gains_of([["a", "a", "b"]], [{"a": 1.0, "b": 1.0}], 4).tolist() == [[1, 0, 1, 0]]


def test_what_comes_after_the_depth_was_not_found() -> None:
    assert gains_of([["x", "a"]], [{"a": 1.0}], 1).tolist() == [[0]]


def plainly(pages: Sequence[Sequence[str]], relevant: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """The same measures query by query, with sets and loops."""
    rows: dict[str, list[float]] = {}
    for page, wanted in zip(pages, relevant, strict=True):
        right = [place for place, each in enumerate(page, 1) if each in wanted]
        for k in (1, 5, 10):
            rows.setdefault(f"recall@{k}", []).append(float(bool(set(page[:k]) & set(wanted))))
        rows.setdefault("capped_recall@10", []).append(len(set(page[:10]) & set(wanted)) / min(10, len(wanted)))
        rows.setdefault("mrr", []).append(1 / right[0] if right else 0.0)
        worth = sum(wanted.get(each, 0) / math.log2(place + 1) for place, each in enumerate(page[:10], 1))
        best = sorted(wanted.values(), reverse=True)[:10]
        rows.setdefault("ndcg@10", []).append(worth / sum(gain / math.log2(at + 1) for at, gain in enumerate(best, 1)))
    return rows


IDS = [f"d{number}" for number in range(30)]
page_of_ids = st.lists(st.sampled_from(IDS), unique=True, max_size=25)
judged = st.dictionaries(st.sampled_from(IDS), st.sampled_from([0.5, 1.0, 3.0]), min_size=1, max_size=15)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(page_of_ids, judged), min_size=1, max_size=6))
def test_measures_are_those_of_a_plain_reckoning(asked: list[tuple[list[str], dict[str, float]]]) -> None:
    pages, relevant = [page for page, _ in asked], [wanted for _, wanted in asked]
    found = measures(gains_of(pages, relevant, 25), relevant)
    for name, values in plainly(pages, relevant).items():
        assert found[name].tolist() == pytest.approx(values), name


def test_the_curve_begins_at_recall_at_one_and_ends_at_the_depth() -> None:
    cuts, curve = recall_curve(gains_of(PAGES, RELEVANT, 50), seed=0)
    assert (cuts[0], cuts[-1]) == (1, 50)
    assert [curve[cuts.index(k)].value for k in (1, 2, 3, 50)] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])


# ---- intervals


def test_a_seed_gives_the_same_intervals_again_and_another_one_others() -> None:
    values = np.random.default_rng(1).random((200, 3))
    assert bootstrap_means(values, 7) == bootstrap_means(values, 7)
    assert bootstrap_means(values, 7) != bootstrap_means(values, 8)


def test_intervals_are_those_of_resamples_written_out() -> None:
    values = np.concatenate([np.random.default_rng(2).integers(1, 40, 60).astype(float), np.full(41, math.inf)])
    finite = np.where(np.isinf(values), 0.0, values)
    weights = np.concatenate(list(resamples(len(values), 3, 400))).astype(int)
    drawn = [np.repeat(np.arange(len(values)), times) for times in weights]
    assert {len(each) for each in drawn} == {len(values)}
    means = [finite[each].mean() for each in drawn]
    assert bootstrap_means(finite[:, None], 3, 400)[0] == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))))
    medians = sorted(float(np.median(values[each])) for each in drawn)
    low, high = bootstrap_median(values, 3, 400)
    assert (low, high) == (medians[9], medians[389])


def test_the_parts_that_resamples_are_drawn_in_change_no_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resamples(50, 3, 40)))
    monkeypatch.setattr("serve_app.core.evaluation._PART", 700)
    parts = list(resamples(50, 3, 40))
    assert len(parts) > 1
    assert np.array_equal(np.concatenate(parts), whole)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        low, high = bootstrap_means((random.random((150, 1)) < 0.7).astype(float), int(random.integers(1 << 30)), 300)[
            0
        ]
        held += low <= 0.7 <= high
    assert 0.90 <= held / 200 <= 0.99


def test_a_median_beyond_the_depth_is_infinite_and_so_may_its_bounds_be() -> None:
    relevant = [{"a": 1.0}] * 9
    pages = [["a"]] * 4 + [["x"]] * 5
    figure = figures(gains_of(pages, relevant, 10), relevant, seed=0)["median_rank"]
    assert (figure.value, figure.low, figure.high) == (math.inf, 1.0, math.inf)


def test_of_no_queries_there_are_no_figures() -> None:
    assert figures(gains_of([], [], 10), [], seed=0) == {}


# ---- refusing, and classes


@pytest.mark.parametrize(
    ("refused", "hopeless", "precision", "recall"),
    [
        ([True, True, False], [True, False, True], 0.5, 0.5),
        ([False, False], [True, False], None, 0.0),
        ([True, False], [False, False], None, None),
    ],
)
def test_refusing_has_precision_and_recall(
    refused: list[bool], hopeless: list[bool], precision: float | None, recall: float | None
) -> None:
    found = refusal(refused, hopeless)
    assert (found.precision, found.recall) == (precision, recall)


def test_a_share_of_nothing_is_none() -> None:
    assert (share([]), share([True, False])) == (None, 0.5)


def test_accuracy_counts_the_first_label_and_the_first_five_and_a_failure_as_wrong() -> None:
    classes = ["boat", "boat", "cat", "cat"]
    best = [["boat"], ["cat", "boat"], ["tree", "house", "sun", "moon", "star", "cat"], []]
    found = accuracy(classes, best, seed=0)
    assert (found.top1.value, found.top5.value) == (0.25, 0.5)
    assert found.per_class == {"boat": 0.5, "cat": 0.0}
    assert found.confused == [("boat", "cat", 1), ("cat", "tree", 1)]
