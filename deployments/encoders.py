"""Encoders beside those of the graph, as a Serve application of their own: how they are wired, and how a Gateway finds them.

While the model of a service is changed, the new encoders run in an application whose name begins with `encoders`. Nothing of
the graph is restarted for it. Which of both a request uses follows from the table in service (serve_app/services/encoders.py).
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from configs.schema import AppConfig, CallConfig
from deployments.image_encoder import ImageEncoder
from deployments.preprocessor import Preprocessor
from deployments.remote import RemoteImageEncoder, RemotePreprocessor, RemoteTextEncoder, Target, translate
from deployments.replica import log_with_serve
from deployments.text_encoder import TextEncoder
from serve_app.errors import CrossmodalError, FingerprintMismatch
from serve_app.services.encoders import EncoderSet
from serve_app.services.query_cache import CachedTextEncoding, Count
from serve_app.types import EncoderCard

log = logging.getLogger(__name__)

APPLICATIONS = "encoders"
# As serve_config.yaml has them. Encoders that want GPUs are better declared in the Serve file, as docs/reindex.md says.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "TextEncoder": {"max_ongoing_requests": 64, "max_queued_requests": 256, "ray_actor_options": {"num_cpus": 0.25}},
    "ImageEncoder": {"max_ongoing_requests": 64, "max_queued_requests": 256, "ray_actor_options": {"num_cpus": 0.5}},
    "Preprocessor": {"max_ongoing_requests": 32, "max_queued_requests": 256, "ray_actor_options": {"num_cpus": 0.25}},
    "Encoders": {"ray_actor_options": {"num_cpus": 0.05}},
}
# An application that is on its way out or in answers later, or not at all; nobody's request waits for that.
PATIENCE_S = 2.0


class Encoders:
    """The entry of such an application: says which encoder it is. Texts and pictures go to the parts themselves."""

    def __init__(
        self,
        text_encoder: DeploymentHandle[Any],
        image_encoder: DeploymentHandle[Any],
        preprocessor: DeploymentHandle[Any],  # noqa: ARG002 - bound here, so that it is deployed
        calls: CallConfig,
    ) -> None:
        log_with_serve()
        self._texts = RemoteTextEncoder(text_encoder, calls)
        self._images = RemoteImageEncoder(image_encoder, calls)

    async def describe(self) -> EncoderCard:
        """Raises FingerprintMismatch where its two towers are of different models."""
        words, seen = await asyncio.gather(self._texts.describe(), self._images.describe())
        if words.fingerprint != seen.fingerprint:
            raise FingerprintMismatch(
                f"the text encoder ({words.fingerprint[:12]}) and the image encoder ({seen.fingerprint[:12]}) beside the graph "
                "are of different models"
            )
        return words


def encoders_of(config: AppConfig, options: Mapping[str, Mapping[str, Any]]) -> Application:
    """The application of the encoders that `config` names. `options`: of Serve, by the name of the deployment."""

    def deployment(part: Any) -> Any:
        return serve.deployment(**options.get(part.__name__, {}))(part)

    text_encoder = deployment(TextEncoder).bind(config.encoder, config.text)
    image_encoder = deployment(ImageEncoder).bind(config.encoder)
    preprocessor = deployment(Preprocessor).bind(
        config.pictures, config.videos, config.storage, config.calls, image_encoder
    )
    application: Application = deployment(Encoders).bind(text_encoder, image_encoder, preprocessor, config.calls)
    return application


def deploy_encoders(config: AppConfig, card: EncoderCard) -> None:
    """Start the encoders that `config` names on this cluster, where a graph runs on it, unless they run already. Blocking.

    Where no graph runs here, whoever runs it elsewhere has to have declared them.
    """
    names = serve.status().applications
    if all(name.startswith(APPLICATIONS) for name in names) or card.fingerprint in running_encoders():
        return
    application = encoders_of(config, OPTIONS)
    serve.run(application, name=f"{APPLICATIONS}-{card.fingerprint[:12]}", route_prefix=None)


def running_encoders() -> dict[str, str]:
    """By fingerprint the application of encoders beside the graph. Blocking, for a process that is no replica."""
    found = {}
    for name in running():
        described: EncoderCard = serve.get_app_handle(name).describe.remote().result(timeout_s=30)
        found[described.fingerprint] = name
    return found


class EncodersBeside:
    """Finds the encoders of a fingerprint among the applications of this cluster."""

    def __init__(self, calls: CallConfig, *, cached_queries: int, hits: Count, misses: Count) -> None:
        self._calls = calls
        self._cached_queries = cached_queries
        self._hits = hits
        self._misses = misses

    async def find(self, fingerprint: str) -> EncoderSet | None:
        """None where there are none yet. Raises errors of ours only."""
        try:
            names = await asyncio.to_thread(running)
            for name in names:
                if await self._fingerprint_of(name) == fingerprint:
                    return await asyncio.to_thread(self._set_of, name)
        except (RayError, RayServeException) as error:
            raise translate(error, APPLICATIONS) from error
        return None

    async def _fingerprint_of(self, name: str) -> str | None:
        handle = await asyncio.to_thread(serve.get_app_handle, name)
        try:
            card: EncoderCard = await Target(handle, self._calls.model_copy(update={"retry_for_s": PATIENCE_S})).call(
                "describe"
            )
        except CrossmodalError as error:
            log.warning("the application %s does not say which encoder it is: %s", name, error.message)
            return None
        return card.fingerprint

    def _set_of(self, name: str) -> EncoderSet:
        texts = RemoteTextEncoder(serve.get_deployment_handle("TextEncoder", name), self._calls)
        return EncoderSet(
            texts=texts,
            asked=CachedTextEncoding(texts, max_texts=self._cached_queries, hits=self._hits, misses=self._misses),
            pictures=RemotePreprocessor(serve.get_deployment_handle("Preprocessor", name), self._calls),
        )


def running() -> list[str]:
    """The names of the applications of encoders that are up, the newest first. Blocking."""
    found = [(app.last_deployed_time_s, name) for name, app in serve.status().applications.items() if _is_up(name, app)]
    return [name for _, name in sorted(found, reverse=True)]


def _is_up(name: str, app: Any) -> bool:
    return name.startswith(APPLICATIONS) and app.status == "RUNNING"
