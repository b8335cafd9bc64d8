"""Turns a row of named values into an item: which column is what, and what its values mean. Knows no format of files."""

import json
import math
from collections.abc import Collection, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from serve_app.adapters.object_store import place_of
from serve_app.adapters.sources.parts import failure
from serve_app.adapters.sources.spec import ROLES, SourceSpec
from serve_app.core.fields import LIST_TYPES
from serve_app.core.source_items import SourceFailure, SourceItem
from serve_app.errors import InvalidRow, InvalidSource, PictureTooLarge
from serve_app.types import FieldType

# What a column is taken for when nobody says otherwise; the first that is there.
USUAL = {
    "id": ("id",),
    "uri": ("uri", "url", "file_name"),
    "text": ("text", "caption"),
    "image": ("image",),
}
LIST_SEPARATOR = ";"  # between the elements of a list in a CSV, as in `crossmodal add`
_ABSENT = object()


class RowMapping:
    """Made once for a file. `known`: its columns, where it has the same ones in every row; else each row is looked at.

    Raises InvalidSource for a column that was named and is not there. `pictures`: columns that hold pictures by their type.
    `unusual`: roles that no column has unless it is named.
    """

    def __init__(
        self,
        spec: SourceSpec,
        base: str,
        known: Collection[str] | None = None,
        pictures: Collection[str] = (),
        unusual: Collection[str] = (),
    ) -> None:
        self._spec = spec
        self._base = spec.base_uri or base
        is_local = "://" not in self._base or self._base.startswith("file://")
        self._folder = Path(place_of(self._base).key) if is_local else None
        self._usual = {**USUAL, "image": (*pictures, *USUAL["image"]), **dict.fromkeys(unusual, ())}
        wanted = [*spec.columns.values(), *(spec.metadata or ())]
        if known is not None and (missing := [column for column in wanted if column not in known]):
            raise InvalidSource(f"there is no column {missing[0]!r}; there are: {', '.join(known) or 'none'}")
        if known is not None and not any(self._column(role, known) for role in ("uri", "text", "image")):
            raise InvalidSource(
                f"no column is known to hold a picture or a text; there are: {', '.join(known) or 'none'}; "
                "name them, such as text=caption"
            )

    def item(self, key: str, row: Mapping[str, Any]) -> SourceItem | SourceFailure:
        """The item of a row; a failure where the row is no document."""
        try:
            return self._item(key, row)
        except (InvalidRow, PictureTooLarge) as error:
            return failure(key, error)

    def _item(self, key: str, row: Mapping[str, Any]) -> SourceItem:
        columns = {role: self._column(role, row) for role in ROLES}
        given = {role: None if column is None else _present(row.get(column)) for role, column in columns.items()}
        data, uri = self._picture(given["image"])
        if given["uri"] is not None:
            uri = self._uri(given["uri"])
        text = given["text"]
        if text is not None and not isinstance(text, str):
            raise InvalidRow("the text is not a string")
        if data is None and uri is None and text is None:
            raise InvalidRow("the row has neither a picture nor a text")
        fields, used = self._fields(row)
        rest = self._metadata(row, {*used, *filter(None, columns.values())})
        return SourceItem(key, _id(given["id"]), uri, data, text, rest, fields)

    def _column(self, role: str, row: Collection[str]) -> str | None:
        if role in self._spec.columns:
            return self._spec.columns[role]
        taken = set(self._spec.columns.values())
        return next((column for column in self._usual[role] if column in row and column not in taken), None)

    def _picture(self, value: Any) -> tuple[bytes | None, str | None]:
        """Bytes, a path or a URI, or both as Hugging Face's Image feature has them."""
        if isinstance(value, Mapping):
            data, path = value.get("bytes"), value.get("path")
            return self._picture(path if data is None else data)
        if isinstance(value, bytes):
            if len(value) > self._spec.max_item_bytes:
                raise PictureTooLarge(
                    f"the picture has {len(value):,} bytes, at most {self._spec.max_item_bytes:,} are taken"
                )
            return value, None
        return None, None if value is None else self._uri(value)

    def _uri(self, value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidRow("the address of the picture is not a string")
        if "://" in value:
            return value
        if self._folder is not None:
            return (self._folder / value).as_uri()
        return f"{self._base.rstrip('/')}/{value.lstrip('/')}"

    def _fields(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
        """Declared fields, from columns that are named so or said to be, and from an object `fields`."""
        fields: dict[str, Any] = dict(_object(row.get("fields"), "fields"))
        used = {"fields"}
        for name, type_ in self._spec.fields.items():
            column = self._spec.columns.get(name, name)
            if column in row:
                used.add(column)
                value = _json_value(row[column])
                if value is not None and value is not _ABSENT:
                    fields[name] = _typed(value, type_)
        return fields, used

    def _metadata(self, row: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
        if self._spec.metadata is not None:
            chosen = {column: row.get(column) for column in self._spec.metadata}
        else:
            chosen = {column: value for column, value in row.items() if column not in used and column != "metadata"}
        found = {column: _json_value(value) for column, value in chosen.items() if _present(value) is not None}
        own = {} if self._spec.metadata is not None else _object(row.get("metadata"), "metadata")
        return {**{column: value for column, value in found.items() if value is not _ABSENT}, **own}


def _present(value: Any) -> Any:
    """None for what says nothing: an empty cell, or the NaN that stands for nothing in many Parquet files."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return None if isinstance(value, str) and value == "" else value


def _id(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise InvalidRow("the id is neither a string nor a whole number")
    return None if value is None else str(value)


def _object(value: Any, column: Literal["metadata", "fields"]) -> Mapping[str, Any]:
    """A column that holds an object, or one as JSON."""
    if _present(value) is None:
        return {}
    try:
        found = json.loads(value) if isinstance(value, str) else _json_value(value)
    except ValueError as error:
        raise InvalidRow(f"the column {column} is not JSON") from error
    if not isinstance(found, Mapping):
        raise InvalidRow(f"the column {column} holds no object")
    return found


def _json_value(value: Any) -> Any:
    """A value as JSON has it; _ABSENT for what holds bytes, which no metadata does."""
    match value:
        case bytes():
            return _ABSENT
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            inside = {str(key): _json_value(each) for key, each in value.items()}
            return _ABSENT if _ABSENT in inside.values() else inside
        case list() | tuple():
            elements = [_json_value(each) for each in value]
            return _ABSENT if any(each is _ABSENT for each in elements) else elements
        case _:
            return value


def _typed(value: Any, type_: FieldType) -> Any:
    """A cell of a CSV as the field's type has it in JSON; one that is not of the type goes as it is, and core.fields says so."""
    if not isinstance(value, str):
        return value
    if type_ in LIST_TYPES:
        parts = [each.strip() for each in value.split(LIST_SEPARATOR) if each.strip()]
        return parts if type_ is FieldType.STRINGS else [_typed(each, FieldType.INTEGER) for each in parts]
    try:
        match type_:
            case FieldType.INTEGER:
                return int(value)
            case FieldType.FLOAT:
                return float(value)
            case FieldType.BOOLEAN:
                return {"true": True, "false": False}[value.strip().lower()]
            case _:
                return value or None
    except (ValueError, KeyError):
        return value or None
