"""Whatever a table can hold comes back as it was: drawn rows, and all targets by way of a bucket."""

import asyncio
import io
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.schema import AppConfig
from serve_app.adapters.object_files import ObjectFiles
from serve_app.adapters.object_writing import PART_BYTES, ObjectWriting
from serve_app.core.vectors import unit
from serve_app.types import Modality, Record
from tests.contract.rows import DIMENSION, ENCODER, record
from tests.emulators import Bucket
from tests.moving.conftest import DECLARED, awkward_records, filled, opened, rows_of, run_export, run_import
from tests.moving.test_parquet import same_rows

Configs = Callable[..., AppConfig]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
moments = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(texts, inside, max_size=3),
    max_leaves=8,
)
numbers = st.floats(-1, 1, width=32)
vectors = (
    st.lists(numbers, min_size=DIMENSION, max_size=DIMENSION)
    .map(lambda values: np.array(values, np.float32))
    .filter(lambda vector: bool(np.linalg.norm(vector) > 1e-3))
    .map(unit)
)


@st.composite
def drawn_records(draw: st.DrawFn) -> list[Record]:
    ids = draw(st.lists(texts.filter(bool), min_size=1, max_size=6, unique=True))
    fields = {
        "price": st.floats(allow_nan=False, allow_infinity=False),
        "tags": st.lists(texts, max_size=3).map(tuple),
        "seen_at": moments,
        "count": st.integers(-(2**63) + 1, 2**63 - 1),
    }
    assert fields.keys() == DECLARED.keys()
    return [
        record(
            each,
            draw(vectors),
            modality=draw(st.sampled_from(Modality)),
            text=draw(st.none() | texts),
            uri=draw(st.none() | texts),
            metadata=draw(st.dictionaries(texts, json_values, max_size=3)),
            fields=draw(st.fixed_dictionaries({}, optional=fields)),
            offset_s=draw(st.none() | st.floats(0, 1e6)),
            thumbnail_uri=draw(st.none() | texts),
        )
        for each in ids
    ]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn_records(), st.lists(moments, min_size=2, max_size=2))
def test_drawn_rows_come_back_as_they_were(records: list[Record], times: list[datetime]) -> None:
    with tempfile.TemporaryDirectory() as name:
        here, there = (
            AppConfig.model_validate({"table": {"uri": f"{name}/{each}", "fields": DECLARED}})
            for each in ("here", "there")
        )

        async def fill() -> None:
            table = opened(here)
            await table.create(ENCODER)
            await table.upsert(records, {records[0].id: min(times)}, max(times) + timedelta(microseconds=1))

        asyncio.run(fill())
        run_export(here, f"{name}/export")
        arrival = run_import(there, f"{name}/export")
        assert arrival.stored.total() == len(records)
        assert same_rows(rows_of(here), rows_of(there))
        assert run_import(there, f"{name}/export").unchanged == len(records)


def test_all_targets_go_to_a_bucket_and_parquet_comes_back_from_it(
    config_of: Configs, tmp_path: Path, s3: Bucket
) -> None:
    folder = f"{s3.uri}/{uuid4()}"
    storage: Any = {"uri": f"{s3.uri}/pictures", "options": s3.options}
    here = config_of("here", storage=storage)
    there = config_of("there", uri=f"{folder}/table", options=s3.options, storage=storage)
    filled(here, awkward_records())
    manifests = {to: run_export(here, f"{folder}/{to}", to=to) for to in ("parquet", "faiss", "qdrant")}
    arrival = run_import(there, f"{folder}/parquet")
    assert arrival.stored.total() == 8
    assert same_rows(rows_of(here), rows_of(there))
    run_export(there, tmp_path / "local", to="qdrant")
    files = ObjectFiles(folder, s3.options)
    for to, manifest in manifests.items():
        sizes = {each.name: each.size for each in files.below(f"{folder}/{to}")}
        assert {file.name: file.size for file in manifest.files}.items() <= sizes.items()
        assert "manifest.json" in sizes
    with files.open(f"{folder}/faiss/index.faiss") as opened_file:
        stream = io.BytesIO(opened_file.read())
        index = faiss.read_index(faiss.PyCallbackIOReader(stream.read))
    assert index.ntotal == 8


def _give_up(writing: ObjectWriting, data: bytes) -> None:
    with writing.create("given-up.bin") as file:
        file.write(data)
        raise KeyboardInterrupt


def test_a_file_of_many_parts_arrives_whole_in_a_bucket(s3: Bucket, tmp_path: Path) -> None:
    """More than one part of an upload, and one that was given up leaves nothing."""
    data = np.random.default_rng(0).bytes(2 * PART_BYTES + 12345)
    for uri, options in ((f"{s3.uri}/{uuid4()}", s3.options), (str(tmp_path / "files"), {})):
        writing = ObjectWriting(uri, options)
        assert writing.is_empty()
        with writing.create("big.bin") as file:
            for start in range(0, len(data), 1_000_003):
                file.write(data[start : start + 1_000_003])
        with pytest.raises(KeyboardInterrupt):
            _give_up(writing, data)
        files = ObjectFiles(uri, options)
        assert [each.name for each in files.below(uri)] == ["big.bin"]
        with files.open(f"{uri}/big.bin") as found:
            assert found.read() == data
