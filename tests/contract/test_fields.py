"""Declared fields and full text in the table: columns that come later, indexes that follow what is declared."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lancedb
import numpy as np
import pytest

from serve_app.adapters.lance_table import LanceTable
from serve_app.core.filters import check_filter
from serve_app.errors import InvalidConfig, InvalidField
from serve_app.ports import DocumentTable
from serve_app.types import (
    Compare,
    FieldIndex,
    FieldSpec,
    FieldType,
    FieldValue,
    Modality,
    Not,
    Operator,
    TextIndexSpec,
)
from tests.contract.rows import ENCODER, MONDAY, axis, ids_of, record, stored
from tests.fakes.table import MemoryTable

DECLARED = {
    "price": FieldSpec(FieldType.FLOAT, FieldIndex.BTREE),
    "year": FieldSpec(FieldType.INTEGER, FieldIndex.NONE),
    "sold": FieldSpec(FieldType.BOOLEAN, FieldIndex.BITMAP),
    "shop": FieldSpec(FieldType.STRING, FieldIndex.BITMAP),
    "taken_at": FieldSpec(FieldType.TIMESTAMP, FieldIndex.BTREE),
    "tags": FieldSpec(FieldType.STRINGS, FieldIndex.LABEL_LIST),
    "pages": FieldSpec(FieldType.INTEGERS, FieldIndex.LABEL_LIST),
}
WHOLE: Mapping[str, FieldValue] = {
    "price": 0.1,
    "year": -(2**63) + 1,
    "sold": False,
    "shop": "größe 'x' \U0010ffff",
    "taken_at": datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
    "tags": ("", "a", "a"),
    "pages": (2**63 - 1, 0),
}


@pytest.fixture(params=["memory", "lance"])
async def table(request: pytest.FixtureRequest, tmp_path: Path) -> DocumentTable:
    table = MemoryTable(fields=DECLARED) if request.param == "memory" else LanceTable(str(tmp_path), fields=DECLARED)
    await table.create(ENCODER)
    return table


async def opened(folder: Path) -> lancedb.AsyncTable:
    return await (await lancedb.connect_async(str(folder))).open_table("documents")


async def indexes(folder: Path) -> dict[str, str]:
    return {index.columns[0]: index.index_type for index in await (await opened(folder)).list_indices()}


async def test_fields_come_back_as_they_were_written(table: DocumentTable) -> None:
    await table.upsert(
        [record("whole", fields=WHOLE), record("bare"), record("empty", fields={"tags": ()})], {}, MONDAY
    )
    assert (await stored(table, "whole")).document.fields == WHOLE
    assert (await stored(table, "bare")).document.fields == {}
    assert (await stored(table, "empty")).document.fields == {"tags": ()}
    assert (await table.info()).fields == {name: spec.type for name, spec in DECLARED.items()}
    await table.upsert([record("whole", fields={"price": 2.0})], {}, MONDAY)
    assert (await stored(table, "whole")).document.fields == {"price": 2.0}


async def test_a_field_that_the_table_has_not_is_refused(table: DocumentTable) -> None:
    with pytest.raises(InvalidField, match="no field 'colour'"):
        await table.upsert([record("a", fields={"colour": "red"})], {}, MONDAY)


async def test_the_nearest_and_the_matching_are_those_of_the_filter(table: DocumentTable) -> None:
    rows = [record(f"{n}", text=f"boat {n}", fields={"price": float(n), "tags": (f"t{n % 3}",)}) for n in range(9)]
    await table.upsert([*rows, record("bare", text="boat")], {}, MONDAY)
    cheap = Compare("price", Operator.LT, 2.0)
    (page,) = await table.nearest(axis(0)[np.newaxis], Modality.TEXT, 20, cheap)
    assert sorted(ids_of(page)) == ["0", "1"]
    (page,) = await table.nearest(
        axis(0)[np.newaxis], Modality.TEXT, 20, Not(Compare("tags", Operator.ANY, ("t0", "t1")))
    )
    assert sorted(ids_of(page)) == ["2", "5", "8", "bare"]
    found = await table.matching("boat", [Modality.TEXT], 20, cheap)
    assert sorted(match.row.document.id for match in found) == ["0", "1"]


async def test_what_a_filter_matches_is_deleted_and_counted(table: DocumentTable) -> None:
    await table.upsert([record(f"{n}", fields={"price": float(n)}) for n in range(5)], {}, MONDAY)
    deleted = await table.delete_matching(Compare("price", Operator.GTE, 3.0))
    assert (deleted.count, deleted.table_version) == (2, (await table.info()).version)
    assert ids_of(await table.find(None, 9)) == ["0", "1", "2"]
    assert (await table.delete_matching(Compare("price", Operator.GTE, 3.0))).count == 0
    assert (await table.delete_matching(None)).count == 3
    assert await table.find(None, 9) == []


async def test_a_field_may_be_declared_on_a_table_that_has_rows_and_readers_follow(tmp_path: Path) -> None:
    first = LanceTable(str(tmp_path), fields={"price": DECLARED["price"]})
    await first.create(ENCODER)
    await first.upsert([record("old", fields={"price": 1.0})], {}, MONDAY)
    reader = LanceTable(str(tmp_path))
    assert (await stored(reader, "old")).document.fields == {"price": 1.0}

    later = LanceTable(str(tmp_path), fields=DECLARED)
    await later.create(ENCODER)
    await later.create(ENCODER)
    assert (await stored(reader, "old")).document.fields == {"price": 1.0}
    await later.upsert([record("new", fields=WHOLE)], {}, MONDAY)
    assert (await stored(reader, "new")).document.fields == WHOLE
    assert ids_of(await reader.find(Compare("tags", Operator.EXISTS, False), 5)) == ["old"]
    await first.upsert([record("of an older writer", fields={"price": 2.0})], {}, MONDAY)
    assert (await stored(reader, "of an older writer")).document.fields == {"price": 2.0}


async def test_a_field_that_a_table_lacks_is_one_that_no_document_has(tmp_path: Path) -> None:
    table = LanceTable(str(tmp_path))
    await table.create(ENCODER)
    await table.upsert([record("a")], {}, MONDAY)
    for where, found in [
        (Compare("price", Operator.LT, 2.0), []),
        (Compare("tags", Operator.ANY, ("a",)), []),
        (Compare("price", Operator.EXISTS, False), ["a"]),
        (Not(Compare("tags", Operator.ANY, ("a",))), ["a"]),
        (Not(Compare("price", Operator.EXISTS, False)), []),
    ]:
        assert ids_of(await table.find(check_filter(where, DECLARED), 5)) == found
    assert (await table.delete_matching(Compare("price", Operator.LT, 2.0))).count == 0


async def test_a_field_that_is_removed_or_retyped_is_refused_with_the_way_out(tmp_path: Path) -> None:
    await LanceTable(str(tmp_path), fields=DECLARED).create(ENCODER)
    rest = {name: spec for name, spec in DECLARED.items() if name != "price"}
    with pytest.raises(
        InvalidConfig, match=r"field 'price' as float, and it is no longer declared: .* another table.uri"
    ):
        await LanceTable(str(tmp_path), fields=rest).create(ENCODER)
    with pytest.raises(InvalidConfig, match="field 'price' as float, and it is declared as string"):
        await LanceTable(str(tmp_path), fields={**rest, "price": DECLARED["shop"]}).create(ENCODER)


async def test_a_table_of_another_encoder_gets_no_columns(tmp_path: Path) -> None:
    await LanceTable(str(tmp_path)).create(ENCODER)
    other = LanceTable(str(tmp_path), fields=DECLARED)
    assert (await other.create(replace(ENCODER, fingerprint="e" * 64))).fields == {}


async def test_indexes_are_those_that_are_declared(tmp_path: Path) -> None:
    table = LanceTable(str(tmp_path), fields=DECLARED)
    await table.create(ENCODER)
    expected = {"price": "BTree", "sold": "Bitmap", "shop": "Bitmap", "taken_at": "BTree"}
    expected |= {"tags": "LabelList", "pages": "LabelList", "text": "FTS"}
    assert await indexes(tmp_path) == expected
    await table.upsert([record("a", fields=WHOLE)], {}, MONDAY)
    await table.maintain(timedelta(hours=1))
    assert await indexes(tmp_path) == {**expected, "id": "BTree", "modality": "Bitmap"}

    changed = {
        **DECLARED,
        "price": replace(DECLARED["price"], index=FieldIndex.NONE),
        "shop": replace(DECLARED["shop"], index=FieldIndex.BTREE),
    }
    table = LanceTable(str(tmp_path), fields=changed)
    await table.create(ENCODER)
    await table.maintain(timedelta(hours=1))
    del expected["price"]
    assert await indexes(tmp_path) == {**expected, "shop": "BTree", "id": "BTree", "modality": "Bitmap"}
    assert ids_of(await table.find(Compare("price", Operator.EQ, 0.1), 5)) == ["a"]


@pytest.mark.parametrize(
    ("where", "used"),
    [
        (Compare("price", Operator.LT, 3.0), "price_idx(BTree)"),
        (Compare("shop", Operator.IN, ("a", "b")), "shop_idx(Bitmap)"),
        (Compare("taken_at", Operator.GTE, MONDAY), "taken_at_idx(BTree)"),
        (Compare("sold", Operator.EQ, True), "sold_idx(Bitmap)"),
        (Compare("tags", Operator.ANY, ("a", "b")), "tags_idx(LabelList)"),
        (Compare("pages", Operator.ALL, (1, 2)), "pages_idx(LabelList)"),
        (Compare("id", Operator.PREFIX, "a'b"), "id_idx(BTree)"),
        (Compare("modality", Operator.EQ, "text"), "modality_idx(Bitmap)"),
    ],
)
async def test_a_filter_is_answered_by_the_index_of_its_field(tmp_path: Path, where: Compare, used: str) -> None:
    from serve_app.adapters.lance_table.filters import predicate

    table = LanceTable(str(tmp_path), fields=DECLARED)
    await table.create(ENCODER)
    await table.upsert([record(f"{n}", fields=WHOLE) for n in range(20)], {}, MONDAY)
    await table.maintain(timedelta(hours=1))
    lance = await opened(tmp_path)
    nearest = lance.query().nearest_to(axis(0)).column("vector").distance_type("cosine").bypass_vector_index()
    for query in (lance.query(), nearest):
        plan = await query.where(predicate(where, DECLARED)).limit(5).explain_plan(True)
        assert used in plan


# --- full text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words", "expected"),
    [
        (TextIndexSpec(), "BOATS", ["plural"]),
        (TextIndexSpec(), "cafe", ["accent"]),
        (TextIndexSpec(), "the", ["plural"]),
        (TextIndexSpec(fold_accents=False), "cafe", []),
        (TextIndexSpec(language="English"), "boat", ["plural"]),
        (TextIndexSpec(language="German"), "Häuser", ["german"]),
        (TextIndexSpec(language="English", stop_words=True), "the", []),
        (TextIndexSpec(tokenizer="whitespace"), "boats", []),
        (TextIndexSpec(tokenizer="icu"), "船", ["japanese"]),
        (TextIndexSpec(tokenizer="icu"), "harbour", ["plural"]),
        (TextIndexSpec(tokenizer="ngram"), "arbou", ["plural"]),
        (TextIndexSpec(), '"in the harbour"', ["plural"]),
        (TextIndexSpec(), '"the harbour in"', []),
    ],
)
async def test_texts_are_cut_into_words_as_the_configuration_says(
    tmp_path: Path, spec: TextIndexSpec, words: str, expected: list[str]
) -> None:
    texts = {
        "plural": "red-boats in the harbour's mouth",
        "accent": "Un Café",
        "german": "ein Haus",
        "japanese": "東京の赤い船",
    }
    table = LanceTable(str(tmp_path), texts=spec)
    await table.create(ENCODER)
    await table.upsert([record(each, text=text) for each, text in texts.items()], {}, MONDAY)
    for _ in range(2):  # from rows that no index has, and from the index
        found = await table.matching(words, [Modality.TEXT], 5)
        assert [match.row.document.id for match in found] == expected
        await table.maintain(timedelta(hours=1))


async def test_another_choice_is_followed_by_the_next_upkeep(tmp_path: Path) -> None:
    await LanceTable(str(tmp_path)).create(ENCODER)
    table = LanceTable(str(tmp_path), texts=TextIndexSpec(language="English"))
    await table.create(ENCODER)
    await table.upsert([record("a", text="boats")], {}, MONDAY)
    await table.maintain(timedelta(hours=1))
    assert [match.row.document.id for match in await table.matching("boat", [Modality.TEXT], 5)] == ["a"]
    before = await (await opened(tmp_path)).index_stats("text_idx")
    assert before is not None
    assert before.num_unindexed_rows == 0


async def test_new_texts_are_found_beside_those_of_the_index_and_changed_ones_as_they_are(tmp_path: Path) -> None:
    table = LanceTable(str(tmp_path))
    await table.create(ENCODER)
    await table.upsert([record("a", text="a red boat"), record("b", text="a blue boat")], {}, MONDAY)
    await table.maintain(timedelta(hours=1))
    await table.upsert([record("b", text="a green car"), record("c", text="a boat")], {}, MONDAY)
    await table.delete(["a"])
    assert [match.row.document.id for match in await table.matching("boat", [Modality.TEXT], 5)] == ["c"]
    assert [match.row.document.id for match in await table.matching("green", [Modality.TEXT], 5)] == ["b"]
    assert await table.matching("red blue", [Modality.TEXT], 5) == []


async def test_several_that_start_at_once_add_the_columns_once(tmp_path: Path) -> None:
    for declared in ({"price": DECLARED["price"]}, DECLARED):
        starting = [LanceTable(str(tmp_path), fields=declared) for _ in range(6)]
        infos = await asyncio.gather(*(table.create(ENCODER) for table in starting))
        assert all(info.fields == {name: spec.type for name, spec in declared.items()} for info in infos)
    await starting[0].upsert([record("a", fields=WHOLE)], {}, MONDAY)
    assert (await stored(starting[1], "a")).document.fields == WHOLE
