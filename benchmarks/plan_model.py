"""What a table of any size needs, reckoned from what was measured at a million rows. Pure functions: knows no page and no clock.

Beyond a million documents all of it is extrapolation, by the rule that each function states. Where a rule is a guess it errs
towards more. ASSUMPTIONS says in words what the functions do.
"""

import math
from dataclasses import dataclass

from benchmarks import plan_figures as measured
from serve_app.core.index_policy import partitions_for

BYTES_OF_A_NUMBER = 4
MONTH_S = 30 * 24 * 3600.0
# Of one table's bytes: while a table is compacted, and for `table.keep_versions_s` after, old and new files lie side by side.
ROOM = 2.0
# How much of a core may be busy if latencies are to be near those of a quiet machine.
BUSY = 0.5
# The Indexer's commits: `table.max_commit_documents`.
ONLINE_COMMIT_ROWS = 512
MEASURED_LISTS = partitions_for(measured.MEASURED_ROWS)
# What a list more costs a search, from the two searches of a million rows. The plain one also compares twice as many candidates.
LIST_MS = (measured.PLAIN_MS.value - measured.SEARCH_MS.value) / (
    measured.PLAIN_LISTS_READ.value - measured.LISTS_READ.value
)
# By which power of the rows the time to build an index grows, from 100,000 to a million.
BUILD_POWER = math.log10(measured.INDEX_BUILD_S.value / measured.INDEX_BUILD_TENTH_S.value)

ASSUMPTIONS = (
    "Bytes grow with the documents, those of vectors and of the vector index also with the numbers of a vector. Addresses, "
    "captions and ids are as short as those that were measured; metadata and fields come on top.",
    "As much again as the table has is kept free: compaction writes anew what it replaces, and both stay for "
    "`table.keep_versions_s`.",
    f"The time to build an index grows with the documents to the power of {BUILD_POWER:.2f}, as from 100,000 to a million. *At "
    "worst*: with their square, as if assigning them to lists were all of it. Memory while it builds was not measured.",
    f"A search reads lists in proportion to the square root of their number (a guess, from {measured.LISTS_READ.value:.0f} of "
    f"{MEASURED_LISTS}). A list more costs {LIST_MS:.2f} ms, and to choose among lists as much as to compare so many vectors "
    "exactly. All that a search reads is in memory; rows come from a local disk.",
    f"Cores are half busy. The {measured.SEARCHES_PER_S.value:.0f} searches a second were measured with eight waiting at once; "
    "a search that takes longer takes so much more of a core.",
    "A merge reads the ids of the whole table, so a commit takes time in proportion to the documents that are there, whatever it "
    "brings. The rows that it writes are not counted. A bucket is slower than a disk, and was not measured.",
    "Encoding takes what it took through HTTP on each core, and more workers do as much more (not measured beyond two cores). "
    f"Texts are not counted: {measured.TEXTS_PER_S.value:.0f} are encoded in the time of "
    f"{measured.PICTURES_PER_S.value:g} pictures.",
    "Each shard answers every search; gathering their answers is not counted.",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a plan is for. `kept`: the share of documents whose picture is kept. `churn`: that changes in a month.

    `pictures_per_s`: of one core, or one GPU (`workers` of them), with the user's model; by default what was measured here.
    `shard_rows`: rows of one table, if documents were spread over several.
    """

    documents: int
    dimension: int = measured.DIMENSION
    kept: float = 0.0
    picture_bytes: float = measured.PICTURE_BYTES.value
    qps: float = 50.0
    workers: int = 64
    pictures_per_s: float = measured.PICTURES_PER_S.value / measured.CORES
    churn: float = 0.05
    shard_rows: int = 10_000_000

    def __post_init__(self) -> None:
        positive = (self.documents, self.dimension, self.qps, self.workers, self.pictures_per_s, self.shard_rows)
        if min(positive) <= 0 or not (0 <= self.kept <= 1 and 0 <= self.churn <= 1):
            raise ValueError("numbers are above zero, and shares between 0 and 1")


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes on the disk or in the bucket. `room`: table and indexes with what compaction needs beside them."""

    vectors: float
    columns: float
    scalar_indexes: float
    vector_index: float
    room: float
    pictures: float


@dataclass(frozen=True, slots=True)
class OneTable:
    """One table of all documents, as the product has it. `resident`: bytes of a Retriever that holds the whole index."""

    lists: int
    build_s: float
    build_s_at_worst: float
    search_ms: float
    resident: float
    retriever_cores: float
    other_cores: float
    commit_s: float


@dataclass(frozen=True, slots=True)
class Shards:
    """The same spread over tables of `shard_rows` each, all of which answer every search. The product does not have this."""

    count: int
    search_ms: float
    retriever_cores: float
    resident: float
    commit_s: float


@dataclass(frozen=True, slots=True)
class Loading:
    """The first load. `commit_rows`: so many that merging keeps up with `workers`; `merging_s`: of all commits of 1,024."""

    worker_hours: float
    encoding_s: float
    small_commits_s: float
    commit_rows: int
    commits: int
    ledger_bytes: float


@dataclass(frozen=True, slots=True)
class Month:
    """What changes in a month. `committing`: the share of the month that the Indexer would be committing; above 1 it cannot."""

    documents: float
    worker_hours: float
    committing: float
    committing_in_bulk: float


def storage(wanted: Wanted) -> Storage:
    rows, numbers = wanted.documents, wanted.dimension
    vectors = float(rows * numbers * BYTES_OF_A_NUMBER)
    columns = rows * measured.ROW_BYTES.value
    scalar = rows * (measured.ID_INDEX_BYTES.value + measured.TEXT_INDEX_BYTES.value)
    index = rows * index_bytes_of_a_row(numbers)
    return Storage(
        vectors,
        columns,
        scalar,
        index,
        ROOM * (vectors + columns + scalar + index),
        rows * wanted.kept * wanted.picture_bytes,
    )


def index_bytes_of_a_row(dimension: int) -> float:
    """A bit a number, and what was measured beside those bits."""
    at_a_million = measured.INDEX_BYTES.value / measured.MEASURED_ROWS
    return at_a_million + (dimension - measured.DIMENSION) / 8


def search_ms(rows: int, dimension: int) -> float:
    """p50 of a calibrated search by the index, everything in memory."""
    lists = partitions_for(rows)
    width = dimension / measured.DIMENSION
    more_lists = lists_read(lists) - measured.LISTS_READ.value
    choosing = (lists - MEASURED_LISTS) * measured.EXACT_MS.value / measured.MEASURED_ROWS
    return measured.SEARCH_MS.value + width * (LIST_MS * more_lists + choosing)


def lists_read(lists: int) -> float:
    """Of so many."""
    return measured.LISTS_READ.value * math.sqrt(lists / MEASURED_LISTS)


def searching_cores(qps: float, rows: int, dimension: int) -> float:
    """Of Retrievers, whose tables have so many rows and are asked so often."""
    one_search_s = measured.CORES / measured.SEARCHES_PER_S.value
    return qps * one_search_s * search_ms(rows, dimension) / measured.SEARCH_MS.value / BUSY


def commit_s(rows: int) -> float:
    """Seconds of a merge into so many rows."""
    return measured.MERGE_S.value * rows / measured.MEASURED_ROWS


def merging_s(rows: int, commit_rows: int) -> float:
    """Seconds of all merges that fill an empty table, each of which reads the ids that are there by then."""
    return commit_s(rows) * max(0.0, rows / commit_rows - 1) / 2


def one_table(wanted: Wanted) -> OneTable:
    rows, numbers = wanted.documents, wanted.dimension
    times, width = rows / measured.MEASURED_ROWS, numbers / measured.DIMENSION
    lists = partitions_for(rows)
    whole_index = index_bytes_of_a_row(numbers) * rows + lists * numbers * BYTES_OF_A_NUMBER
    return OneTable(
        lists=lists,
        build_s=measured.INDEX_BUILD_S.value * width * times**BUILD_POWER,
        build_s_at_worst=measured.INDEX_BUILD_S.value * width * times**2,
        search_ms=search_ms(rows, numbers),
        resident=measured.RESIDENT_BYTES.value - measured.INDEX_BYTES.value + whole_index,
        retriever_cores=searching_cores(wanted.qps, rows, numbers),
        other_cores=wanted.qps * measured.CORES / measured.QUERIES_PER_S.value / BUSY,
        commit_s=commit_s(rows),
    )


def shards(wanted: Wanted) -> Shards:
    count = -(-wanted.documents // wanted.shard_rows)
    rows = -(-wanted.documents // count)
    each = one_table(
        Wanted(documents=rows, dimension=wanted.dimension, qps=wanted.qps, shard_rows=wanted.shard_rows),
    )
    return Shards(count, each.search_ms, count * each.retriever_cores, each.resident, each.commit_s)


def loading(wanted: Wanted) -> Loading:
    rows = wanted.documents
    rate = wanted.workers * wanted.pictures_per_s
    encoding_s = rows / rate
    # Merging all commits takes as long as encoding all pictures; it cannot take fewer than one commit.
    keeping_up = rows / (1 + 2 * encoding_s / commit_s(rows))
    commit_rows = max(1024, math.ceil(keeping_up))
    return Loading(
        worker_hours=rows / wanted.pictures_per_s / 3600,
        encoding_s=encoding_s,
        small_commits_s=merging_s(rows, 1024),
        commit_rows=commit_rows,
        commits=-(-rows // commit_rows),
        ledger_bytes=8.0 * rows,
    )


def month(wanted: Wanted) -> Month:
    changed = wanted.documents * wanted.churn
    bulk_rows = loading(wanted).commit_rows
    return Month(
        documents=changed,
        worker_hours=changed / wanted.pictures_per_s / 3600,
        committing=changed / ONLINE_COMMIT_ROWS * commit_s(wanted.documents) / MONTH_S,
        committing_in_bulk=changed / bulk_rows * commit_s(wanted.documents) / MONTH_S,
    )
