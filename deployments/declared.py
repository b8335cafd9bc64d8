"""What the configuration declares, as the application knows it."""

from collections.abc import Mapping

from configs.schema import FullTextConfig, TableConfig
from serve_app.types import FieldIndex, FieldSpec, FieldType, TextIndexSpec


def declared_fields(table: TableConfig) -> Mapping[str, FieldSpec]:
    return {name: FieldSpec(FieldType(each.type), FieldIndex(each.index)) for name, each in table.fields.items()}


def text_index(full_text: FullTextConfig) -> TextIndexSpec:
    return TextIndexSpec(**full_text.model_dump())
