from dataclasses import replace
from datetime import UTC, datetime

import pytest

from serve_app.core.index_policy import (
    IndexPolicy,
    IndexStep,
    depth_of,
    kind_for,
    next_step,
    partitions_for,
    probe_ladder,
    reach_of,
    recall_of,
    refine_factor,
    sparse_reading,
    upkeep_wait_s,
    wants_index,
)
from serve_app.types import IndexKind, IndexReading, IndexState, Reach

POLICY = IndexPolicy(
    target_recall=0.95, min_rows=10_000, exact_search_ms=20, max_unindexed_share=0.05, max_changed_share=0.2
)
INDEXED = IndexState(
    kind=IndexKind.IVF_SQ,
    reason="",
    rows=100_000,
    measured_at=datetime(2026, 1, 1, tzinfo=UTC),
    recall=0.97,
    search_ms=8,
    exact_ms=90,
    partitions=128,
    readings=dict.fromkeys(Reach, IndexReading(20, 100)),
    built_rows=100_000,
)
EXACT = replace(INDEXED, kind=IndexKind.EXACT, readings=None, rows=20_000, built_rows=0)


def step(state: IndexState | None, rows: int, unindexed: int = 0, changed: int = 0) -> IndexStep:
    return next_step(POLICY, state, rows=rows, unindexed_rows=unindexed, changed_rows=changed)


def test_a_small_table_is_left_alone() -> None:
    assert step(None, 9_999) is IndexStep.NOTHING


def test_a_table_that_became_large_has_its_exact_search_timed_first() -> None:
    assert step(None, 10_000) is IndexStep.TIME_EXACT_SEARCH


def test_exact_search_that_was_quick_enough_is_timed_again_only_after_the_table_grew_by_half() -> None:
    assert step(EXACT, 29_000) is IndexStep.NOTHING
    assert step(EXACT, 31_000) is IndexStep.TIME_EXACT_SEARCH


@pytest.mark.parametrize(
    ("exact_ms", "recall", "wanted"), [(21.0, 0.95, True), (19.0, 0.95, False), (1000.0, 1.0, False)]
)
def test_an_index_is_wanted_where_exact_search_is_slow_and_not_asked_for(
    exact_ms: float, recall: float, wanted: bool
) -> None:
    assert wants_index(replace(POLICY, target_recall=recall), exact_ms) is wanted


def test_an_index_with_few_new_rows_is_left_alone() -> None:
    assert step(INDEXED, 104_000, unindexed=4_000, changed=4_000) is IndexStep.NOTHING


def test_an_index_takes_in_new_rows_when_they_are_many() -> None:
    assert step(INDEXED, 106_000, unindexed=6_000, changed=6_000) is IndexStep.OPTIMIZE


def test_recall_is_measured_anew_after_many_changes_also_those_that_leave_the_number_of_rows() -> None:
    assert step(INDEXED, 100_000, changed=21_000) is IndexStep.MEASURE
    assert step(INDEXED, 130_000) is IndexStep.MEASURE


@pytest.mark.parametrize("rows", [49_000, 201_000])
def test_an_index_for_another_size_of_table_is_built_anew(rows: int) -> None:
    assert step(INDEXED, rows) is IndexStep.BUILD


def test_an_index_is_dropped_only_when_the_table_is_far_below_the_limit() -> None:
    assert step(replace(INDEXED, rows=12_000, built_rows=12_000), 6_000) is IndexStep.NOTHING
    assert step(replace(INDEXED, rows=12_000, built_rows=12_000), 4_999) is IndexStep.DROP


def test_lists_hold_about_four_thousand_rows_each() -> None:
    assert [partitions_for(rows) for rows in (300, 10_000, 100_000, 1_000_000)] == [8, 8, 32, 256]


@pytest.mark.parametrize(
    ("dimension", "kind"), [(512, IndexKind.IVF_RQ), (8, IndexKind.IVF_SQ), (100, IndexKind.IVF_SQ)]
)
def test_long_vectors_are_kept_as_bits_and_others_as_bytes(dimension: int, kind: IndexKind) -> None:
    assert kind_for(dimension) is kind


@pytest.mark.parametrize("partitions", [1, 8, 1024])
def test_the_ladder_rises_from_one_list_to_all(partitions: int) -> None:
    ladder = probe_ladder(partitions)
    assert (ladder[0], ladder[-1]) == (1, partitions)
    assert ladder == sorted(set(ladder))


@pytest.mark.parametrize(
    ("aimed", "fitting", "reach"),
    [
        (True, None, Reach.AIMED),
        (False, None, Reach.PLAIN),
        (True, 20_001, Reach.FILTERED),
        (True, 20_000, Reach.SPARSE),
        (False, 20_001, None),
    ],
)
def test_a_search_reaches_as_far_as_its_aim_and_its_filter_say(
    aimed: bool, fitting: int | None, reach: Reach | None
) -> None:
    assert reach_of(aimed=aimed, fitting=fitting) is reach


def test_recall_is_measured_where_the_ten_nearest_lie_that_the_narrowest_filter_leaves() -> None:
    assert [depth_of(reach, 500_000) for reach in Reach] == [10, 250, 2_500, 10]
    assert [depth_of(reach, 1_000) for reach in Reach] == [10, 10, 10, 10]
    assert depth_of(Reach.SPARSE, 10**8) == 5_000


def test_candidates_are_compared_for_the_whole_result_and_twice_as_many_at_least() -> None:
    assert [refine_factor(200, wanted) for wanted in (10, 30, 100, 1_000)] == [20, 7, 2, 2]


def test_recall_is_the_share_of_the_right_ids_that_were_found() -> None:
    assert recall_of([["a", "x", "b"], ["c"]], [["a", "b"], ["d", "e"]]) == 0.5
    assert recall_of([], []) == 1.0


def test_upkeep_that_took_long_waits_until_it_takes_a_tenth_of_the_time() -> None:
    assert upkeep_wait_s(idle_s=0, last_duration_s=2) == pytest.approx(18)
    assert upkeep_wait_s(idle_s=30, last_duration_s=2) == 0


def test_lists_under_a_sparse_filter_lie_between_those_that_were_measured() -> None:
    readings = {Reach.SPARSE: IndexReading(76, 200), Reach.FILTERED: IndexReading(34, 100)}
    asked = [sparse_reading(readings, fitting).nprobes for fitting in (1, 2_000, 5_000, 10_000, 20_000)]
    assert asked == [76, 76, 56, 44, 34]
    assert sparse_reading(readings, 5_000).compared == 200
