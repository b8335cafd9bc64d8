"""What one table has and another lacks."""

from collections.abc import Callable, Mapping

import numpy as np

from serve_app.core import catching_up
from serve_app.core.catching_up import NO_ROWS, Delta, Marks, RowTimes, delta_between, times_of


def marks_of(rows: Mapping[str, int], at_once: int = 2) -> Callable[[], Marks]:
    async def marks() -> Marks:
        ids = list(rows)
        for start in range(0, len(ids), at_once):
            some = ids[start : start + at_once]
            yield some, np.array([rows[each] for each in some], np.int64)

    return marks


async def delta(old: Mapping[str, int], new: Mapping[str, int], failed: RowTimes = NO_ROWS) -> Delta:
    return await delta_between(marks_of(old), marks_of(new), failed)


async def test_new_changed_and_deleted_rows_are_told_apart() -> None:
    found = await delta({"a": 1, "b": 2, "c": 3, "d": 4}, {"a": 1, "b": 1, "x": 9, "d": 4})
    assert found.ids == ("b", "c")
    assert found.gone == ("x",)
    assert len(found) == 3


async def test_equal_tables_and_empty_ones_have_nothing_to_do() -> None:
    assert not len(await delta({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert not len(await delta({}, {}))
    assert (await delta({}, {"a": 1})).gone == ("a",)
    assert (await delta({"a": 1}, {})).ids == ("a",)


async def test_a_row_that_has_an_older_time_again_is_done_again() -> None:
    """As after a snapshot was restored."""
    assert (await delta({"a": 1}, {"a": 5})).ids == ("a",)


async def test_what_failed_is_left_alone_until_it_is_written_again() -> None:
    tried = await delta({"a": 1, "b": 1}, {})
    failed = NO_ROWS.then(tried.changed.only(["a"]))
    assert (await delta({"a": 1, "b": 1}, {"b": 1}, failed)).ids == ()
    again = await delta({"a": 2, "b": 1}, {"b": 1}, failed)
    assert again.ids == ("a",)
    failed = failed.then(again.changed.only(["a"]))
    assert len(failed.hashes) == 1
    assert (await delta({"a": 2, "b": 1}, {"b": 1}, failed)).ids == ()


async def test_many_rows_are_counted_and_not_listed() -> None:
    rows = {f"row-{number}": number for number in range(catching_up.FEW + 1)}
    found = await delta(rows, {})
    assert found.ids is None
    assert len(found) == len(rows)
    there = await times_of(marks_of(rows)())
    assert there.has(catching_up.hashes_of(["row-7", "row-x"]), np.array([7, 7])).tolist() == [True, False]
