"""The bounds of the border, as one value that the deployment fills from its configuration. Reads nothing itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a request may ask for. Sizes in bytes, lengths of pictures in pixels, durations in seconds."""

    max_body_bytes: int = 32_000_000
    max_documents: int = 256  # in one POST /v1/documents
    max_limit: int = 200  # results of one search
    max_searches: int = 64  # in one POST /v1/search:batch
    max_listed_documents: int = 1000  # in one answer of GET /v1/documents; ids of one deletion
    max_embeddings: int = 2048  # vectors of one POST /v1/embeddings; prompts of one POST /v1/classify
    max_embedded_pictures: int = 256  # pictures of one POST /v1/embeddings or /v1/classify
    max_thumbnail_px: int = 1024  # the longer side
    max_picture_bytes: int = 20_000_000  # of one picture file
    request_timeout_s: float = 60.0
