"""What Hugging Face's `datasets` says of its columns, in the schema of its Arrow and Parquet files. Knows no files."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Features:
    """`pictures`: columns of the Image feature. `labels`: the names behind the numbers of a ClassLabel, by column."""

    pictures: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def named(self) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
        """Puts the names of labels in place of their numbers; a number without a name, such as -1, says nothing."""

        def name(column: str, value: Any) -> Any:
            names = self.labels.get(column)
            if names is None or not isinstance(value, int):
                return value
            return names[value] if 0 <= value < len(names) else None

        return lambda row: {column: name(column, value) for column, value in row.items()} if self.labels else row


def features_of(schema: pa.Schema) -> Features:
    """None of them where the files are not of `datasets`, except that a column of {bytes, path} is a picture anyway."""
    try:
        declared = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {column: each for column, each in declared.items() if isinstance(each, Mapping)}
    except (ValueError, KeyError, TypeError, AttributeError):
        kinds = {}
    pictures = [column for column, each in kinds.items() if each.get("_type") == "Image"]
    pictures += [column.name for column in schema if column.name not in pictures and _is_picture(column.type)]
    labels = {
        column: tuple(each.get("names") or ()) for column, each in kinds.items() if each.get("_type") == "ClassLabel"
    }
    return Features(tuple(pictures), labels)


def _is_picture(type_: pa.DataType) -> bool:
    return pa.types.is_struct(type_) and {type_.field(at).name for at in range(type_.num_fields)} == {"bytes", "path"}
