from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from serve_app.core.filters import MAX_COMPARISONS, MAX_DEPTH, MAX_VALUES, check_filter, matches
from serve_app.errors import InvalidFilter
from serve_app.types import (
    And,
    Compare,
    Document,
    FieldIndex,
    FieldSpec,
    FieldType,
    Filter,
    Modality,
    Not,
    Operator,
    Or,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIELDS = {
    "price": FieldSpec(FieldType.FLOAT, FieldIndex.BTREE),
    "count": FieldSpec(FieldType.INTEGER, FieldIndex.BTREE),
    "sold": FieldSpec(FieldType.BOOLEAN, FieldIndex.BITMAP),
    "shop": FieldSpec(FieldType.STRING, FieldIndex.BTREE),
    "taken_at": FieldSpec(FieldType.TIMESTAMP, FieldIndex.BTREE),
    "tags": FieldSpec(FieldType.STRINGS, FieldIndex.LABEL_LIST),
}
BOAT = Document(
    id="boat/1",
    modality=Modality.IMAGE,
    uri="s3://b/boat.png",
    text=None,
    content_sha256="0" * 64,
    metadata={},
    created_at=NOON,
    updated_at=NOON + timedelta(days=1),
    fields={"price": 19.5, "count": 3, "sold": False, "taken_at": NOON, "tags": ("red", "night")},
)


def of(field: str, op: str, value: Any) -> Compare:
    return Compare(field, Operator(op), value)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (of("price", "lt", 20), True),
        (of("price", "gte", 19.5), True),
        (of("price", "ne", 19.5), False),
        (of("price", "in", (1, 19.5)), True),
        (of("count", "eq", 3), True),
        (of("sold", "eq", False), True),
        (of("sold", "in", (True,)), False),
        (of("taken_at", "eq", "2026-11-24T21:00:00+09:00"), True),
        (of("taken_at", "gt", "2026-11-24"), True),
        (of("created_at", "lt", "2026-11-24T12:00:00"), False),
        (of("updated_at", "gt", NOON), True),
        (of("tags", "any", ("blue", "red")), True),
        (of("tags", "all", ("blue", "red")), False),
        (of("tags", "all", ("night", "red", "red")), True),
        (of("id", "prefix", "boat/"), True),
        (of("uri", "prefix", "s3://c"), False),
        (of("uri", "prefix", ""), True),
        (of("modality", "eq", "image"), True),
        (of("modality", "in", ("text", "image_text")), False),
        (of("text", "exists", False), True),
        (of("shop", "exists", True), False),
        (of("shop", "eq", "harbour"), False),
        (of("shop", "ne", "harbour"), False),
        (Not(of("shop", "eq", "harbour")), True),
        (Not(Not(of("shop", "eq", "harbour"))), False),
        (And((of("price", "lt", 20), of("count", "gt", 3))), False),
        (Or((of("price", "lt", 20), of("count", "gt", 3))), True),
        (Not(Or((of("price", "gt", 20), of("shop", "gt", "a")))), True),
    ],
)
def test_a_filter_matches_or_does_not(where: Filter, expected: bool) -> None:
    assert matches(check_filter(where, FIELDS), BOAT) is expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (of("prize", "lt", 20), "'prize', which is not there; there are: id, modality, uri, text, .*, count, price"),
        (of("vector", "eq", 1), "'vector', which is not there"),
        (of("x" * 500, "eq", 1), "x…', which"),
        (of("price", "prefix", "1"), r"'price' \(float\) takes eq, ne, lt, .*exists, not prefix"),
        (of("text", "eq", "boat"), r"'text' \(string\) takes exists, not eq"),
        (of("tags", "eq", "red"), r"'tags' \(strings\) takes any, all, exists, not eq"),
        (of("price", "lt", "20"), r"lt of the field 'price' \(float\) takes a finite number"),
        (of("price", "lt", True), "takes a finite number"),
        (of("price", "lt", float("nan")), "takes a finite number"),
        (of("price", "lt", 10**400), "takes a finite number"),
        (of("count", "eq", 1.5), "takes an integer of 64 bits"),
        (of("count", "eq", 2**63), "takes an integer of 64 bits"),
        (of("sold", "eq", 1), "takes true or false"),
        (of("sold", "exists", "yes"), "takes true or false"),
        (of("shop", "eq", 1), "takes a string of at most 2,048 characters"),
        (of("shop", "eq", "x" * 2049), "takes a string of at most"),
        (of("shop", "eq", "\ud800"), "takes valid Unicode"),
        (of("taken_at", "lt", "yesterday"), "takes a time in ISO 8601"),
        (of("taken_at", "lt", "0001-01-01T00:00:00+09:00"), "takes a time in ISO 8601"),
        (of("taken_at", "lt", 5), "takes a time in ISO 8601"),
        (of("price", "in", 5), "in of the field 'price' takes a list"),
        (of("price", "eq", (5,)), "eq of the field 'price' takes one value"),
        (of("price", "in", ()), "takes at least one value"),
        (of("tags", "any", ("red", 5)), "takes a string"),
        (of("modality", "eq", "video"), "'modality' is one of text, image, image_text"),
        (And(()), "at least one filter"),
    ],
)
def test_a_wrong_filter_is_told_with_its_field_and_what_it_takes(where: Filter, message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        check_filter(And((of("id", "exists", True), Not(where))), FIELDS)


def test_a_checked_filter_has_its_values_in_the_types_of_the_fields() -> None:
    where = Or((of("price", "in", (1, 1.0, -0.0)), of("taken_at", "gt", "2026-11-24T21:00+09:00")))
    checked = check_filter(where, FIELDS)
    assert checked == Or((of("price", "in", (1.0, 0.0)), of("taken_at", "gt", NOON)))
    assert str(checked.filters[0].value) == "(1.0, 0.0)"  # type: ignore[union-attr]
    assert check_filter(checked, FIELDS) == checked


def test_a_local_time_is_one_instant() -> None:
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    assert check_filter(of("taken_at", "eq", tokyo), FIELDS) == of("taken_at", "eq", NOON)


def test_a_filter_has_bounds() -> None:
    one = of("count", "gt", 0)
    deep: Filter = one
    for _ in range(MAX_DEPTH - 1):
        deep = Not(deep)
    check_filter(deep, FIELDS)
    check_filter(Or((one,) * MAX_COMPARISONS), FIELDS)
    with pytest.raises(InvalidFilter, match="nested more than 16 deep"):
        check_filter(Not(deep), FIELDS)
    with pytest.raises(InvalidFilter, match="more than 256 comparisons"):
        check_filter(And((one, Or((one,) * MAX_COMPARISONS))), FIELDS)
    with pytest.raises(InvalidFilter, match="1024 values"):
        check_filter(of("count", "in", tuple(range(MAX_VALUES + 1))), FIELDS)
    for _ in range(100_000):
        deep = Not(deep)
    with pytest.raises(InvalidFilter, match="nested"):
        check_filter(deep, FIELDS)
