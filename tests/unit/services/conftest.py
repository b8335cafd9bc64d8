"""The services over fakes: an in-memory table, and parts whose vectors a test can explain."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from serve_app.services.classify import ClassifyService
from serve_app.services.documents import DocumentService
from serve_app.services.embeddings import EmbeddingService
from serve_app.services.indexing import IndexingService
from serve_app.services.jobs import JobService
from serve_app.services.keeping import KeepingService
from serve_app.services.query_cache import CachedTextEncoding
from serve_app.services.retrieval import RetrievalService
from serve_app.services.search import SearchService
from serve_app.services.status import StatusService
from serve_app.types import FieldIndex, FieldSpec, FieldType
from tests.fakes.jobs import MemoryJobs
from tests.fakes.keeping import MemoryKeeping
from tests.fakes.parts import FakePictureWork, FakeTextEncoding
from tests.fakes.table import MemoryTable


@dataclass
class System:
    """Everything, wired as the Gateway wires it."""

    texts: FakeTextEncoding
    pictures: FakePictureWork
    table: MemoryTable
    indexing: IndexingService
    retrieval: RetrievalService
    documents: DocumentService
    search: SearchService
    embeddings: EmbeddingService
    classify: ClassifyService
    status: StatusService
    keeping: KeepingService
    records: MemoryJobs
    jobs: JobService


FIELDS = {
    "price": FieldSpec(FieldType.FLOAT, FieldIndex.BTREE),
    "tags": FieldSpec(FieldType.STRINGS, FieldIndex.LABEL_LIST),
    "taken_at": FieldSpec(FieldType.TIMESTAMP, FieldIndex.BTREE),
}


def make_system(table: MemoryTable | None = None, texts: FakeTextEncoding | None = None) -> System:
    records = MemoryJobs()
    table, texts, pictures = table or MemoryTable(fields=FIELDS), texts or FakeTextEncoding(), FakePictureWork()
    pictures.card = texts.card
    retrieval = RetrievalService(table, candidates=50)
    indexing = IndexingService(
        table,
        max_commit_documents=64,
        max_queued_documents=1000,
        compact_every_commits=3,
        keep_versions=timedelta(hours=1),
        calibration_sample=100,
        calibration_growth=0.2,
    )
    asked = CachedTextEncoding(texts, max_texts=100)
    embeddings = EmbeddingService(asked, pictures, max_characters=200)
    return System(
        texts,
        pictures,
        table,
        indexing,
        retrieval,
        DocumentService(
            texts,
            pictures,
            retrieval,
            indexing,
            max_characters=200,
            image_weight=0.5,
            fields=FIELDS,
        ),
        SearchService(asked, pictures, retrieval, max_characters=200, max_limit=50, fields=FIELDS),
        embeddings,
        ClassifyService(embeddings, max_prompts=12),
        StatusService(texts, pictures, retrieval, indexing, cache_s=0),
        KeepingService(MemoryKeeping(table), indexing.writing),
        records,
        JobService(records),
    )


@pytest.fixture
def system() -> System:
    return make_system()
