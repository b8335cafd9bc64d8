"""What a user says of a source. Knows how none of them is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from serve_app.errors import InvalidSource
from serve_app.types import FieldType

ROLES = ("id", "uri", "text", "image")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """`locations`: paths or URIs of files, folders or prefixes; in tars and lists `{00..99}` and `{a,b}` are spelt out.

    `kind`: one of opening.KINDS; by default what lies there tells. `columns`: role or declared field to the column that holds it.
    `metadata`: the columns that become metadata; by default all that are nothing else. `fields`: the declared ones.
    `base_uri`: where relative URIs begin; by default at the file that holds them. `captions`: take the text of a picture from
    the .txt beside it. `split`: of a dataset. `table`: name of a table of ours. `options`: of the object store.
    """

    locations: tuple[str, ...]
    kind: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    metadata: tuple[str, ...] | None = None
    fields: Mapping[str, FieldType] = field(default_factory=dict)
    base_uri: str | None = None
    captions: bool = False
    split: str | None = None
    table: str = "documents"
    options: Mapping[str, str] = field(default_factory=dict)
    max_item_bytes: int = 20_000_000

    def __post_init__(self) -> None:
        if not self.locations:
            raise InvalidSource("a source needs a path or a URI to read from")
        if wrong := [role for role in self.columns if role not in ROLES and role not in self.fields]:
            known = ", ".join([*ROLES, *self.fields])
            raise InvalidSource(f"a column cannot be {wrong[0]!r}: there are {known}")


def column_mapping(given: Iterable[str]) -> Mapping[str, str]:
    """`["id=image_id", "text=caption"]` as role to column. Raises InvalidSource."""
    found: dict[str, str] = {}
    for each in given:
        role, separator, column = each.partition("=")
        if not separator or not role or not column:
            raise InvalidSource(f"{each!r} names no column; write it as id=image_id")
        if role in found:
            raise InvalidSource(f"{role} is given two columns, {found[role]} and {column}")
        found[role] = column
    return found
