"""Two ways to search the same documents, compared."""

import pytest

from serve_app.core.comparison import SampleQuery, SearchedSide, compare, comparison_text


def side(*found: tuple[str, ...], name: str = "old") -> SearchedSide:
    return SearchedSide(f"documents.{name}", name, found, tuple(1.0 for _ in found), tuple(2.0 for _ in found))


def test_overlap_and_recall_are_means_over_queries() -> None:
    queries = [SampleQuery("a", ("1", "2")), SampleQuery("b")]
    comparison = compare(queries, side(("1", "2"), ("3", "4")), side(("1", "5"), ("3", "4"), name="new"))
    assert comparison.overlap == pytest.approx(0.75)
    assert (comparison.before.recall, comparison.after.recall) == (1.0, 0.5)
    assert "75%" in comparison_text(comparison)
    assert "recall@10 0.500" in comparison_text(comparison)


def test_without_judgements_there_is_no_recall() -> None:
    comparison = compare([SampleQuery("a")], side(()), side((), name="new"))
    assert comparison.before.recall is None
    assert "recall" not in comparison_text(comparison)


def test_side_by_side_only_the_first_ten_count() -> None:
    ten = tuple(map(str, range(10)))
    assert compare([SampleQuery("a")], side((*ten, "x")), side((*ten, "y"), name="new")).overlap == 1.0
