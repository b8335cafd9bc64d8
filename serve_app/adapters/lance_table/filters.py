"""A checked filter as LanceDB takes it: typed expressions, and for lists a fixed template around hexadecimal digits.

Promises that no character of a user's text becomes part of a statement, quoted or not: strings travel as bytes, and the
names of columns are those that the operator declared. What a filter means stands in core.filters; a fuzz test compares.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, assert_never

import lancedb
from lancedb.expr import Expr, func

from serve_app.core.columns import INSTANT, LATE_COLUMNS
from serve_app.core.filters import FILTERED_COLUMNS
from serve_app.types import And, Compare, Filter, Modality, Not, Operator, Or

Predicate: TypeAlias = Expr | str
"""What `where` and `delete` of LanceDB take. A string only where LanceDB 0.40 has no expression: elements of lists."""

_NEVER_NULL = frozenset({"id", "modality", "content_sha256", "created_at", "updated_at"})
_ALWAYS_THERE = FILTERED_COLUMNS.keys() - LATE_COLUMNS
_COMPARISONS: Mapping[Operator, Callable[[Expr, Any], Expr]] = {
    Operator.EQ: Expr.__eq__,
    Operator.NE: Expr.__ne__,
    Operator.LT: Expr.__lt__,
    Operator.LTE: Expr.__le__,
    Operator.GT: Expr.__gt__,
    Operator.GTE: Expr.__ge__,
}
_LIST_FUNCTIONS = {Operator.ANY: "array_has_any", Operator.ALL: "array_has_all"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def predicate(where: Filter, columns: Container[str]) -> Predicate:
    """The rows for which this is true are those that core.filters.matches says match.

    `columns`: those that the table has besides the ones of every version. An old version of the table lacks what was
    declared later: there, no document has it.
    """
    return _compiled(where, columns, negated=False)


def modality_is(modality: Modality) -> Expr:
    return lancedb.col("modality") == lancedb.lit(modality.value)


def ids_are(ids: Sequence[str]) -> Expr:
    return lancedb.col("id").isin([_literal(each) for each in ids])


def _compiled(where: Filter, columns: Container[str], *, negated: bool) -> Predicate:
    """SQL's `not` of null is null. So negations are carried down to the comparisons, where a missing field is told."""
    match where:
        case Compare(field, op, value) if field not in columns and field not in _ALWAYS_THERE:
            return lancedb.lit((op is Operator.EXISTS and not value) is not negated)
        case Compare():
            return _negated(where) if negated else _comparison(where)
        case Not(filter):
            return _compiled(filter, columns, negated=not negated)
        case And(filters) | Or(filters):
            parts = [_compiled(each, columns, negated=negated) for each in filters]
            return _joined(parts, every=isinstance(where, And) is not negated)
        case _:
            assert_never(where)


def _joined(parts: Sequence[Predicate], *, every: bool) -> Predicate:
    """As a balanced tree: the parser of LanceDB's statements takes no deep ones."""
    if len(parts) == 1:
        return parts[0]
    left = _joined(parts[: len(parts) // 2], every=every)
    right = _joined(parts[len(parts) // 2 :], every=every)
    if isinstance(left, Expr) and isinstance(right, Expr):
        return left & right if every else left | right
    return f"({_statement(left)} {'AND' if every else 'OR'} {_statement(right)})"


def _comparison(where: Compare) -> Predicate:
    column = lancedb.col(where.field)
    match where.op:
        case Operator.ANY | Operator.ALL:
            return f"{_LIST_FUNCTIONS[where.op]}({_quoted(where.field)}, make_array({_elements(where.value)}))"
        case Operator.EXISTS:
            # True unless null.
            return column == column if where.value else _is_null(column)
        case Operator.IN:
            return column.isin([_literal(value) for value in _values(where)])
        case Operator.PREFIX:
            return _has_prefix(column, str(where.value))
        case _:
            return _COMPARISONS[where.op](column, _literal(where.value))


def _negated(where: Compare) -> Predicate:
    if where.op is Operator.EXISTS:
        return _comparison(Compare(where.field, Operator.EXISTS, not where.value))
    matching = _comparison(where)
    if isinstance(matching, str):
        return f"({_quoted(where.field)} IS NULL OR NOT {matching})"
    return ~matching if where.field in _NEVER_NULL else ~matching | _is_null(lancedb.col(where.field))


def _is_null(column: Expr) -> Expr:
    """LanceDB's expressions have no IS NULL; of their functions only `concat` takes a null, as the empty string."""
    return func("concat", (column == column).cast("string"), lancedb.lit("")) == lancedb.lit("")


def _has_prefix(column: Expr, prefix: str) -> Expr:
    """As a range, which an ordered index answers: from the prefix to before the next string that is no longer one."""
    end = _after_prefix(prefix)
    begins = column >= _literal(prefix)
    return begins if end is None else begins & (column < _literal(end))


def _after_prefix(prefix: str) -> str | None:
    """The first string, by code points, after all that begin with `prefix`; None where there is none."""
    kept = prefix.rstrip(chr(_LAST_CHARACTER))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def _literal(value: Any) -> Expr:
    match value:
        case str():
            # As bytes, which LanceDB itself writes as hexadecimal digits wherever it turns an expression into a statement.
            return lancedb.lit(value.encode()).cast("string")
        case datetime():
            # Its own literal goes through a float of seconds, which loses microseconds far from 1970.
            return lancedb.lit((value - _EPOCH) // timedelta(microseconds=1)).cast(INSTANT)
        case _:
            return lancedb.lit(value)


def _values(where: Compare) -> tuple[Any, ...]:
    return where.value if isinstance(where.value, tuple) else (where.value,)


def _elements(values: Any) -> str:
    return ", ".join(_literal(value).to_sql() for value in values)


def _quoted(column: str) -> str:
    return f"`{column}`"


def _statement(part: Predicate) -> str:
    return part.to_sql() if isinstance(part, Expr) else part
