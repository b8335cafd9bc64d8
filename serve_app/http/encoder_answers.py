"""What a client receives from the calls of the bare encoder. Knows no request and no route."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import ConfigDict, Field, SkipValidation, WithJsonSchema
from starlette.responses import Response

from serve_app.http.answers import AnswerModel, ItemErrorDetail
from serve_app.http.error_table import error_of_failure
from serve_app.types import (
    Activation,
    ClassifiedPicture,
    ClassifyAnswer,
    Embedding,
    FloatVector,
    ItemFailure,
)

NUMBERS_OR_BASE64: dict[str, Any] = {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}

# --- embeddings -----------------------------------------------------------------------------------------------------


class EmbeddingOut(AnswerModel):
    """The vector of an item, of unit length."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: Annotated[FloatVector | str, SkipValidation, WithJsonSchema(NUMBERS_OR_BASE64)] = Field(
        description="Numbers, or base64 of little-endian float32."
    )
    truncated: bool = Field(description="The text was longer than the encoder reads.")


class EmbeddingErrorOut(AnswerModel):
    """Why an item has no vector; only with `on_error: report`."""

    object: Literal["error"] = "error"
    index: int
    # OpenAI's client looks at the field of every item.
    embedding: None = None
    error: ItemErrorDetail


class UsageOut(AnswerModel):
    """Tokens that the encoder read, begin and end of each text among them; pictures have none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(AnswerModel):
    """A vector for each item, in the order of the request."""

    object: Literal["list"] = "list"
    data: tuple[EmbeddingOut | EmbeddingErrorOut, ...]
    model: str
    usage: UsageOut


def embeddings_out(embedded: Sequence[Embedding | ItemFailure], model: str, encoding_format: str) -> EmbeddingsOut:
    tokens = sum(each.tokens for each in embedded if isinstance(each, Embedding))
    return EmbeddingsOut(
        data=tuple(_embedding_out(at, each, encoding_format) for at, each in enumerate(embedded)),
        model=model,
        usage=UsageOut(prompt_tokens=tokens, total_tokens=tokens),
    )


def embeddings_json(embeddings: EmbeddingsOut) -> Response:
    """As `json_of`, but numbers have the digits that float32 needs, half of what float64 takes, and take a third of the time."""
    return Response(
        orjson.dumps(embeddings.model_dump(), option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
    )


def _embedding_out(
    index: int, embedded: Embedding | ItemFailure, encoding_format: str
) -> EmbeddingOut | EmbeddingErrorOut:
    if isinstance(embedded, ItemFailure):
        return EmbeddingErrorOut(index=index, error=_error_out(embedded))
    # orjson takes contiguous arrays only.
    vector = _base64(embedded.vector) if encoding_format == "base64" else np.ascontiguousarray(embedded.vector)
    return EmbeddingOut(index=index, embedding=vector, truncated=embedded.truncated)


def _base64(vector: FloatVector) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _error_out(failure: ItemFailure) -> ItemErrorDetail:
    error = error_of_failure(failure)
    return ItemErrorDetail(code=error.code, message=error.message)


# --- classification -------------------------------------------------------------------------------------------------


class LabelOut(AnswerModel):
    label: str
    probability: float


class ClassifiedOut(AnswerModel):
    """The labels of a picture, the most probable first."""

    labels: tuple[LabelOut, ...]


class UnclassifiedOut(AnswerModel):
    """Why a picture was not classified."""

    error: ItemErrorDetail


class ClassifyOut(AnswerModel):
    """What became of each picture, in the order of the request."""

    results: tuple[ClassifiedOut | UnclassifiedOut, ...]
    activation: Activation = Field(
        description="`softmax`: the probabilities of a picture's labels add up to 1 (CLIP). `sigmoid`: each label is judged "
        "by itself, and none may fit (SigLIP)."
    )
    model: str
    truncated_labels: tuple[str, ...] = Field(
        description="Labels that the encoder did not read to the end in every template."
    )


def classify_out(answer: ClassifyAnswer) -> ClassifyOut:
    return ClassifyOut(
        results=tuple(map(_classified_out, answer.pictures)),
        activation=answer.activation,
        model=answer.model,
        truncated_labels=answer.truncated_labels,
    )


def _classified_out(picture: ClassifiedPicture | ItemFailure) -> ClassifiedOut | UnclassifiedOut:
    if isinstance(picture, ItemFailure):
        return UnclassifiedOut(error=_error_out(picture))
    return ClassifiedOut(
        labels=tuple(LabelOut(label=each.label, probability=each.probability) for each in picture.labels)
    )
