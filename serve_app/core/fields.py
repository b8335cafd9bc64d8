"""Declared fields: which values they take, and as what. Knows nothing of a store.

A document without a field does not name it; a null says the same. There is one zero, every number is finite, and
timestamps are instants: without an offset they are in UTC.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_never

from serve_app.errors import InvalidField
from serve_app.types import FieldSpec, FieldType, FieldValue

MAX_CHARACTERS = 2048
MAX_ELEMENTS = 1024
# Symmetrical: the parsers of SQL take a minus for an operator, and 2^63 for a number too large.
MAX_INTEGER = 2**63 - 1
LIST_TYPES = frozenset({FieldType.STRINGS, FieldType.INTEGERS})


def check_fields(given: Mapping[str, Any], declared: Mapping[str, FieldSpec]) -> dict[str, FieldValue]:
    """The fields of a document in their types, without the nulls. Raises InvalidField, which names the field."""
    fields: dict[str, FieldValue] = {}
    for name, value in given.items():
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise InvalidField(f"the field {shown(name)} is not declared in table.fields; declared are: {known}")
        if value is None:
            continue
        type_ = declared[name].type
        try:
            fields[name] = _list(value, type_) if type_ in LIST_TYPES else value_of_type(value, type_)
        except ValueError as error:
            raise InvalidField(f"the field {name!r} ({type_}) takes {error}") from error
    return fields


def value_of_type(value: object, type_: FieldType) -> Any:
    """One value, of a list one element, as the type has it. Raises ValueError that says what is wanted instead."""
    match type_:
        case FieldType.STRING | FieldType.STRINGS:
            return _string(value)
        case FieldType.INTEGER | FieldType.INTEGERS:
            return _integer(value)
        case FieldType.FLOAT:
            return _float(value)
        case FieldType.BOOLEAN:
            if not isinstance(value, bool):
                raise ValueError("true or false")
            return value
        case FieldType.TIMESTAMP:
            return _instant(value)
        case _:
            assert_never(type_)


def shown(name: str) -> str:
    """A name that somebody else chose, for a message."""
    return repr(name if len(name) <= 64 else name[:64] + "…")


def _list(value: object, type_: FieldType) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_ELEMENTS:
        raise ValueError(f"a list of at most {MAX_ELEMENTS:,} elements")
    return tuple(value_of_type(each, type_) for each in value)


def _string(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS:
        raise ValueError(f"a string of at most {MAX_CHARACTERS:,} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("valid Unicode") from error
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
        raise ValueError("an integer of 64 bits")
    return value


def _float(value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(number := float(value)):
            raise ValueError("a finite number")
    except OverflowError as error:
        raise ValueError("a finite number") from error
    # Arrow orders -0.0 before 0.0; nobody else does.
    return number + 0.0


def _instant(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            raise ValueError("neither a string nor a moment")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("a time in ISO 8601, such as 2026-11-24T09:30:00Z") from error
