"""The operations of the bare encoder: embeddings, compatible with OpenAI's clients, and zero-shot classification.

Parses, asks the services, renders; knows neither models nor the arithmetic of probabilities.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import (
    BodyTooLarge,
    FingerprintMismatch,
    InvalidRequest,
    ModelNotFound,
    PictureNotFound,
    Unavailable,
)
from serve_app.http.answers import json_of
from serve_app.http.bodies import read_json, require_json
from serve_app.http.encoder_answers import ClassifyOut, EmbeddingsOut, classify_out, embeddings_json, embeddings_out
from serve_app.http.encoder_wire import EmbeddingsIn, EncoderModels, Item
from serve_app.http.error_table import error_of_failure
from serve_app.http.limits import HttpLimits
from serve_app.http.operations import Answer, Operation
from serve_app.services.classify import ClassifyService
from serve_app.services.embeddings import EmbeddingService
from serve_app.types import Embedding, ItemFailure

ERRORS = (
    InvalidRequest,
    BodyTooLarge,
    ModelNotFound,
    PictureNotFound,
    FingerprintMismatch,
    Unavailable,
)


class EncoderRoutes:
    """Handlers over the services of the bare encoder."""

    def __init__(
        self, embeddings: EmbeddingService, classify: ClassifyService, models: EncoderModels, limits: HttpLimits
    ) -> None:
        self._embeddings = embeddings
        self._classify = classify
        self._models = models
        self._limits = limits

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings."""
        require_json(request)
        body = await read_json(request, self._models.embeddings)
        items = body.to_items(self._limits.max_picture_bytes)
        self._check_pictures(items)
        card = await self._embeddings.encoder(body.model, body.dimensions)
        if body.on_error == "fail":
            _raise_first_failure(self._embeddings.check(items), body)  # before anything is encoded
        embedded = await self._embeddings.embed(items)
        if body.on_error == "fail":
            _raise_first_failure(embedded, body)
        return embeddings_json(embeddings_out(embedded, card.model, body.encoding_format))

    async def classify(self, request: Request) -> Response:
        """POST /v1/classify."""
        require_json(request)
        body = await read_json(request, self._models.classify)
        answer = await self._classify.classify(body.to_request(self._limits.max_picture_bytes))
        return json_of(classify_out(answer))

    def _check_pictures(self, items: Sequence[Item]) -> None:
        pictures = sum(not isinstance(item, str) for item in items)
        if pictures > self._limits.max_embedded_pictures:
            most = self._limits.max_embedded_pictures
            raise InvalidRequest(f"input: expected at most {most} pictures, {pictures} were found.")


def _raise_first_failure(items: Sequence[Embedding | Item], body: EmbeddingsIn) -> None:
    """Raises the first failure among the items or what became of them, by its place in the request."""
    for at, item in enumerate(items):
        if isinstance(item, ItemFailure):
            error = error_of_failure(item)
            raise type(error)(f"{body.place_of(at)}: {error.message}")


def encoder_operations(embeddings: EmbeddingService, classify: ClassifyService, limits: HttpLimits) -> list[Operation]:
    """The operations of the bare encoder, for routes and openapi.json."""
    models = EncoderModels(limits)
    routes = EncoderRoutes(embeddings, classify, models, limits)
    return [
        Operation(
            "POST",
            "/v1/embeddings",
            routes.embeddings,
            "encoder",
            "The vectors of texts and pictures, as OpenAI's clients ask for them",
            {200: Answer("A vector for each item, in order.", EmbeddingsOut)},
            errors=ERRORS,
            body=models.embeddings,
        ),
        Operation(
            "POST",
            "/v1/classify",
            routes.classify,
            "encoder",
            "Which labels fit a picture, zero-shot",
            {200: Answer("The labels of each picture, the most probable first.", ClassifyOut)},
            errors=ERRORS,
            body=models.classify,
        ),
    ]
