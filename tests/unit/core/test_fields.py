from datetime import UTC, datetime
from typing import Any

import pytest

from serve_app.core.fields import check_fields
from serve_app.errors import InvalidField
from serve_app.types import FieldIndex, FieldSpec, FieldType

DECLARED = {type_.value: FieldSpec(type_, FieldIndex.NONE) for type_ in FieldType}


def test_fields_come_in_their_types_and_a_null_is_no_field() -> None:
    given = {
        "string": "ü",
        "integer": -(2**63) + 1,
        "float": 3,
        "boolean": False,
        "timestamp": "2026-11-24T09:30:00.000001Z",
        "strings": ["a", "a", ""],
        "integers": [],
    }
    checked = check_fields(given, DECLARED)
    assert checked == {
        **given,
        "float": 3.0,
        "timestamp": datetime(2026, 11, 24, 9, 30, 0, 1, UTC),
        "strings": ("a", "a", ""),
        "integers": (),
    }
    assert isinstance(checked["float"], float)
    assert check_fields({"float": None, "strings": None}, DECLARED) == {}
    assert str(check_fields({"float": -0.0}, DECLARED)["float"]) == "0.0"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": "red"}, "'colour' is not declared in table.fields; declared are: boolean, float, integer, "),
        ({"float": "3"}, r"'float' \(float\) takes a finite number"),
        ({"float": float("inf")}, "takes a finite number"),
        ({"integer": 3.0}, "takes an integer of 64 bits"),
        ({"integer": True}, "takes an integer of 64 bits"),
        ({"boolean": 1}, "takes true or false"),
        ({"timestamp": "soon"}, "takes a time in ISO 8601, such as 2026"),
        ({"strings": "a"}, r"'strings' \(strings\) takes a list of at most 1,024 elements"),
        ({"strings": ["a", None]}, "takes a string"),
        ({"integers": list(range(1025))}, "takes a list"),
        ({"string": "\udcff"}, "takes valid Unicode"),
    ],
)
def test_a_wrong_field_is_told_with_its_name_and_what_it_takes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        check_fields(given, DECLARED)


def test_where_nothing_is_declared_the_message_says_so() -> None:
    with pytest.raises(InvalidField, match="declared are: none"):
        check_fields({"price": 1}, {})
