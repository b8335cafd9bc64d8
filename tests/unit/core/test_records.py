"""Records become Arrow rows and rows become documents; what a table is stands in its schema."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from serve_app.core.columns import LATE_COLUMNS
from serve_app.core.records import (
    COLUMNS,
    TableIdentity,
    calibration_from_json,
    calibration_to_json,
    check_vectors,
    identity_of,
    metadata_to_json,
    records_to_rows,
    rows_to_documents,
    spread,
    table_identity,
    table_schema,
    vectors_of,
)
from serve_app.errors import FingerprintMismatch, InvalidRequest, InvalidVector
from serve_app.types import Calibration, EncoderCard, ImagePreprocessing, Modality, PairScores, Record

IDENTITY = TableIdentity("f" * 64, "demo (v1)", 4)
NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


def record(document_id: str, **changes: Any) -> Record:
    vector = np.array([1, 0, 0, 0], np.float32)
    return replace(
        Record(document_id, Modality.TEXT, None, None, "0" * 64, {}, vector, IDENTITY.fingerprint), **changes
    )


def test_the_schema_starts_with_a_key_that_is_never_null_and_holds_every_column() -> None:
    schema = table_schema(IDENTITY)
    assert schema.names == COLUMNS
    assert schema.field(0) == pa.field("id", pa.string(), nullable=False)
    assert schema.field("vector").type == pa.list_(pa.float32(), 4)
    assert schema.field("updated_at").type == pa.timestamp("us", tz="UTC")
    assert [field.name for field in schema if field.nullable] == ["uri", "text", "metadata", *LATE_COLUMNS]


def test_the_identity_is_read_back_from_the_schema() -> None:
    assert identity_of(table_schema(IDENTITY)) == IDENTITY


def test_the_identity_of_an_encoder_names_its_weights_where_it_has_a_name_for_them() -> None:
    preprocessing = ImagePreprocessing(8, 8, (0, 0, 0), (1, 1, 1), "bicubic", "shortest", 0)
    card = EncoderCard("ViT-B-32", "laion2b", "abc", 512, 77, preprocessing, "cpu", "float32", 100.0)
    assert table_identity(card) == TableIdentity("abc", "ViT-B-32 (laion2b)", 512)
    assert table_identity(replace(card, pretrained="")).model == "ViT-B-32"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (pa.schema([pa.field("id", pa.string())]), "not made by crossmodal"),
        (table_schema(IDENTITY).with_metadata({"crossmodal.fingerprint": "f", "crossmodal.format": "9"}), "format '9'"),
    ],
)
def test_a_schema_of_others_or_of_another_format_is_refused(schema: pa.Schema, reason: str) -> None:
    with pytest.raises(FingerprintMismatch, match=reason):
        identity_of(schema)


def test_records_survive_the_way_through_arrow() -> None:
    given = record("ü", uri="s3://b/k", text="☃", metadata={"b": [1.5, None], "a": {"é": True}})
    (found,) = rows_to_documents(records_to_rows([given], IDENTITY, {"ü": NOON - timedelta(days=1)}, NOON))
    document = found.document
    assert (document.id, document.uri, document.text, document.metadata) == ("ü", "s3://b/k", "☃", given.metadata)
    assert (document.created_at, document.updated_at) == (NOON - timedelta(days=1), NOON)
    assert document.updated_at.tzinfo is UTC
    assert found.fingerprint == IDENTITY.fingerprint
    np.testing.assert_array_equal(found.vector, given.vector)


def test_no_records_make_no_rows() -> None:
    rows = records_to_rows([], IDENTITY, {}, NOON)
    assert rows.num_rows == 0
    assert rows_to_documents(rows) == []
    assert vectors_of(rows).shape == (0, 4)


def test_vectors_of_a_slice_are_those_of_its_rows() -> None:
    axes = np.eye(4, dtype=np.float32)
    rows = records_to_rows([record(f"{place}", vector=axes[place]) for place in range(4)], IDENTITY, {}, NOON)
    np.testing.assert_array_equal(vectors_of(rows.slice(1, 2)), axes[1:3])
    np.testing.assert_array_equal(vectors_of(pa.concat_tables([rows, rows])), np.concatenate([axes, axes]))


def test_timestamps_of_any_zone_are_kept_as_utc_and_one_without_a_zone_is_refused() -> None:
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    (found,) = rows_to_documents(records_to_rows([record("a")], IDENTITY, {}, tokyo))
    assert found.document.created_at.isoformat() == "2026-11-23T12:00:00.123456+00:00"
    with pytest.raises(ValueError, match="time zone"):
        records_to_rows([record("a")], IDENTITY, {}, NOON.replace(tzinfo=None))


def test_an_id_given_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        records_to_rows([record("a"), record("b"), record("a")], IDENTITY, {}, NOON)


def test_a_length_within_a_thousandth_of_1_passes_and_one_beyond_does_not() -> None:
    check_vectors(np.array([[1.0009, 0], [0, 0.9991]], np.float32), 2)
    for length in (1.0011, 0.9989, 0.0):
        with pytest.raises(InvalidVector):
            check_vectors(np.array([[1, 0], [length, 0]], np.float32), 2)


@pytest.mark.parametrize("shape", [(4,), (1, 5), (1, 1, 4)])
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidVector):
        check_vectors(np.ones(shape, np.float32) / 2, 4)


def test_metadata_is_written_the_same_whatever_the_order_of_its_keys() -> None:
    assert metadata_to_json({"b": 1, "a": {"d": "é", "c": 2}}) == '{"a":{"c":2,"d":"é"},"b":1}'
    assert metadata_to_json({"a": {"c": 2, "d": "é"}, "b": 1}) == metadata_to_json({"b": 1, "a": {"d": "é", "c": 2}})


CIRCLE: dict[str, Any] = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize(
    "metadata",
    [{"x": math.nan}, {"x": [-math.inf]}, {"x": b""}, {"x": NOON}, {"x": "\ud800"}, {1: 1, "a": 2}, CIRCLE],
    ids=["nan", "infinity", "bytes", "datetime", "surrogate", "mixed keys", "circle"],
)
def test_metadata_that_json_cannot_say_is_refused(metadata: dict[Any, Any]) -> None:
    with pytest.raises(InvalidRequest):
        metadata_to_json(metadata)


def test_a_calibration_survives_as_text() -> None:
    mean = np.array([1 / 3, -1e-38, 3e38], np.float32)
    given = Calibration(
        version=7,
        row_counts={Modality.IMAGE: 12},
        means={Modality.IMAGE: mean},
        pair_scores={(Modality.TEXT, Modality.IMAGE): PairScores(0.1, 1e-17), (Modality.IMAGE,) * 2: PairScores(0, 1)},
    )
    found = calibration_from_json(calibration_to_json(given))
    assert (found.version, found.row_counts, found.pair_scores) == (7, given.row_counts, given.pair_scores)
    np.testing.assert_array_equal(found.means[Modality.IMAGE], mean)
    assert found.means[Modality.IMAGE].dtype == np.float32
    json.loads(calibration_to_json(given))


def test_no_text_is_the_empty_calibration() -> None:
    assert calibration_from_json(None) == Calibration(0, {}, {}, {})


def test_a_spread_is_even_distinct_and_within_bounds() -> None:
    assert spread(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(3, 5).tolist() == [0, 1, 2]
    assert spread(0, 5).tolist() == spread(5, 0).tolist() == []
    positions = spread(1_000_003, 2048)
    assert len(set(positions.tolist())) == 2048
    assert set(np.diff(positions).tolist()) == {488, 489}
