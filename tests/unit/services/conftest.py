"""The services over fakes: an in-memory table, and parts whose vectors a test can explain."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from serve_app.services.documents import DocumentService
from serve_app.services.indexing import IndexingService
from serve_app.services.retrieval import RetrievalService
from serve_app.services.search import SearchService
from serve_app.services.status import StatusService
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
    status: StatusService


def make_system(table: MemoryTable | None = None, texts: FakeTextEncoding | None = None) -> System:
    table, texts, pictures = table or MemoryTable(), texts or FakeTextEncoding(), FakePictureWork()
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
    return System(
        texts,
        pictures,
        table,
        indexing,
        retrieval,
        DocumentService(texts, pictures, retrieval, indexing, max_characters=200, image_weight=0.5),
        SearchService(texts, pictures, retrieval, max_characters=200, max_limit=50),
        StatusService(texts, pictures, retrieval, indexing, cache_s=0),
    )


@pytest.fixture
def system() -> System:
    return make_system()
