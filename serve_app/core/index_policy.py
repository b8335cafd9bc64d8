"""Whether a table wants a vector index, which one, and when it has to be made or measured anew. Knows no storage.

Every decision is a pure function of figures: rows, the wanted recall, what a search costs, what changed since. The index keeps
a bit of each number in inverted lists (IVF_RQ), of short vectors a byte (IVF_SQ). Candidates that it finds are compared again
on raw vectors. How many, and how many lists it reads, is measured on the table's own vectors, never guessed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from serve_app.types import IndexKind, IndexReading, IndexState, Reach

RECALL_DEPTH = 10
"""Recall is measured among so many nearest rows."""
ROWS_PER_PARTITION = 4096
MIN_PARTITIONS = 8
# How many candidates are compared again on raw vectors. A bit a number keeps the order roughly: more is for spaces where many
# rows are almost equally near.
COMPARED = (50, 100, 200, 400)
MIN_REFINE = 2
"""Of large results too: at least so many candidates are compared for each."""
# A filter that leaves so few rows is searched exactly: reading and comparing them takes 20 ms at most, whatever the table's size.
NARROW_ROWS = 2_000
# One that leaves more than NARROW_ROWS and so few leaves them far apart.
SPARSE_ROWS = 20_000
# Recall under a filter is measured at the depth where its ten nearest rows lie without it. Deeper would cost too much.
MAX_DEPTH = 5_000
# Of shorter vectors a bit a number tells too little; and LanceDB wants whole bytes.
MIN_BITS, BITS_PER_BYTE = 64, 8
# An exact search that grew by this share since it was timed is timed again; before, it cannot have become much slower.
RETIME_GROWTH = 0.5
# Lists that were made for half as many rows, or for twice as many, are too long or too short.
REBUILD_GROWTH = 2.0
# Where an index was no better than exact search, so many times more rows are worth another try.
RETRY_GROWTH = 1.5
# The share of time that compaction may take: it rewrites small files together with their larger neighbours, so that its cost
# grows with the table.
UPKEEP_SHARE = 0.1


class IndexStep(StrEnum):
    """What upkeep of the index does next."""

    NOTHING = "nothing"
    TIME_EXACT_SEARCH = "time_exact_search"
    BUILD = "build"
    MEASURE = "measure"
    OPTIMIZE = "optimize"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """What is wanted. Tables under `min_rows`, and those that are searched exactly within `exact_search_ms`, get no index.

    Beyond `max_unindexed_share` of all rows an index is brought up to date, after changes to `max_changed_share` of them its
    recall is measured anew.
    """

    target_recall: float = 0.95
    min_rows: int = 10_000
    exact_search_ms: float = 20.0
    max_unindexed_share: float = 0.05
    max_changed_share: float = 0.2


def next_step(
    policy: IndexPolicy, state: IndexState | None, *, rows: int, unindexed_rows: int, changed_rows: int
) -> IndexStep:
    """What the index of a table of `rows` needs; `changed_rows` were written or deleted since it was measured."""
    indexed = state is not None and state.kind is not IndexKind.EXACT
    if rows < policy.min_rows:
        # Half, so that a table around the limit is not indexed and unindexed in turn.
        return IndexStep.DROP if indexed and rows < policy.min_rows // 2 else IndexStep.NOTHING
    if state is None:
        return IndexStep.TIME_EXACT_SEARCH
    changed = max(changed_rows, abs(rows - state.rows))
    if not indexed:
        return IndexStep.TIME_EXACT_SEARCH if changed > RETIME_GROWTH * state.rows else IndexStep.NOTHING
    if not state.built_rows / REBUILD_GROWTH <= rows <= state.built_rows * REBUILD_GROWTH:
        return IndexStep.BUILD
    if unindexed_rows > policy.max_unindexed_share * rows:
        return IndexStep.OPTIMIZE
    return IndexStep.MEASURE if changed > policy.max_changed_share * state.rows else IndexStep.NOTHING


def wants_index(policy: IndexPolicy, exact_ms: float) -> bool:
    """Whether exact search is too slow. A recall of 1 is promised by exact search alone."""
    return policy.target_recall < 1 and exact_ms > policy.exact_search_ms


def given_up(state: IndexState | None, rows: int) -> bool:
    """Whether an index was made of about so many rows, and was not as good as exact search. To make one again
    whenever half of the rows have changed would keep a busy table's machine busy for nothing."""
    if state is None or state.kind is not IndexKind.EXACT or not state.built_rows:
        return False
    return state.built_rows / RETRY_GROWTH <= rows <= state.built_rows * RETRY_GROWTH


def kind_for(dimension: int) -> IndexKind:
    """The quantisation for vectors of this length. At a million rows of 512 a bit a number is a sixth of the memory of a
    byte, and under a filter that half of the rows fit it takes two thirds of the time."""
    return IndexKind.IVF_RQ if dimension >= MIN_BITS and dimension % BITS_PER_BYTE == 0 else IndexKind.IVF_SQ


def partitions_for(rows: int) -> int:
    """Lists of an index over so many rows: about four thousand rows each. More lists cost more than they spare."""
    return max(MIN_PARTITIONS, 1 << round(math.log2(max(1, rows / ROWS_PER_PARTITION))))


def reach_of(*, aimed: bool, fitting: int | None) -> Reach | None:
    """How far a search reaches by an index; `fitting` rows of the modality match its filter, None without one.

    None: beyond what was measured, all lists have to be read.
    """
    if fitting is None:
        return Reach.AIMED if aimed else Reach.PLAIN
    if not aimed:
        return None
    return Reach.SPARSE if fitting <= SPARSE_ROWS else Reach.FILTERED


def sparse_reading(readings: Mapping[Reach, IndexReading], fitting: int) -> IndexReading:
    """Under a filter that leaves from NARROW_ROWS to SPARSE_ROWS rows: lists between those that were measured for either end.

    The fewer rows fit, the farther the ten nearest lie, and the lists that hold them grow by a power of that.
    """
    narrow, wide = readings[Reach.SPARSE], readings[Reach.FILTERED]
    share = math.log(max(fitting, NARROW_ROWS) / NARROW_ROWS) / math.log(SPARSE_ROWS / NARROW_ROWS)
    nprobes = math.ceil(narrow.nprobes * (wide.nprobes / narrow.nprobes) ** min(share, 1.0))
    return IndexReading(nprobes, max(narrow.compared, wide.compared))


def depth_of(reach: Reach, rows: int) -> int:
    """Among how many nearest of `rows` rows of a modality recall is measured.

    The ten nearest of a part of the rows, whichever part it is, are about the nearest 10 / part of all.
    """
    fitting = {Reach.FILTERED: SPARSE_ROWS, Reach.SPARSE: NARROW_ROWS}.get(reach, rows)
    return min(max(RECALL_DEPTH, RECALL_DEPTH * rows // max(fitting, 1)), MAX_DEPTH)


def refine_factor(compared: int, wanted: int) -> int:
    """How many candidates to compare for each of the wanted results."""
    return max(MIN_REFINE, -(-compared // max(wanted, 1)))


def probe_ladder(partitions: int) -> list[int]:
    """Numbers of lists to try, from few to all: each is about a half more than the one before."""
    steps = [max(1, round(partitions * 1.5**-step)) for step in range(32)]
    return sorted(set(steps))


def recall_of(found: Sequence[Sequence[str]], nearest: Sequence[Sequence[str]]) -> float:
    """The share of the nearest ids that were found, over all queries; 1 where there is nothing to find."""
    wanted = sum(len(ids) for ids in nearest)
    hits = sum(len(set(ids) & set(answer)) for ids, answer in zip(nearest, found, strict=True))
    return hits / wanted if wanted else 1.0


def upkeep_wait_s(idle_s: float, last_duration_s: float) -> float:
    """How long a step of upkeep waits until it is taken again: it may take a tenth of the time, however large the table grew."""
    return max(0.0, last_duration_s / UPKEEP_SHARE - last_duration_s - idle_s)
