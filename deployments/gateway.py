"""Gateway: HTTP. Parses, fans out, renders. No model, no table, no torch."""

from typing import Any

from ray.serve.handle import DeploymentHandle
from ray.serve.metrics import Counter
from starlette.applications import Starlette

from configs.schema import AppConfig
from deployments.declared import declared_fields
from deployments.encoders import EncodersBeside
from deployments.remote import RemoteIndexer, RemotePreprocessor, RemoteRetriever, RemoteTextEncoder
from deployments.replica import collect_garbage_seldom, log_with_serve
from serve_app.adapters.job_records import JobRecords
from serve_app.http.app import create_app
from serve_app.http.limits import HttpLimits
from serve_app.services.classify import ClassifyService
from serve_app.services.documents import DocumentService
from serve_app.services.embeddings import EmbeddingService
from serve_app.services.encoders import EncoderSet, EncodersInService, FollowingPictures, FollowingTexts
from serve_app.services.jobs import JobService
from serve_app.services.keeping import KeepingService
from serve_app.services.query_cache import CachedTextEncoding
from serve_app.services.search import SearchService
from serve_app.services.status import StatusService


class Gateway:
    def __init__(
        self,
        config: AppConfig,
        text_encoder: DeploymentHandle[Any],
        preprocessor: DeploymentHandle[Any],
        retriever: DeploymentHandle[Any],
        indexer: DeploymentHandle[Any],
    ) -> None:
        log_with_serve()
        collect_garbage_seldom()
        self._config = config
        self._retrieval = RemoteRetriever(retriever, config.calls)
        self._indexing = RemoteIndexer(indexer, config.calls)
        hits = Counter("crossmodal_query_cache_hits", "Texts whose vector was known or under way.")
        misses = Counter("crossmodal_query_cache_misses", "Texts that were sent to the TextEncoder.")
        texts = RemoteTextEncoder(text_encoder, config.calls, config.encoder.max_batch_texts)
        cached = config.search.cached_queries
        home = EncoderSet(
            texts,
            # What people ask repeats; what they store does not, and would only push the queries out.
            CachedTextEncoding(texts, max_texts=cached, hits=hits, misses=misses),
            RemotePreprocessor(preprocessor, config.calls),
        )
        self._encoders = EncodersInService(
            home,
            self._retrieval.table_info,
            EncodersBeside(config.calls, cached_queries=cached, hits=hits, misses=misses).find,
            look_every_s=config.http.readiness_cache_s,
        )

    def __serve_build_asgi_app__(self) -> Starlette:
        """Serve's hook: called on the replica, after the constructor."""
        config, encoders = self._config, self._encoders
        texts, asked = FollowingTexts(encoders, asked=False), FollowingTexts(encoders, asked=True)
        pictures = FollowingPictures(encoders)
        embeddings = EmbeddingService(asked, pictures, max_characters=config.text.max_characters, encoders=encoders)
        return create_app(
            search=SearchService(
                asked,
                pictures,
                self._retrieval,
                max_characters=config.text.max_characters,
                max_limit=config.search.max_limit,
                max_window=config.search.max_window,
                fields=declared_fields(config.table),
                encoders=encoders,
            ),
            documents=DocumentService(
                texts,
                pictures,
                self._retrieval,
                self._indexing,
                max_characters=config.text.max_characters,
                image_weight=config.search.image_weight,
                frame_px=config.videos.frame_px,
                fields=declared_fields(config.table),
                encoders=encoders,
            ),
            embeddings=embeddings,
            classify=ClassifyService(embeddings, max_prompts=config.http.max_embeddings),
            status=StatusService(
                texts,
                pictures,
                self._retrieval,
                self._indexing,
                cache_s=config.http.readiness_cache_s,
                encoders=encoders,
            ),
            keeping=KeepingService(self._indexing, holding=self._indexing),
            jobs=JobService(JobRecords(config.table.uri, config.table.options)),
            limits=HttpLimits(
                max_body_bytes=config.http.max_body_bytes,
                max_documents=config.http.max_documents,
                max_limit=config.search.max_limit,
                max_searches=config.http.max_searches,
                max_listed_documents=config.http.max_listed_documents,
                max_embeddings=config.http.max_embeddings,
                max_embedded_pictures=config.http.max_embedded_pictures,
                max_thumbnail_px=config.http.max_thumbnail_px,
                max_picture_bytes=config.pictures.max_bytes,
                request_timeout_s=config.http.request_timeout_s,
            ),
            request_id_said_outside=True,  # Serve gives every request one, and says it
        )
