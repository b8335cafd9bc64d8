"""What a filter may say and what it means. Pure; knows neither JSON nor a store.

A filter is two-valued: a document matches it or does not. A document without the field matches no comparison, `ne`
included; `exists: false` and `not` find it. Strings compare by code point, timestamps as instants; timestamps without an
offset are in UTC.
"""

from collections.abc import Callable, Mapping
from typing import Any, assert_never

from serve_app.core.fields import shown, value_of_type
from serve_app.errors import InvalidFilter
from serve_app.types import And, Compare, Document, FieldSpec, FieldType, Filter, Modality, Not, Operator, Or

MAX_DEPTH = 16
MAX_COMPARISONS = 256
MAX_VALUES = 1024

_ORDERED = (Operator.EQ, Operator.NE, Operator.LT, Operator.LTE, Operator.GT, Operator.GTE, Operator.IN)
_LISTED = (Operator.ANY, Operator.ALL, Operator.EXISTS)
_OPERATORS: Mapping[FieldType, tuple[Operator, ...]] = {
    FieldType.STRING: (*_ORDERED, Operator.PREFIX, Operator.EXISTS),
    FieldType.INTEGER: (*_ORDERED, Operator.EXISTS),
    FieldType.FLOAT: (*_ORDERED, Operator.EXISTS),
    FieldType.BOOLEAN: (Operator.EQ, Operator.NE, Operator.IN, Operator.EXISTS),
    FieldType.TIMESTAMP: (*_ORDERED, Operator.EXISTS),
    FieldType.STRINGS: _LISTED,
    FieldType.INTEGERS: _LISTED,
}
# The columns of every table that can be filtered by. Words within a text are the business of full text.
FILTERED_COLUMNS: Mapping[str, tuple[FieldType, tuple[Operator, ...]]] = {
    "id": (FieldType.STRING, _OPERATORS[FieldType.STRING]),
    "modality": (FieldType.STRING, (Operator.EQ, Operator.NE, Operator.IN)),
    "uri": (FieldType.STRING, _OPERATORS[FieldType.STRING]),
    "text": (FieldType.STRING, (Operator.EXISTS,)),
    "created_at": (FieldType.TIMESTAMP, _OPERATORS[FieldType.TIMESTAMP]),
    "updated_at": (FieldType.TIMESTAMP, _OPERATORS[FieldType.TIMESTAMP]),
    "content_sha256": (FieldType.STRING, (Operator.EQ, Operator.NE, Operator.IN)),
    "offset_s": (FieldType.FLOAT, _OPERATORS[FieldType.FLOAT]),
}


def check_filter(where: Filter, fields: Mapping[str, FieldSpec]) -> Filter:
    """The filter with its values in the types of their fields. Raises InvalidFilter, which names the field and says why."""
    _check_size(where)
    return _checked(where, fields)


def matches(where: Filter, document: Document) -> bool:
    """Whether a document matches a checked filter; what every table has to agree with."""
    match where:
        case Compare():
            return _compare(where, _value_in(document, where.field))
        case And(filters):
            return all(matches(each, document) for each in filters)
        case Or(filters):
            return any(matches(each, document) for each in filters)
        case Not(filter):
            return not matches(filter, document)
        case _:
            assert_never(where)


def type_of(field: str, fields: Mapping[str, FieldSpec]) -> FieldType:
    """Of a column that can be filtered by. Raises InvalidFilter for any other."""
    if field in FILTERED_COLUMNS:
        return FILTERED_COLUMNS[field][0]
    if field in fields:
        return fields[field].type
    known = ", ".join([*FILTERED_COLUMNS, *sorted(fields)])
    raise InvalidFilter(f"the filter names the field {shown(field)}, which is not there; there are: {known}")


def _check_size(where: Filter) -> None:
    """Without recursion: what is too deep must not be walked to the end first."""
    comparisons = values = 0
    level: list[Filter] = [where]
    for _ in range(MAX_DEPTH):
        below: list[Filter] = []
        for each in level:
            if isinstance(each, Compare):
                comparisons += 1
                values += len(each.value) if isinstance(each.value, tuple) else 1
            elif isinstance(each, Not):
                below.append(each.filter)
            else:
                below.extend(each.filters)
        if len(below) + comparisons > MAX_COMPARISONS or values > MAX_VALUES:
            raise InvalidFilter(f"the filter has more than {MAX_COMPARISONS} comparisons or {MAX_VALUES} values")
        if not below:
            return
        level = below
    raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep")


def _checked(where: Filter, fields: Mapping[str, FieldSpec]) -> Filter:
    match where:
        case Compare():
            return _checked_comparison(where, fields)
        case And(filters) | Or(filters):
            if not filters:
                raise InvalidFilter("`and` and `or` take at least one filter")
            return type(where)(tuple(_checked(each, fields) for each in filters))
        case Not(filter):
            return Not(_checked(filter, fields))
        case _:
            assert_never(where)


def _checked_comparison(where: Compare, fields: Mapping[str, FieldSpec]) -> Compare:
    type_ = type_of(where.field, fields)
    allowed = FILTERED_COLUMNS[where.field][1] if where.field in FILTERED_COLUMNS else _OPERATORS[type_]
    if where.op not in allowed:
        raise InvalidFilter(f"the field {where.field!r} ({type_}) takes {', '.join(allowed)}, not {where.op}")
    several = isinstance(where.value, tuple)
    if several != (where.op in (Operator.IN, Operator.ANY, Operator.ALL)):
        raise InvalidFilter(f"{where.op} of the field {where.field!r} takes {'one value' if several else 'a list'}")
    wanted = FieldType.BOOLEAN if where.op is Operator.EXISTS else type_
    given = where.value if isinstance(where.value, tuple) else (where.value,)
    if not given:
        raise InvalidFilter(f"{where.op} of the field {where.field!r} takes at least one value")
    try:
        values = tuple(dict.fromkeys(value_of_type(value, wanted) for value in given))
    except ValueError as error:
        raise InvalidFilter(f"{where.op} of the field {where.field!r} ({type_}) takes {error}") from error
    if where.field == "modality" and not set(values) <= set(Modality):
        raise InvalidFilter(f"the field 'modality' is one of {', '.join(Modality)}")
    return Compare(where.field, where.op, values if several else values[0])


def _value_in(document: Document, field: str) -> Any:
    return getattr(document, field) if field in FILTERED_COLUMNS else document.fields.get(field)


_COMPARISONS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: lambda found, asked: found == asked,
    Operator.NE: lambda found, asked: found != asked,
    Operator.LT: lambda found, asked: found < asked,
    Operator.LTE: lambda found, asked: found <= asked,
    Operator.GT: lambda found, asked: found > asked,
    Operator.GTE: lambda found, asked: found >= asked,
    Operator.IN: lambda found, asked: found in asked,
    Operator.ANY: lambda found, asked: not set(found).isdisjoint(asked),
    Operator.ALL: lambda found, asked: set(found).issuperset(asked),
    Operator.PREFIX: lambda found, asked: found.startswith(asked),
}


def _compare(where: Compare, found: Any) -> bool:
    if where.op is Operator.EXISTS:
        return (found is not None) is where.value
    return found is not None and _COMPARISONS[where.op](found, where.value)
