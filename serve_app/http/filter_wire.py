"""Filters as a client writes them, and what may be removed by one. What a field is and takes, the services check."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel, Tag

from serve_app.errors import InvalidFilter
from serve_app.http.wire_model import WireModel, exactly_one_of
from serve_app.types import And, Compare, Filter, Not, Operator, Or

MAX_VALUE_CHARACTERS = 2048
MAX_FILTER_VALUES = 1024

Scalar = Annotated[str, Field(max_length=MAX_VALUE_CHARACTERS)] | int | float | bool
Values = Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=MAX_FILTER_VALUES)]


class CompareIn(WireModel):
    """A field against values. With several operators all of them have to hold. A document without the field matches none."""

    field: str = Field(description="`id`, `modality`, `uri`, `text`, `created_at`, `updated_at`, or a declared field.")
    eq: Scalar | None = None
    ne: Scalar | None = None
    lt: Scalar | None = None
    lte: Scalar | None = None
    gt: Scalar | None = None
    gte: Scalar | None = None
    in_: Values | None = Field(default=None, alias="in", description="One of these.")
    any: Values | None = Field(default=None, description="A list with at least one of these.")
    all: Values | None = Field(default=None, description="A list with all of these.")
    exists: bool | None = Field(default=None, description="Whether the document has the field.")
    prefix: str | None = Field(default=None, max_length=MAX_VALUE_CHARACTERS)

    def to_filter(self) -> Filter:
        given = self.model_dump(exclude_none=True, exclude={"field"}, by_alias=True)
        if not given:
            raise InvalidFilter(f"The filter of the field {self.field[:64]!r} needs one of {', '.join(Operator)}.")
        parts = tuple(Compare(self.field, Operator(name), value) for name, value in given.items())
        return parts[0] if len(parts) == 1 else And(parts)


class AndIn(WireModel):
    """All of these."""

    and_: tuple["FilterIn", ...] = Field(alias="and", min_length=1, max_length=MAX_FILTER_VALUES)

    def to_filter(self) -> Filter:
        return And(tuple(each.to_filter() for each in self.and_))


class OrIn(WireModel):
    """At least one of these."""

    or_: tuple["FilterIn", ...] = Field(alias="or", min_length=1, max_length=MAX_FILTER_VALUES)

    def to_filter(self) -> Filter:
        return Or(tuple(each.to_filter() for each in self.or_))


class NotIn(WireModel):
    """Every document that this does not match, those without its field included."""

    not_: "FilterIn" = Field(alias="not")

    def to_filter(self) -> Filter:
        return Not(self.not_.to_filter())


FilterIn = Annotated[
    Annotated[CompareIn, Tag("<field>")]
    | Annotated[AndIn, Tag("<and>")]
    | Annotated[OrIn, Tag("<or>")]
    | Annotated[NotIn, Tag("<not>")],
    exactly_one_of("field", "and", "or", "not"),
]


AndIn.model_rebuild()
OrIn.model_rebuild()
NotIn.model_rebuild()


class FilterText(RootModel[FilterIn]):
    """A filter as the JSON text of a query parameter."""

    model_config = ConfigDict(frozen=True, strict=True)


class DeletionIn(WireModel):
    """What to remove: exactly one of these three."""

    filter: FilterIn | None = None
    ids: tuple[str, ...] | None = Field(default=None, min_length=1)
    all: Literal[True] | None = Field(default=None, description="Every document.")
