"""What a client may send: pydantic models that are checked at the door and become domain types. Knows no route and no answer.

Strict JSON (a number is no string), unknown fields refused, lists stopped at their first wrong item: a hostile body costs no more
than its bytes. A model checks the shape of a request; what a value means (an id's letters, an empty text) the services check.
"""

import base64
import binascii
import math
from typing import Annotated, Any, TypeVar

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
)

from serve_app.errors import InvalidPicture, InvalidRequest, PictureTooLarge
from serve_app.http.filter_wire import DeletionIn, FilterIn
from serve_app.http.wire_model import WireModel as WireModel
from serve_app.http.wire_model import exactly_one_of as exactly_one_of
from serve_app.types import (
    DocumentInput,
    DocumentQuery,
    Include,
    InlinePicture,
    Modality,
    Picture,
    PictureQuery,
    PictureUri,
    Query,
    Ranking,
    RawVectorQuery,
    SearchRequest,
    TextQuery,
)

MAX_VECTOR_LENGTH = 16_384
MAX_URI_CHARACTERS = 4096
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
        return InlinePicture(base64.b64decode(encoded, validate=True))
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
    metadata: Metadata = Field(default_factory=dict, description="Any JSON object; comes back as it was.")
    fields: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=MAX_FIELDS,
        description="Values of the fields that the service declares (`table.fields`), to filter by; times in ISO 8601.",
        examples=[{"price": 19.5, "tags": ["harbour"], "taken_at": "2026-11-24T09:30:00Z"}],
    )

    def to_input(self, picture: Picture | None) -> DocumentInput:
        return DocumentInput(text=self.text, picture=picture, id=self.id, metadata=self.metadata, fields=self.fields)


class DocumentIn(_DocumentFields):
    """A document to store: a text, a picture, or both."""

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


# --- search ---------------------------------------------------------------------------------------------------------


class TextQueryIn(WireModel):
    """What is searched, in words."""

    text: str = Field(examples=["two red boats at night"])

    def to_query(self, max_picture_bytes: int) -> Query:  # noqa: ARG002
        return TextQuery(self.text)


class ImageQueryIn(WireModel):
    """What looks or reads like this picture."""

    image: ImageIn

    def to_query(self, max_picture_bytes: int) -> Query:
        return PictureQuery(self.image.to_picture(max_picture_bytes))


class DocumentQueryIn(WireModel):
    """More like this document, which is left out of the answer."""

    document_id: str

    def to_query(self, max_picture_bytes: int) -> Query:  # noqa: ARG002
        return DocumentQuery(self.document_id)


class VectorQueryIn(WireModel):
    """A vector made by the same encoder; it need not be of unit length."""

    vector: Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], FailFast()] = Field(
        min_length=1, max_length=MAX_VECTOR_LENGTH
    )
    modality: Modality = Field(description="What the vector was made of.")

    def to_query(self, max_picture_bytes: int) -> Query:  # noqa: ARG002
        return RawVectorQuery(self.vector, self.modality)


QueryIn = Annotated[
    Annotated[TextQueryIn, Tag("<text>")]
    | Annotated[ImageQueryIn, Tag("<image>")]
    | Annotated[DocumentQueryIn, Tag("<document_id>")]
    | Annotated[VectorQueryIn, Tag("<vector>")],
    exactly_one_of("text", "image", "document_id", "vector"),
]


class SearchOptionsIn(WireModel):
    """How to search, without what."""

    modalities: Annotated[tuple[Modality, ...], FailFast()] = Field(
        default=tuple(Modality), min_length=1, max_length=16, description="What may be found."
    )
    limit: int = Field(default=10, ge=1, description="Most results.")
    ranking: Ranking | None = Field(
        default=None,
        description="`calibrated` where more than one modality can be returned, else `cosine`, unless said.",
    )

    filter: FilterIn | None = Field(
        default=None,
        description="Which documents may be found.",
        examples=[{"field": "price", "lt": 20}],
    )

    min_table_version: int = Field(
        default=0, ge=0, description="That of a write: the search sees it, whichever replica answers."
    )
    as_of: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="The name of a snapshot, or an ISO 8601 time: search what the table held then.",
        examples=["before-the-import", "2026-11-24T18:00:00Z"],
    )

    include: Annotated[tuple[Include, ...], FailFast()] = Field(
        default=(),
        max_length=8,
        description="`url`: with each picture an address that a browser can fetch for a short while.",
    )

    def to_request(self, query: Query) -> SearchRequest:
        return SearchRequest(
            query=query,
            limit=self.limit,
            modalities=tuple(dict.fromkeys(self.modalities)),
            ranking=self.ranking,
            where=None if self.filter is None else self.filter.to_filter(),
            min_table_version=self.min_table_version,
            as_of=self.as_of,
            include=self.include,
        )


class SearchIn(SearchOptionsIn):
    """A search."""

    query: QueryIn


# --- bounds from the configuration ----------------------------------------------------------------------------------


class RequestModels:
    """The request models with the limits of this service in them, so that the limits hold and stand in openapi.json."""

    documents: type[DocumentsIn]
    form_documents: type[FormDocumentsIn]
    search: type[SearchIn]
    search_options: type[SearchOptionsIn]
    deletion: type[DeletionIn]

    def __init__(self, max_documents: int, max_limit: int, max_deleted_ids: int) -> None:
        bounds = Field(min_length=1, max_length=max_documents)
        self.documents = bounded(DocumentsIn, documents=(Annotated[tuple[DocumentIn, ...], FailFast()], bounds))
        self.form_documents = bounded(FormDocumentsIn, root=(Annotated[tuple[FormDocumentIn, ...], FailFast()], bounds))
        ids = Field(default=None, min_length=1, max_length=max_deleted_ids)
        self.deletion = bounded(DeletionIn, ids=(tuple[str, ...] | None, ids))
        limit = Field(default=min(10, max_limit), ge=1, le=max_limit, description="Most results.")
        self.search = bounded(SearchIn, limit=(int, limit))
        self.search_options = bounded(SearchOptionsIn, limit=(int, limit))


Model = TypeVar("Model", bound=BaseModel)


def bounded(base: type[Model], **fields: Any) -> type[Model]:
    """The model with these fields in place of its own, under its own name."""
    return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)
