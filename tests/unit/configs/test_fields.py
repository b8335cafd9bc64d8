"""Declared fields and full text in the configuration: short and long forms, and what is refused."""

from typing import Any

import pytest

from configs.load import load_config
from configs.schema import RESERVED_FIELDS, FieldConfig
from deployments.declared import declared_fields, text_index
from serve_app.core.columns import COLUMNS, QUERY_COLUMN
from serve_app.errors import InvalidConfig
from serve_app.types import FieldIndex, FieldSpec, FieldType, TextIndexSpec


def fields_of(**fields: Any) -> dict[str, FieldSpec]:
    return dict(declared_fields(load_config("demo", {"table": {"fields": fields}}, {}).table))


def test_a_type_is_enough_and_brings_its_usual_index() -> None:
    declared = fields_of(
        price="float", sold="boolean", shop="string", tags=["string"], pages=["integer"], at="timestamp"
    )
    assert declared == {
        "price": FieldSpec(FieldType.FLOAT, FieldIndex.BTREE),
        "sold": FieldSpec(FieldType.BOOLEAN, FieldIndex.BITMAP),
        "shop": FieldSpec(FieldType.STRING, FieldIndex.BTREE),
        "tags": FieldSpec(FieldType.STRINGS, FieldIndex.LABEL_LIST),
        "pages": FieldSpec(FieldType.INTEGERS, FieldIndex.LABEL_LIST),
        "at": FieldSpec(FieldType.TIMESTAMP, FieldIndex.BTREE),
    }


def test_an_index_may_be_named() -> None:
    declared = fields_of(shop={"type": "string", "index": "bitmap"}, tags={"type": ["string"], "index": "none"})
    assert declared["shop"] == FieldSpec(FieldType.STRING, FieldIndex.BITMAP)
    assert declared["tags"] == FieldSpec(FieldType.STRINGS, FieldIndex.NONE)


def test_fields_and_full_text_can_be_set_from_the_environment() -> None:
    environment = {"CROSSMODAL_TABLE__FIELDS": "{price: float}", "CROSSMODAL_FULL_TEXT__LANGUAGE": "German"}
    config = load_config("demo", None, environment)
    assert set(config.table.fields) == {"price"}
    assert text_index(config.full_text) == TextIndexSpec(language="German")
    assert text_index(load_config("demo", None, {}).full_text) == TextIndexSpec()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"price": "money"}, "table.fields.price.type"),
        ({"price": ["float"]}, r"\[string\] or \[integer\]"),
        ({"price": {"type": "float", "index": "bitmap"}}, "the index bitmap takes string, integer, boolean, not float"),
        ({"tags": {"type": ["string"], "index": "btree"}}, "the index btree takes"),
        ({"price": {"type": "float", "unit": "EUR"}}, "unit"),
        ({"id": "string"}, "'id' cannot be a field"),
        ({"Price": "float"}, "'Price' cannot be a field"),
        ({"a b": "float"}, "cannot be a field"),
        ({"_score": "float"}, "cannot be a field"),
        ({"x`; --": "float"}, "cannot be a field"),
        ({f"f{n}": "float" for n in range(65)}, "at most 64"),
    ],
)
def test_a_wrong_declaration_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        fields_of(**fields)


@pytest.mark.parametrize(
    ("full_text", "message"),
    [
        ({"tokenizer": "jieba"}, "full_text.tokenizer"),
        ({"language": "Klingon"}, "one of Arabic, Danish"),
        ({"stop_words": True}, "full_text.language"),
    ],
)
def test_a_wrong_full_text_is_named(full_text: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        load_config("demo", {"full_text": full_text}, {})


def test_the_schema_reserves_the_columns_of_every_table_and_knows_every_type_and_index() -> None:
    assert set(RESERVED_FIELDS) == {*COLUMNS, QUERY_COLUMN}
    for name, enumeration in (("type", FieldType), ("index", FieldIndex)):
        assert set(FieldConfig.model_json_schema()["properties"][name]["enum"]) == set(enumeration)
