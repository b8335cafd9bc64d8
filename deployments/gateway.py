"""Gateway: HTTP. Parses, fans out, renders. No model, no table, no torch."""

from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from configs.schema import AppConfig
from deployments.remote import RemoteIndexer, RemotePreprocessor, RemoteRetriever, RemoteTextEncoder
from serve_app.http.app import create_app
from serve_app.http.limits import HttpLimits
from serve_app.services.documents import DocumentService
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
        self._config = config
        self._texts = RemoteTextEncoder(text_encoder, config.calls)
        self._pictures = RemotePreprocessor(preprocessor, config.calls)
        self._retrieval = RemoteRetriever(retriever, config.calls)
        self._indexing = RemoteIndexer(indexer, config.calls)

    def __serve_build_asgi_app__(self) -> Starlette:
        """Serve's hook: called on the replica, after the constructor."""
        config = self._config
        return create_app(
            search=SearchService(
                self._texts,
                self._pictures,
                self._retrieval,
                max_characters=config.text.max_characters,
                max_limit=config.search.max_limit,
            ),
            documents=DocumentService(
                self._texts,
                self._pictures,
                self._retrieval,
                self._indexing,
                max_characters=config.text.max_characters,
                image_weight=config.search.image_weight,
            ),
            status=StatusService(
                self._texts,
                self._pictures,
                self._retrieval,
                self._indexing,
                cache_s=config.http.readiness_cache_s,
            ),
            limits=HttpLimits(
                max_body_bytes=config.http.max_body_bytes,
                max_documents=config.http.max_documents,
                max_limit=config.search.max_limit,
                max_thumbnail_px=config.http.max_thumbnail_px,
                max_picture_bytes=config.pictures.max_bytes,
                request_timeout_s=config.http.request_timeout_s,
            ),
        )
