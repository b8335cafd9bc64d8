"""Random filters over random rows: the table in LanceDB finds what the plain Python of core.filters says, and no statement
ever holds a user's text."""

import asyncio
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lancedb.expr import Expr

from serve_app.adapters.lance_table import LanceTable
from serve_app.adapters.lance_table.filters import predicate
from serve_app.core.filters import MAX_COMPARISONS, MAX_DEPTH, check_filter, matches
from serve_app.types import (
    And,
    Compare,
    EncoderCard,
    FieldIndex,
    FieldSpec,
    FieldType,
    Filter,
    ImagePreprocessing,
    Modality,
    Not,
    Operator,
    Or,
    Record,
)

DIMENSION = 4
PREPROCESSING = ImagePreprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "shortest", 0)
ENCODER = EncoderCard("demo", "v1", "f" * 64, DIMENSION, 77, PREPROCESSING, "cpu", "float32", 100.0)
# Two columns carry words of SQL as their names.
FIELDS = {
    "price": FieldSpec(FieldType.FLOAT, FieldIndex.BTREE),
    "order": FieldSpec(FieldType.INTEGER, FieldIndex.BTREE),
    "year": FieldSpec(FieldType.INTEGER, FieldIndex.NONE),
    "select": FieldSpec(FieldType.STRING, FieldIndex.BTREE),
    "colour": FieldSpec(FieldType.STRING, FieldIndex.BITMAP),
    "sold": FieldSpec(FieldType.BOOLEAN, FieldIndex.BITMAP),
    "taken_at": FieldSpec(FieldType.TIMESTAMP, FieldIndex.BTREE),
    "tags": FieldSpec(FieldType.STRINGS, FieldIndex.LABEL_LIST),
    "pages": FieldSpec(FieldType.INTEGERS, FieldIndex.LABEL_LIST),
    "codes": FieldSpec(FieldType.INTEGERS, FieldIndex.NONE),
}
INJECTIONS = [
    "'", "''", "\\'", '"', "`", "' OR '1'='1", "' OR 1=1 --", "'; DROP TABLE documents; --", "x') OR (true", "%", "_", "a%",
    "%' ESCAPE '\\", "\\", "${id}", "$1", "?", "{}", ":id", "/* */", "--", "id", "NULL", "null", "true", "X'41'", "\u0000", "\n",
    "\u2028", "’", "ʼ OR ʼ1ʼ=ʼ1", "\uff07", "ﬀ", "é", "e\u0301", "\U0010ffff", "\ud7ff", "\ue000", "日本語", "🚤", " ", "",
    "a", "ab", "abc", "A", "-0", "0", "`; --", "arrow_cast(X'00', 'Utf8')", "b", "ba",
]  # fmt: skip
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.1, 1e-9, -1.5e-7, 3.0, 1e18, 1e300, -1e300, 5e-324, 2.0**53 + 2, 19.99, 20, 2**60]
INTEGERS = [0, 1, -1, 2, 3, 7, 2**31, 2**53 + 1, 2**63 - 1, -(2**63) + 1, -(2**53)]
START = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = [
    *(START + timedelta(hours=9 * step, microseconds=step) for step in range(12)),
    START,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
]
VALUES: dict[FieldType, list[Any]] = {
    FieldType.STRING: INJECTIONS,
    FieldType.INTEGER: INTEGERS,
    FieldType.FLOAT: FLOATS,
    FieldType.BOOLEAN: [True, False],
    FieldType.TIMESTAMP: TIMES,
    FieldType.STRINGS: INJECTIONS,
    FieldType.INTEGERS: INTEGERS,
}
IDS = [each for each in INJECTIONS if each.strip() == each and each and each.isprintable()]
OPERANDS: dict[str, tuple[FieldType, list[Any]]] = {
    "id": (FieldType.STRING, IDS),
    "offset_s": (FieldType.FLOAT, FLOATS),
    "uri": (FieldType.STRING, INJECTIONS),
    "created_at": (FieldType.TIMESTAMP, TIMES),
    "updated_at": (FieldType.TIMESTAMP, TIMES),
    **{name: (spec.type, VALUES[spec.type]) for name, spec in FIELDS.items()},
}
ORDERED = [Operator.EQ, Operator.NE, Operator.LT, Operator.LTE, Operator.GT, Operator.GTE, Operator.IN, Operator.EXISTS]
OPERATORS = {
    FieldType.STRING: [*ORDERED, Operator.PREFIX],
    FieldType.INTEGER: ORDERED,
    FieldType.FLOAT: ORDERED,
    FieldType.TIMESTAMP: ORDERED,
    FieldType.BOOLEAN: [Operator.EQ, Operator.NE, Operator.IN, Operator.EXISTS],
    FieldType.STRINGS: [Operator.ANY, Operator.ALL, Operator.EXISTS],
    FieldType.INTEGERS: [Operator.ANY, Operator.ALL, Operator.EXISTS],
}
STATEMENT_WORDS = ("AND", "OR", "NOT", "IN", "IS", "NULL", "true", "false")
STATEMENT_WORDS += ("arrow_cast", "concat", "array_has_any", "array_has_all", "make_array", "X", "-")
LISTS = (Operator.IN, Operator.ANY, Operator.ALL)


@st.composite
def comparisons(draw: st.DrawFn) -> Compare:
    field = draw(st.sampled_from([*OPERANDS, "modality", "text"]))
    if field == "text":
        return Compare(field, Operator.EXISTS, draw(st.booleans()))
    if field == "modality":
        return Compare(
            field, draw(st.sampled_from([Operator.EQ, Operator.NE])), draw(st.sampled_from(list(Modality))).value
        )
    type_, pool = OPERANDS[field]
    op = draw(st.sampled_from(OPERATORS[type_]))
    if op is Operator.EXISTS:
        return Compare(field, op, draw(st.booleans()))
    value = st.sampled_from(pool) | _any_of(type_)
    return Compare(field, op, tuple(draw(st.lists(value, min_size=1, max_size=4))) if op in LISTS else draw(value))


def _any_of(type_: FieldType) -> st.SearchStrategy[Any]:
    match type_:
        case FieldType.STRING | FieldType.STRINGS:
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
        case FieldType.INTEGER | FieldType.INTEGERS:
            return st.integers(-(2**63) + 1, 2**63 - 1)
        case FieldType.FLOAT:
            return st.floats(allow_nan=False, allow_infinity=False)
        case FieldType.BOOLEAN:
            return st.booleans()
        case FieldType.TIMESTAMP:
            return st.datetimes(timezones=st.just(UTC))


def filters() -> st.SearchStrategy[Filter]:
    def combined(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.lists(inner, min_size=1, max_size=4).map(tuple)
        return several.map(And) | several.map(Or) | inner.map(Not)

    return st.recursive(comparisons(), combined, max_leaves=8)


def rows(count: int, chance: random.Random) -> list[Record]:
    """Random records; a third of their fields are missing."""

    def value(type_: FieldType) -> Any:
        pool = VALUES[type_]
        several = type_ in (FieldType.STRINGS, FieldType.INTEGERS)
        found = tuple(chance.choices(pool, k=chance.randrange(4))) if several else chance.choice(pool)
        return found + 0.0 if type_ is FieldType.FLOAT else found

    def one(place: int) -> Record:
        modality = chance.choice(list(Modality))
        fields = {name: value(spec.type) for name, spec in FIELDS.items() if chance.random() < 0.67}
        vector = np.array([chance.gauss(0, 1) for _ in range(DIMENSION)], np.float32)
        return Record(
            id=IDS[place] if place < len(IDS) else f"{chance.choice(IDS)}{place}",
            modality=modality,
            uri=None if modality is Modality.TEXT else chance.choice(INJECTIONS),
            text=None if modality is Modality.IMAGE else "text",
            content_sha256="0" * 64,
            metadata={},
            vector=vector / np.linalg.norm(vector),
            fingerprint=ENCODER.fingerprint,
            fields=fields,
            # Of others than frames too: what a filter says does not depend on who wrote it.
            offset_s=chance.choice(FLOATS) + 0.0 if chance.random() < 0.5 else None,
        )

    return [one(place) for place in range(count)]


class Filled:
    """A table with rows, and the same rows in memory. `indexed`: the first half lies in the indexes that are declared."""

    def __init__(self, folder: Path, runner: asyncio.Runner, *, indexed: bool) -> None:
        self.run = runner.run
        self.table = LanceTable(str(folder), fields=FIELDS)
        self.run(self._fill(indexed))
        self.rows = self.run(self.table.find(None, 1000))

    async def _fill(self, indexed: bool) -> None:
        await self.table.create(ENCODER)
        records = rows(120, random.Random(4))
        created = {record.id: TIMES[place % len(TIMES)] for place, record in enumerate(records)}
        await self.table.upsert(records[:60], created, TIMES[3])
        if indexed:
            await self.table.maintain(timedelta(hours=1))
        await self.table.upsert(records[60:], created, TIMES[7])

    def agrees(self, where: Filter) -> None:
        checked = check_filter(where, FIELDS)
        found = self.run(self.table.find(checked, 1000))
        expected = [row for row in self.rows if matches(checked, row.document)]
        assert [row.document.id for row in found] == [row.document.id for row in expected], checked


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, runner: asyncio.Runner) -> Filled:
    return Filled(tmp_path_factory.mktemp("indexed"), runner, indexed=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, runner: asyncio.Runner) -> Filled:
    return Filled(tmp_path_factory.mktemp("plain"), runner, indexed=False)


many = settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@many
@given(where=filters())
def test_a_table_with_indexes_finds_what_the_filter_says(indexed: Filled, where: Filter) -> None:
    indexed.agrees(where)


@many
@given(where=filters())
def test_a_table_without_indexes_finds_what_the_filter_says(plain: Filled, where: Filter) -> None:
    plain.agrees(where)


@settings(many, max_examples=100)
@given(where=filters(), modality=st.sampled_from(list(Modality)))
def test_the_nearest_and_the_matching_are_all_that_the_filter_says(
    indexed: Filled, where: Filter, modality: Modality
) -> None:
    checked = check_filter(where, FIELDS)
    documents = [row.document for row in indexed.rows if matches(checked, row.document)]
    expected = {document.id for document in documents if document.modality is modality}
    query = np.eye(DIMENSION, dtype=np.float32)[:1]
    (page,) = indexed.run(indexed.table.nearest(query, modality, 200, checked))
    assert {row.document.id for row in page} == expected
    with_text = expected if modality is not Modality.IMAGE else set()
    found = indexed.run(indexed.table.matching("text", [modality], 200, checked))
    assert {match.row.document.id for match in found} == with_text


@settings(many, max_examples=100)
@given(text=st.text() | st.lists(st.sampled_from([*INJECTIONS, "text", '"text"', '"'])).map(" ".join))
def test_no_words_of_a_query_break_it(plain: Filled, indexed: Filled, text: str) -> None:
    for filled in (plain, indexed):
        filled.run(filled.table.matching(text, list(Modality), 5))


@pytest.mark.parametrize("field", ["id", "uri", "select", "colour", "tags"])
def test_no_string_is_taken_for_anything_but_itself(indexed: Filled, field: str) -> None:
    operators = OPERATORS[OPERANDS[field][0]]
    for text in INJECTIONS:
        for op in set(operators) - {Operator.EXISTS}:
            indexed.agrees(Compare(field, op, (text,) if op in LISTS else text))


@settings(deadline=None, database=None)
@given(text=st.text(min_size=1), where=filters())
def test_no_statement_holds_text_of_a_user(text: str, where: Filter) -> None:
    asked = And((where, *(Compare(field, Operator.EQ, text) for field in ("id", "uri", "select"))))
    in_lists = Compare("tags", Operator.ANY, (text, *INJECTIONS))
    for compiled in (
        predicate(check_filter(asked, FIELDS), FIELDS),
        predicate(check_filter(Or((asked, in_lists)), FIELDS), FIELDS),
    ):
        statement = compiled.to_sql() if isinstance(compiled, Expr) else compiled
        # What is left without literals is ours: operators, functions, and the names of declared columns.
        without_literals = re.sub(r"X'[0-9A-F]*'|'(Utf8|Timestamp\(µs, \"UTC\"\)|)'|-?\d+(\.\d+)?", "", statement)
        words = set(re.findall(r"[^\s`(),=<>']+", without_literals))
        assert words <= {*OPERANDS, "modality", "text", *STATEMENT_WORDS}, statement


async def test_every_injection_deletes_what_it_matches_and_nothing_else(tmp_path: Path) -> None:
    table = LanceTable(str(tmp_path), fields=FIELDS)
    await table.create(ENCODER)
    await table.upsert(rows(60, random.Random(5)), {}, START)
    left = {row.document.id: row.document for row in await table.find(None, 100)}
    tables = (await (await lancedb.connect_async(str(tmp_path))).list_tables()).tables
    for text in INJECTIONS:
        where = And((Compare("select", Operator.EQ, text), Not(Compare("tags", Operator.ANY, (text,)))))
        doomed = {each for each, document in left.items() if matches(where, document)}
        assert await table.matching(text, [Modality.IMAGE], 5, where) == []
        assert (await table.delete_matching(where)).count == len(doomed)
        left = {each: document for each, document in left.items() if each not in doomed}
        assert {row.document.id for row in await table.find(None, 100)} == left.keys()
    assert 0 < len(left) < 60
    assert (await (await lancedb.connect_async(str(tmp_path))).list_tables()).tables == tables


def test_the_largest_filter_that_is_taken_can_be_asked(plain: Filled) -> None:
    wide = Or(tuple(Compare("tags", Operator.ANY, (f"t{n}",)) for n in range(MAX_COMPARISONS)))
    deep: Filter = Compare("tags", Operator.ALL, ("a",))
    for level in range(MAX_DEPTH - 1):
        deep = Not(deep) if level % 3 else (And if level % 2 else Or)((deep, Compare("price", Operator.GT, level)))
    plain.agrees(wide)
    plain.agrees(deep)
