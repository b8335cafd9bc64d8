"""The product in one process, as something to evaluate: both towers, the services, a table in a folder.

The same classes as the graph's, wired without Ray. The table is searched exactly, and calibrated over all that was added.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from configs.schema import AppConfig
from deployments.checkpoints import tower_arguments
from deployments.media import file_source, picture_decoder, video_reader
from deployments.writing import indexing_service, open_for_writing
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.adapters.open_clip import load_image_tower, load_text_tower
from serve_app.core.judgements import Found, JudgedDocument, JudgedQuery, Question
from serve_app.errors import InvalidRequest
from serve_app.ports import TextEncoding
from serve_app.services.classify import ClassifyService
from serve_app.services.documents import DocumentService
from serve_app.services.embeddings import EmbeddingService
from serve_app.services.encoding import EncodingService, encoder_thread
from serve_app.services.frames import FrameService
from serve_app.services.pictures import PictureService
from serve_app.services.query_cache import CachedTextEncoding
from serve_app.services.retrieval import RetrievalService
from serve_app.services.search import SearchService
from serve_app.types import (
    ClassifyRequest,
    ComposedQuery,
    DocumentInput,
    Embedding,
    EncoderCard,
    FloatVector,
    ItemFailure,
    Modality,
    Picture,
    PictureUri,
    Pixels,
    Query,
    Ranking,
    RawVectorQuery,
    SearchAnswer,
    SearchRequest,
    SimpleQuery,
    TextQuery,
    WeightedQuery,
)

# Whoever starts the evaluation may read these files anyway.
THIS_MACHINE = "file:///"
# Nobody else waits here: nothing is refused for being too much.
NEVER = 1 << 62


class LocalEncoder:
    """ports.TextEncoding and ports.PixelEncoding over towers in this process."""

    def __init__(self, config: AppConfig) -> None:
        encoder = config.encoder
        arguments, threads = tower_arguments(encoder), encoder.threads or len(os.sched_getaffinity(0))
        thread = encoder_thread()
        text = thread.submit(
            load_text_tower,
            **arguments,
            threads=threads,
            max_tokenised_characters=config.text.max_tokenised_characters,
            max_word_characters=config.text.max_word_characters,
        ).result()
        image = thread.submit(load_image_tower, **arguments, threads=threads).result()
        self.card: EncoderCard = text.card
        self._texts = EncodingService[str].of_tower(
            text, thread=thread, max_batch_size=encoder.max_batch_texts, max_queued_items=NEVER
        )
        self._pixels = EncodingService[Pixels].of_tower(
            image, thread=thread, max_batch_size=encoder.max_batch_pictures, max_queued_items=NEVER
        )

    async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        return await self._texts.encode(texts)

    async def encode_pixels(self, pictures: Sequence[Pixels], *, urgent: bool = False) -> list[Embedding | ItemFailure]:
        return await self._pixels.encode(pictures, urgent=urgent)

    async def describe(self) -> EncoderCard:
        return self.card


class LocalPictures(PictureService):
    """ports.PictureWork as the Preprocessor does it, reading what lies on this machine. Uploads are kept in `folder`."""

    def __init__(self, config: AppConfig, encoder: LocalEncoder, folder: Path) -> None:
        pictures, videos = config.pictures, config.videos
        store = ObstoreObjectStore(str(folder), {}, signed_url_s=config.storage.signed_url_s)
        decoder = picture_decoder(pictures)
        source = file_source(pictures, videos, store, (THIS_MACHINE,))
        super().__init__(decoder, source, store, encoder, max_bytes=pictures.max_bytes, threads=pictures.threads)
        reader = video_reader(pictures, videos, max_seconds=videos.max_online_seconds)
        limits = {"max_bytes": videos.max_bytes, "frame_px": videos.frame_px, "threads": pictures.threads}
        frames = FrameService(self, reader, decoder, source, **limits)
        self.identify_videos = frames.identify_videos
        self.embed_videos = frames.embed_videos
        self.read_file_part = frames.read_file_part


class LocalSystem:
    """services.evaluation.EvaluatedSystem in this process. `folder` takes the table, and is the caller's to throw away.

    The services are its own attributes, so that a test can put the HTTP interface before them.
    """

    def __init__(self, config: AppConfig, folder: Path) -> None:
        self.encoder = LocalEncoder(config)
        self.pictures = LocalPictures(config, self.encoder, folder / "pictures")
        own = {"uri": str(folder / "table"), "options": {}, "index_min_documents": NEVER, "max_queued_writes": NEVER}
        table = config.table.model_copy(update=own)
        self.table = open_for_writing(table, config.full_text)
        self.retrieval = RetrievalService(self.table, candidates=config.search.candidates)
        self.indexing = indexing_service(self.table, table, config.search)
        texts: TextEncoding = CachedTextEncoding(self.encoder, max_texts=config.search.cached_queries)
        characters = config.text.max_characters
        self.documents = DocumentService(
            self.encoder,
            self.pictures,
            self.retrieval,
            self.indexing,
            max_characters=characters,
            image_weight=config.search.image_weight,
        )
        self.searching = SearchService(
            texts, self.pictures, self.retrieval, max_characters=characters, max_limit=NEVER, max_window=NEVER
        )
        self.embeddings = EmbeddingService(texts, self.pictures, max_characters=characters)
        self.classification = ClassifyService(self.embeddings, max_prompts=NEVER)

    async def add(self, documents: Sequence[JudgedDocument]) -> list[ItemFailure | None]:
        """See EvaluatedSystem."""
        given = [
            DocumentInput(each.text, None if each.picture is None else _picture(each.picture), id=each.id)
            for each in documents
        ]
        return [each if isinstance(each, ItemFailure) else None for each in await self.documents.add(given)]

    async def settle(self) -> None:
        """See EvaluatedSystem."""
        while not (await self.indexing.optimize()).done:
            pass

    async def embed_pictures(self, pictures: Sequence[str]) -> list[FloatVector | ItemFailure]:
        """See EvaluatedSystem."""
        found = await self.embeddings.embed([_picture(each) for each in pictures])
        return [each if isinstance(each, ItemFailure) else each.vector for each in found]

    async def vectors_of(self, queries: Sequence[JudgedQuery]) -> list[FloatVector]:
        """Of queries of words alone or of a picture alone. Raises InvalidRequest for one that cannot be encoded."""
        items = [each.text if each.text is not None else _picture(each.picture or "") for each in queries]
        vectors = []
        for query, found in zip(queries, await self.embeddings.embed(items), strict=True):
            if isinstance(found, ItemFailure):
                raise InvalidRequest(f"{query.id}: {found.message}")
            vectors.append(found.vector)
        return vectors

    async def search(
        self, questions: Sequence[Question], modalities: Sequence[Modality], ranking: Ranking, limit: int
    ) -> list[Sequence[Found] | ItemFailure]:
        """See EvaluatedSystem."""
        requests = [SearchRequest(_query(each), limit, tuple(modalities), ranking) for each in questions]
        answers = await self.searching.search_many(requests)
        return [each if isinstance(each, ItemFailure) else _found(each) for each in answers]

    async def classify(
        self, pictures: Sequence[str], labels: Sequence[str], templates: Sequence[str], limit: int
    ) -> list[Sequence[str] | ItemFailure]:
        """See EvaluatedSystem."""
        asked = tuple(_picture(each) for each in pictures)
        answer = await self.classification.classify(ClassifyRequest(asked, tuple(labels), tuple(templates), limit))
        return [
            each if isinstance(each, ItemFailure) else [label.label for label in each.labels]
            for each in answer.pictures
        ]


def _picture(picture: str) -> Picture:
    return PictureUri(picture if "://" in picture else Path(picture).resolve().as_uri())


def _query(question: Question) -> Query:
    if question.body is not None:
        raise InvalidRequest("queries as the service's JSON has them are asked of a service: name it with --url")
    parts: list[SimpleQuery] = [] if question.text is None else [TextQuery(question.text)]
    if question.picture is not None:
        parts.append(RawVectorQuery(tuple(question.picture.tolist()), Modality.IMAGE))
    return parts[0] if len(parts) == 1 else ComposedQuery(tuple(WeightedQuery(each) for each in parts))


def _found(answer: SearchAnswer) -> Sequence[Found]:
    return [
        Found(hit.document.id, hit.document.modality, hit.score, hit.confidence, hit.document.text)
        for hit in answer.page.hits
    ]
