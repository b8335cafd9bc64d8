"""What FAISS and Qdrant make of an export: read by themselves, they find what our own exact search finds, in its order."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
from qdrant_client import QdrantClient, models

from configs.schema import AppConfig
from serve_app.adapters.exchange.qdrant_files import point_id
from serve_app.errors import InvalidConfig
from serve_app.services.retrieval import RetrievalService
from serve_app.types import FloatMatrix, Grouping, Modality, Ranking, Record, SearchPage, VectorQuery
from tests.contract.rows import DIMENSION, ENCODER, MONDAY, record
from tests.moving.conftest import awkward_records, filled, opened, rows_of, run_export, unit_rows

Configs = Callable[..., AppConfig]
ROWS = 600
QUERIES = 20


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Of every modality, in a gap as real models have one: texts lie by themselves."""
    vectors = unit_rows(ROWS, seed=3)
    kinds = [list(Modality)[at % len(Modality)] for at in range(ROWS)]
    vectors[:, 0] += np.array([1.0 if kind is Modality.TEXT else -1.0 for kind in kinds], np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [record(f"d-{at}", vectors[at], modality=kind) for at, kind in enumerate(kinds)]


def exact_top_ten(config: AppConfig, queries: FloatMatrix, modalities: tuple[Modality, ...]) -> list[list[str]]:
    """As the Retriever answers, with the table searched exactly and plain cosine."""

    async def search() -> list[Any]:
        service = RetrievalService(opened(config), candidates=50)
        return await service.search(
            [
                VectorQuery(
                    vector=each,
                    fingerprint=ENCODER.fingerprint,
                    made_of=((Modality.TEXT, 1.0),),
                    modalities=modalities,
                    limit=10,
                    ranking=Ranking.COSINE,
                    group_by=Grouping.NONE,
                )
                for each in queries
            ]
        )

    pages = asyncio.run(search())
    assert all(isinstance(page, SearchPage) for page in pages)
    return [[hit.document.id for hit in page.hits] for page in pages]


@pytest.mark.parametrize("chosen", [tuple(Modality), (Modality.IMAGE, Modality.IMAGE_TEXT)], ids=["all", "pictures"])
def test_faiss_finds_the_same_ten_as_our_exact_search(
    config_of: Configs, tmp_path: Path, records: list[Record], chosen: tuple[Modality, ...]
) -> None:
    here = config_of("here")
    filled(here, records)
    some = () if len(chosen) == len(Modality) else tuple(each.value for each in chosen)
    manifest = run_export(here, tmp_path / "export", to="faiss", modality=some)
    index = faiss.read_index(str(tmp_path / "export" / "index.faiss"))
    ids = pq.read_table(tmp_path / "export" / "documents.parquet").column("id").to_pylist()
    queries = unit_rows(QUERIES, seed=11)
    _, found = index.search(queries, 10)
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    assert index.ntotal == manifest.rows == len(ids)
    assert [[ids[at] for at in row] for row in found] == exact_top_ten(here, queries, chosen)


def test_the_vectors_are_those_of_the_table_row_for_row(config_of: Configs, tmp_path: Path) -> None:
    here = config_of("here")
    filled(here, awkward_records())
    run_export(here, tmp_path / "export", to="faiss")
    vectors = np.load(tmp_path / "export" / "vectors.npy", mmap_mode="r")
    documents = pq.read_table(tmp_path / "export" / "documents.parquet")
    rows = rows_of(here)
    stored = dict(zip(rows.column("id").to_pylist(), rows.column("vector").to_pylist(), strict=True))
    assert vectors.dtype == np.float32
    assert [each.tolist() for each in vectors] == [stored[each] for each in documents.column("id").to_pylist()]
    assert documents.sort_by("id").replace_schema_metadata(None).equals(rows.drop_columns(["vector"]).combine_chunks())
    index = faiss.read_index(str(tmp_path / "export" / "index.faiss"))
    assert index.reconstruct_n(0, len(vectors)).tobytes() == np.ascontiguousarray(vectors).tobytes()


def test_an_index_that_learns_is_trained_on_what_is_exported(
    config_of: Configs, tmp_path: Path, records: list[Record]
) -> None:
    here = config_of("here")
    filled(here, records)
    run_export(here, tmp_path / "export", to="faiss", index="IVF8,SQ8")
    index = faiss.read_index(str(tmp_path / "export" / "index.faiss"))
    faiss.extract_index_ivf(index).nprobe = 8
    ids = pq.read_table(tmp_path / "export" / "documents.parquet").column("id").to_pylist()
    queries = unit_rows(QUERIES, seed=11)
    _, found = index.search(queries, 10)
    right = exact_top_ten(here, queries, tuple(Modality))
    shared = [len({ids[at] for at in row} & set(best)) for row, best in zip(found, right, strict=True)]
    assert np.mean(shared) >= 9
    with pytest.raises(InvalidConfig, match="NONSENSE"):
        run_export(here, tmp_path / "none", to="faiss", index="NONSENSE")
    assert not (tmp_path / "none" / "manifest.json").exists()


def test_qdrant_takes_the_lines_as_they_are_and_finds_the_same_ten(
    config_of: Configs, tmp_path: Path, records: list[Record]
) -> None:
    here = config_of("here")
    filled(here, records)
    run_export(here, tmp_path / "export", to="qdrant")
    client = loaded(tmp_path / "export", QdrantClient(":memory:"))
    queries = unit_rows(QUERIES, seed=11)
    found = [
        [point.payload["id"] for point in client.query_points("documents", query=each.tolist(), limit=10).points]
        for each in queries
    ]
    assert found == exact_top_ten(here, queries, tuple(Modality))
    client.close()


def test_qdrant_has_every_value_under_its_name(config_of: Configs, tmp_path: Path) -> None:
    here = config_of("here")
    filled(here, awkward_records())
    run_export(here, tmp_path / "export", to="qdrant")
    client = loaded(tmp_path / "export", QdrantClient(path=str(tmp_path / "qdrant")))
    (point,) = client.retrieve("documents", [point_id("plain")], with_vectors=True)
    assert point.payload == {
        "id": "plain",
        "modality": "text",
        "text": "text of plain",
        "content_sha256": "0" * 64,
        "created_at": MONDAY.isoformat(),
        "updated_at": MONDAY.isoformat(),
        "price": 1.5,
        "tags": ["sea", "night"],
        "seen_at": MONDAY.isoformat(),
        "count": 2**62,
    }
    strange = awkward_records()[2]
    (point,) = client.retrieve("documents", [point_id(strange.id)], with_vectors=True)
    assert (point.payload["text"], point.payload["metadata"]) == (strange.text, strange.metadata)
    wanted = models.Filter(
        must=[
            models.FieldCondition(key="tags", match=models.MatchValue(value="sea")),
            models.FieldCondition(key="seen_at", range=models.DatetimeRange(gte=datetime(2026, 1, 1, tzinfo=UTC))),
        ]
    )
    assert client.count("documents", count_filter=wanted).count == 1
    lines = (tmp_path / "export" / "payload_indexes.jsonl").read_text().splitlines()
    indexes = {each.field_name: each.field_schema for each in map(models.CreateFieldIndex.model_validate_json, lines)}
    assert indexes["tags"] == models.PayloadSchemaType.KEYWORD
    assert indexes["seen_at"] == models.PayloadSchemaType.DATETIME
    client.close()


def test_numbers_in_json_are_the_very_numbers(config_of: Configs, tmp_path: Path) -> None:
    here = config_of("here")
    rows = unit_rows(300, seed=5)
    rows[0] = 0
    rows[0, :2] = [-1.0, 1e-30]
    filled(here, [record(f"{at:03}", each) for at, each in enumerate(rows)])
    run_export(here, tmp_path / "export", to="qdrant")
    lines = (tmp_path / "export" / "points-00000.jsonl").read_text().splitlines()
    points = [point for line in lines for point in json.loads(line)["points"]]
    read = {point["payload"]["id"]: np.array(point["vector"], np.float32) for point in points}
    assert len(lines) == 4  # 150 rows of each commit, 128 points a line
    assert np.stack([read[f"{at:03}"] for at in range(300)]).tobytes() == rows.tobytes()


def loaded(export: Path, client: QdrantClient) -> QdrantClient:
    """With a collection that is made and filled by the bodies as they stand."""
    collection = models.CreateCollection.model_validate_json((export / "collection.json").read_bytes())
    assert isinstance(collection.vectors, models.VectorParams)
    assert collection.vectors.size == DIMENSION
    client.create_collection("documents", vectors_config=collection.vectors)
    for file in sorted(export.glob("points-*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                client.upsert("documents", models.PointsList.model_validate_json(line).points)
    return client
