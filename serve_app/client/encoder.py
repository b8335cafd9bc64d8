"""The calls of the bare encoder, as JSON and back. Knows nothing of HTTP."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serve_app.client.adding import picture_bytes
from serve_app.client.answers import (
    Classification,
    Classified,
    Embeddings,
    ImageSource,
    LabelProbability,
    read_answer,
)
from serve_app.errors import InternalError, InvalidRequest, error_of


def embeddings_request(texts: Sequence[str], images: Sequence[ImageSource]) -> dict[str, Any]:
    """The body of a request for the vectors of texts, then of pictures. Raises InvalidRequest and PictureNotFound."""
    if isinstance(texts, str):
        raise InvalidRequest("texts takes a list; a single text is a list of one")
    items = [*({"text": text} for text in texts), *({"image": picture_field(image)} for image in images)]
    if not items:
        raise InvalidRequest("there is nothing to embed: give texts, images or both")
    return {"input": items, "encoding_format": "base64"}


def read_embeddings(payload: Mapping[str, Any]) -> Embeddings:
    """The vectors of an answer."""
    try:
        items = sorted(payload["data"], key=lambda item: item["index"])
        rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in items]
        truncated = tuple(bool(item.get("truncated", False)) for item in items)
        return Embeddings(np.stack(rows).astype(np.float32), truncated, str(payload["model"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InternalError(f"the service's answer is not a list of embeddings: {error!r}") from error


def classify_request(
    images: Sequence[ImageSource], labels: Sequence[str], templates: Sequence[str], limit: int | None
) -> dict[str, Any]:
    """The body of a request to classify. Raises PictureNotFound."""
    body: dict[str, Any] = {"images": [picture_field(image) for image in images], "labels": list(labels)}
    if templates:
        body["templates"] = list(templates)
    if limit is not None:
        body["limit"] = limit
    return body


def read_classification(payload: Mapping[str, Any]) -> Classification:
    """The labels of each picture of an answer."""
    results = tuple(map(_classified, payload.get("results", ())))
    truncated = tuple(payload.get("truncated_labels", ()))
    return read_answer(Classification, {**payload, "results": results, "truncated_labels": truncated})


def picture_field(image: ImageSource) -> dict[str, str]:
    """A picture as JSON has it: an address that the service can read, or the bytes. Raises PictureNotFound."""
    if isinstance(image, str):
        return {"uri": image}
    return {"base64": base64.b64encode(picture_bytes(image)).decode()}


def _classified(item: Mapping[str, Any]) -> Classified:
    if "error" in item:
        return Classified(error=error_of(str(item["error"]["code"]), str(item["error"]["message"])))
    return Classified(tuple(read_answer(LabelProbability, each) for each in item.get("labels", ())))
