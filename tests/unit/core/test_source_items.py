"""Items of a source survive the way through Arrow."""

import pytest

from serve_app.core.source_items import SOURCE_SCHEMA, SourceItem, items_to_rows, rows_to_items


def test_items_come_back_as_they_were() -> None:
    items = [
        SourceItem("a.csv#1", id="a", uri="file:///a.png", text="Ä", metadata={"k": [1, None]}, fields={"price": 2.5}),
        SourceItem("b.tar#x", data=b"\x00\xff"),
    ]
    rows = items_to_rows(items)
    assert rows.schema == SOURCE_SCHEMA
    assert rows_to_items(rows) == items


def test_metadata_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        items_to_rows([SourceItem("a", metadata={"k": float("nan")})])
