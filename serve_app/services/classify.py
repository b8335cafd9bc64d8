"""Which of these labels fits a picture, without training. Knows neither models nor the arithmetic of probabilities."""

from collections.abc import Sequence

import numpy as np

from serve_app.core.zero_shot import SLOT, probabilities, prompts_of, prototypes
from serve_app.errors import InvalidRequest, error_of
from serve_app.services.embeddings import EmbeddingService
from serve_app.types import (
    Activation,
    ClassifiedPicture,
    ClassifyAnswer,
    ClassifyRequest,
    Embedding,
    EncoderCard,
    FloatMatrix,
    FloatVector,
    ItemFailure,
    LabelProbability,
    Picture,
)

MAX_PROBABILITIES = 200_000
"""In one answer; so many take about 10 MB of JSON."""


class ClassifyService:
    """Zero-shot classification. `max_prompts` bounds labels times templates, all of which travel in one call."""

    def __init__(self, embeddings: EmbeddingService, *, max_prompts: int) -> None:
        self._embeddings = embeddings
        self._max_prompts = max_prompts

    async def classify(self, request: ClassifyRequest) -> ClassifyAnswer:
        """Labels of each picture, best first; a bad picture fails alone, a bad label fails the request.

        Raises InvalidRequest and its children, ModelNotFound, FingerprintMismatch, Unavailable.
        """
        self._check(request)
        card = await self._embeddings.encoder(request.model)
        prompts = prompts_of(request.labels, request.templates)
        _raise_first_failure(self._embeddings.check(prompts), request)  # before anything is encoded
        embedded = await self._embeddings.embed([*prompts, *request.pictures])
        _raise_first_failure(embedded[: len(prompts)], request)
        texts = [each for each in embedded[: len(prompts)] if isinstance(each, Embedding)]
        pictures = embedded[len(prompts) :]
        labels = prototypes(np.stack([each.vector for each in texts]), len(request.templates))
        cut = [bool(each.truncated) for each in texts]
        per_label = len(request.templates)
        return ClassifyAnswer(
            pictures=_classified(pictures, labels, card, request),
            activation=Activation.SOFTMAX if card.logit_bias is None else Activation.SIGMOID,
            model=card.model,
            truncated_labels=tuple(
                label for at, label in enumerate(request.labels) if any(cut[at * per_label : (at + 1) * per_label])
            ),
        )

    def _check(self, request: ClassifyRequest) -> None:
        seen: set[str] = set()
        for at, label in enumerate(request.labels):
            if label in seen:
                raise InvalidRequest(f"labels[{at}]: {label[:64]!r} stands there twice")
            seen.add(label)
            if not label.strip():
                raise InvalidRequest(f"labels[{at}]: the label is empty")
        for at, template in enumerate(request.templates):
            if template.count(SLOT) != 1:
                raise InvalidRequest(f"templates[{at}]: a template has {SLOT} once, where the label goes")
        prompts = len(request.labels) * len(request.templates)
        if prompts > self._max_prompts:
            raise InvalidRequest(
                f"labels times templates are {prompts:,} texts, at most {self._max_prompts:,} are encoded in one request"
            )
        answered = len(request.pictures) * min(len(request.labels), request.limit or len(request.labels))
        if answered > MAX_PROBABILITIES:
            raise InvalidRequest(f"the answer would hold {answered:,} probabilities; set limit to the best few labels")


def _raise_first_failure(prompts: Sequence[str | Picture | Embedding | ItemFailure], request: ClassifyRequest) -> None:
    """Raises the first failure among the prompts or what became of them, by the place of its label."""
    for at, prompt in enumerate(prompts):
        if isinstance(prompt, ItemFailure):
            raise error_of(prompt.code, f"labels[{at // len(request.templates)}]: {prompt.message}")


def _classified(
    pictures: Sequence[Embedding | ItemFailure], labels: FloatMatrix, card: EncoderCard, request: ClassifyRequest
) -> tuple[ClassifiedPicture | ItemFailure, ...]:
    good = [each.vector for each in pictures if isinstance(each, Embedding)]
    rows = iter(probabilities(np.stack(good), labels, card.logit_scale, card.logit_bias) if good else ())
    return tuple(
        each if isinstance(each, ItemFailure) else ClassifiedPicture(_best(next(rows), request)) for each in pictures
    )


def _best(row: FloatVector, request: ClassifyRequest) -> tuple[LabelProbability, ...]:
    # Stable: labels that tie keep the order of the request.
    order = np.argsort(-row, kind="stable")[: request.limit]
    return tuple(LabelProbability(request.labels[at], float(row[at])) for at in order)
