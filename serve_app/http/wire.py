"""What a client may send: pydantic models that are checked at the door and become domain types. Knows no route and no answer.

Strict JSON (a number is no string), unknown fields refused, lists stopped at their first wrong item: a hostile body costs no more
than its bytes. A model checks the shape of a request; what a value means (an id's letters, an empty text) the services check.
"""

import binascii
import math
from typing import Annotated, Any, Self, TypeVar

import pybase64
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    RootModel,
    Tag,
    create_model,
    model_validator,
)

from serve_app.errors import InvalidPicture, InvalidRequest, PictureTooLarge
from serve_app.http.filter_wire import DeletionIn
from serve_app.http.wire_model import WireModel as WireModel
from serve_app.http.wire_model import exactly_one_of as exactly_one_of
from serve_app.types import DocumentInput, FramePolicy, InlinePicture, Picture, PictureUri, VideoUri

MAX_URI_CHARACTERS = 4096
MIN_EVERY_S, MAX_EVERY_S = 0.1, 3600.0
MAX_FIELDS = 64


# --- pictures -------------------------------------------------------------------------------------------------------


class UriImage(WireModel):
    """A picture that lies somewhere else, under a root that the service allows."""

    uri: str = Field(min_length=1, max_length=MAX_URI_CHARACTERS, examples=["file:///data/pictures/boat.png"])

    def to_picture(self, max_bytes: int) -> Picture:  # noqa: ARG002 - its size is known when it is fetched
        return PictureUri(self.uri)


class Base64Image(WireModel):
    """A picture inside the request: the bytes of its file in standard base64, without a `data:` prefix."""

    base64: str = Field(json_schema_extra={"contentEncoding": "base64"})

    def to_picture(self, max_bytes: int) -> Picture:
        """Raises PictureTooLarge, and InvalidPicture for what is not base64."""
        return picture_of_base64(self.base64, max_bytes)


def picture_of_base64(encoded: str, max_bytes: int) -> InlinePicture:
    """The bytes of a picture file. Raises PictureTooLarge, and InvalidPicture for what is not base64."""
    if len(encoded) // 4 * 3 > max_bytes + 2:
        raise PictureTooLarge(f"A picture file may have at most {max_bytes} bytes.")
    try:
        return InlinePicture(pybase64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        message = "The picture is not valid base64 (standard alphabet, padded, no line breaks, no data: prefix)."
        raise InvalidPicture(message) from error


def picture_of_address(address: str, max_bytes: int) -> Picture:
    """A picture by its URI, or in a data URI (RFC 2397) with base64. Raises InvalidRequest and InvalidPicture.

    The media type that a data URI claims is not looked at: what a picture is, its bytes say.
    """
    if address[:5].lower() == "data:":
        head, comma, encoded = address.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise InvalidPicture("A data: URI has to be data:image/...;base64, and the bytes of the file in base64.")
        return picture_of_base64(encoded, max_bytes)
    if not 0 < len(address) <= MAX_URI_CHARACTERS:
        raise InvalidRequest(f"The URI of a picture has 1 to {MAX_URI_CHARACTERS} characters.")
    return PictureUri(address)


class PartImage(WireModel):
    """A picture in another part of the same multipart body, by the name of that part."""

    part: str = Field(min_length=1, max_length=256)


class VideoIn(WireModel):
    """A video that lies somewhere, under a root that the service allows. Each frame of it that is taken becomes a document."""

    uri: str = Field(min_length=1, max_length=MAX_URI_CHARACTERS, examples=["s3://bucket/videos/harbour.mp4"])
    every_s: float | None = Field(
        default=None,
        ge=MIN_EVERY_S,
        le=MAX_EVERY_S,
        allow_inf_nan=False,
        description=f"Take a frame every so many seconds; {FramePolicy().every_s:g} where neither this nor `scenes` is given.",
    )
    scenes: bool = Field(default=False, description="Take one frame of each scene instead.")

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if self.scenes and self.every_s is not None:
            raise ValueError("give every_s or scenes, not both")
        return self

    def to_video(self) -> VideoUri:
        return VideoUri(self.uri, FramePolicy(None if self.scenes else self.every_s or FramePolicy().every_s))


ImageIn = Annotated[
    Annotated[UriImage, Tag("<uri>")] | Annotated[Base64Image, Tag("<base64>")], exactly_one_of("uri", "base64")
]
FormImageIn = Annotated[
    Annotated[UriImage, Tag("<uri>")] | Annotated[Base64Image, Tag("<base64>")] | Annotated[PartImage, Tag("<part>")],
    exactly_one_of("uri", "base64", "part"),
]


# --- documents ------------------------------------------------------------------------------------------------------


def _finite(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Python reads NaN and Infinity from JSON, which knows neither; stored, they would make every later answer unreadable."""
    waiting: list[JsonValue] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError("NaN and Infinity are not JSON")
        if isinstance(item, dict | list):
            waiting.extend(item.values() if isinstance(item, dict) else item)
    return value


Metadata = Annotated[dict[str, JsonValue], AfterValidator(_finite)]


class _DocumentFields(WireModel):
    id: str | None = Field(
        default=None, description="Chosen by you; without it, made from the content.", examples=["boat-1"]
    )
    text: str | None = Field(
        default=None, description="The text, or the picture's caption.", examples=["a red boat at night"]
    )
    video: VideoIn | None = Field(
        default=None, description="A video in place of an image; the other fields are those of each of its frames."
    )
    metadata: Metadata = Field(default_factory=dict, description="Any JSON object; comes back as it was.")
    fields: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=MAX_FIELDS,
        description="Values of the fields that the service declares (`table.fields`), to filter by; times in ISO 8601.",
        examples=[{"price": 19.5, "tags": ["harbour"], "taken_at": "2026-11-24T09:30:00Z"}],
    )

    def to_input(self, picture: Picture | None) -> DocumentInput:
        return DocumentInput(
            text=self.text,
            picture=picture,
            video=None if self.video is None else self.video.to_video(),
            id=self.id,
            metadata=self.metadata,
            fields=self.fields,
        )


class DocumentIn(_DocumentFields):
    """A document to store: a text, a picture, or both; or a video."""

    image: ImageIn | None = Field(default=None, description="The picture, by address or inline.")


class FormDocumentIn(_DocumentFields):
    """A document of a multipart body; its picture may be one of the body's files."""

    image: FormImageIn | None = Field(
        default=None, description="The picture, by address, inline, or by the name of a part."
    )


class DocumentsIn(WireModel):
    """Documents to store."""

    documents: tuple[DocumentIn, ...] = Field(min_length=1)


class FormDocumentsIn(RootModel[tuple[FormDocumentIn, ...]]):
    """The list in the part `documents` of a multipart body."""

    model_config = ConfigDict(frozen=True, strict=True)


# --- bounds from the configuration ----------------------------------------------------------------------------------


class RequestModels:
    """The request models with the limits of this service in them, so that the limits hold and stand in openapi.json."""

    documents: type[DocumentsIn]
    form_documents: type[FormDocumentsIn]
    deletion: type[DeletionIn]

    def __init__(self, max_documents: int, max_deleted_ids: int) -> None:
        bounds = Field(min_length=1, max_length=max_documents)
        self.documents = bounded(DocumentsIn, documents=(Annotated[tuple[DocumentIn, ...], FailFast()], bounds))
        self.form_documents = bounded(FormDocumentsIn, root=(Annotated[tuple[FormDocumentIn, ...], FailFast()], bounds))
        ids = Field(default=None, min_length=1, max_length=max_deleted_ids)
        self.deletion = bounded(DeletionIn, ids=(tuple[str, ...] | None, ids))


Model = TypeVar("Model", bound=BaseModel)


def bounded(base: type[Model], **fields: Any) -> type[Model]:
    """The model with these fields in place of its own, under its own name."""
    return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)
