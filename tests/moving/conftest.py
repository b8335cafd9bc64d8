"""A table with every kind of row that is awkward to move, and the jobs as a shell would start them, in this process."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from configs.schema import AppConfig
from deployments.jobs.export import export
from deployments.jobs.imports import take_in
from deployments.jobs.telling import Teller
from serve_app.adapters.lance_table import LanceTable
from serve_app.cli.exporting import ExportArguments
from serve_app.cli.importing import ImportArguments
from serve_app.core.manifests import ExportManifest
from serve_app.services.moving import Arrival
from serve_app.types import FieldIndex, FieldSpec, FieldType, Modality, Record
from tests.contract.rows import DIMENSION, ENCODER, MONDAY, TUESDAY, record
from tests.emulators import Bucket, s3_bucket

DECLARED = {"price": "float", "tags": ["string"], "seen_at": "timestamp", "count": "integer"}
FIELDS = {
    "price": FieldSpec(FieldType.FLOAT, FieldIndex.BTREE),
    "tags": FieldSpec(FieldType.STRINGS, FieldIndex.LABEL_LIST),
    "seen_at": FieldSpec(FieldType.TIMESTAMP, FieldIndex.BTREE),
    "count": FieldSpec(FieldType.INTEGER, FieldIndex.BTREE),
}


def unit_rows(count: int, seed: int = 0, dimension: int = DIMENSION) -> Any:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def awkward_records() -> list[Record]:
    """Null text, empty and strange text, metadata of every shape, frames of a video, fields there and not there."""
    vectors = iter(unit_rows(8, seed=7))
    return [
        record(
            "plain", next(vectors), fields={"price": 1.5, "tags": ("sea", "night"), "seen_at": MONDAY, "count": 2**62}
        ),
        record("no metadata", next(vectors), fields={"tags": ()}),
        record(
            "日本語 ☃ é '\"; --",
            next(vectors),
            text="zero width \u200b and 🏴‍☠️ \u0000 and\ttabs\r\n",
            metadata={"ключ": [None, 1e-300]},
        ),
        record("empty", next(vectors), text="", metadata={"": {}, "deep": {"a": [[], {}]}}),
        record("picture", next(vectors), modality=Modality.IMAGE, text=None, uri="s3://bucket/päth/a b.jpg"),
        record("both", next(vectors), modality=Modality.IMAGE_TEXT, uri="file:///x.png", text="a caption"),
        *(
            record(
                f"film#t={offset}",
                next(vectors),
                modality=Modality.VIDEO_FRAME,
                text=None,
                uri="file:///film.mp4",
                offset_s=offset,
                thumbnail_uri=f"file:///frames/{offset}.jpg",
            )
            for offset in (0.0, 2.0 / 3.0)
        ),
    ]


@pytest.fixture(scope="session")
def s3() -> Iterator[Bucket]:
    with s3_bucket("moving") as bucket:
        yield bucket


@pytest.fixture
def config_of(tmp_path: Path) -> Callable[..., AppConfig]:
    """A configuration with a table of this name, empty or not, below the test's folder; `table` and `storage` override."""

    def make(name: str, **table: Any) -> AppConfig:
        storage = {key: table.pop(key) for key in ("storage",) if key in table}
        settings = {"uri": str(tmp_path / name), "fields": DECLARED, **table}
        return AppConfig.model_validate({"table": settings, **storage})

    return make


def opened(config: AppConfig) -> LanceTable:
    of = config.table
    return LanceTable(of.uri, of.name, storage_options=of.options, read_consistency=timedelta(0), fields=FIELDS)


def filled(config: AppConfig, records: list[Record]) -> None:
    """Two commits at two times, so that rows differ in when they were written."""

    async def fill() -> None:
        table = opened(config)
        await table.create(ENCODER)
        half = len(records) // 2
        await table.upsert(records[:half], {}, MONDAY)
        await table.upsert(records[half:], {}, TUESDAY)

    asyncio.run(fill())


def run_export(config: AppConfig, destination: Path | str, **arguments: Any) -> ExportManifest:
    return asyncio.run(export(ExportArguments(str(destination), **arguments), config, Teller("exported")))


def run_import(config: AppConfig, source: Path | str, **arguments: Any) -> Arrival:
    return asyncio.run(take_in(ImportArguments(str(source), **arguments), config, Teller("imported")))


def rows_of(config: AppConfig, name: str | None = None) -> Any:
    """Every row of a table in the order of ids, as Arrow, bit for bit."""

    async def read() -> Any:
        table = opened(config) if name is None else opened(config).beside(name)
        parts = [each async for each in table.all_rows(1000)]
        return pa.concat_tables(parts).replace_schema_metadata(None).combine_chunks().sort_by("id")

    return asyncio.run(read())
