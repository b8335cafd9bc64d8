"""A small collection behind the page: drawn pictures that the fakes understand, and texts. Knows nothing of browsers."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from PIL import Image, ImageDraw

from serve_app.services.classify import ClassifyService
from serve_app.services.documents import DocumentService
from serve_app.services.embeddings import EmbeddingService
from serve_app.services.indexing import IndexingService
from serve_app.services.jobs import JobService
from serve_app.services.keeping import KeepingService
from serve_app.services.retrieval import RetrievalService
from serve_app.services.search import SearchService
from serve_app.services.status import StatusService
from serve_app.types import (
    DocumentInput,
    EmbeddedPicture,
    Embedding,
    InlinePicture,
    ItemFailure,
    Modality,
    PictureContent,
    PictureTask,
    UpsertOutcome,
)
from tests.fakes.jobs import MemoryJobs
from tests.fakes.keeping import MemoryKeeping
from tests.fakes.parts import FakePictureWork, FakeTextEncoding, vector_of
from tests.fakes.table import MemoryTable

SCENES = ("red boat", "blue boat", "red house", "blue cat", "green tree", "red cat snow")
TEXTS = {
    "poem": "a red boat on the water",
    "note": "the blue cat sleeps under a green tree",
    "hostile": "<img src=x onerror=\"document.title='run'\"> a house",
}


def draw(words: str, size: int = 96) -> bytes:
    """A PNG of a disc in the first word's colour; its shape is of no account, its bytes are."""
    picture = Image.new("RGB", (size, size), "white" if "snow" in words else "lightsteelblue")
    inset = 8 + len(words)
    ImageDraw.Draw(picture).ellipse((inset, inset, size - inset, size - inset), words.split()[0])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


class SeeingPictureWork(FakePictureWork):
    """Knows what its pictures show, and makes true thumbnails of them."""

    def __init__(self, shown: Mapping[bytes, str]) -> None:
        super().__init__()
        self.shown = shown

    def _embed(self, task: PictureTask) -> EmbeddedPicture | ItemFailure:
        result = super()._embed(task)
        words = self.shown.get(task.picture.data) if isinstance(task.picture, InlinePicture) else None
        if words is None or isinstance(result, ItemFailure):
            return result
        return replace(result, embedding=Embedding(vector_of(words, Modality.IMAGE), self.card.fingerprint))

    async def thumbnail(self, uri: str, size_px: int) -> PictureContent:
        picture = Image.open(io.BytesIO(self.files[uri])).convert("RGB")
        picture.thumbnail((size_px, size_px))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=90)
        return PictureContent("image/jpeg", data=file.getvalue())


@dataclass(frozen=True)
class Gallery:
    """The services behind the page."""

    search: SearchService
    documents: DocumentService
    embeddings: EmbeddingService
    classify: ClassifyService
    status: StatusService
    keeping: KeepingService
    jobs: JobService
    records: MemoryJobs

    @property
    def parts(self) -> tuple[Any, ...]:
        """What the application is made of."""
        return (
            *(self.search, self.documents, self.embeddings, self.classify),
            *(self.status, self.keeping, self.jobs),
        )


async def fill(
    pictures: Mapping[str, bytes], texts: Mapping[str, str], seeing: SeeingPictureWork | None = None
) -> Gallery:
    """Services over the fakes, with these pictures (by what they show) and these texts (by id) in the table."""
    seeing = seeing or SeeingPictureWork({data: shown for shown, data in pictures.items()})
    words, table = FakeTextEncoding(), MemoryTable()
    retrieval = RetrievalService(table, candidates=50)
    indexing = IndexingService(
        table,
        max_commit_documents=64,
        max_queued_documents=1000,
        compact_every_commits=100,
        keep_versions=timedelta(hours=1),
        calibration_sample=100,
        calibration_growth=0.2,
    )
    embeddings = EmbeddingService(words, seeing, max_characters=200)
    records = MemoryJobs()
    gallery = Gallery(
        SearchService(words, seeing, retrieval, max_characters=200, max_limit=50),
        DocumentService(words, seeing, retrieval, indexing, max_characters=200, image_weight=0.5),
        embeddings,
        ClassifyService(embeddings, max_prompts=12),
        StatusService(words, seeing, retrieval, indexing, cache_s=0),
        KeepingService(MemoryKeeping(table)),
        JobService(records),
        records,
    )
    outcomes = await gallery.documents.add(
        [
            *(DocumentInput(id=name.replace(" ", "-"), picture=InlinePicture(data)) for name, data in pictures.items()),
            *(DocumentInput(id=name, text=text) for name, text in texts.items()),
        ]
    )
    assert all(isinstance(outcome, UpsertOutcome) for outcome in outcomes), outcomes
    return gallery
