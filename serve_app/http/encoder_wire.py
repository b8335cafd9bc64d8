"""What a client may send to the calls of the bare encoder: embeddings and classification. Knows no route and no answer.

/v1/embeddings takes OpenAI's body (a text, or a list of texts), and pictures in the forms that others gave to it: infinity's
strings with `modality: "image"`, vLLM's `messages`, NV-CLIP's data URIs among texts; and ours, objects that say what they are.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Discriminator, FailFast, Field, RootModel, Tag, model_validator
from pydantic_core import PydanticCustomError

from serve_app.core.failures import failure_of
from serve_app.errors import InvalidRequest
from serve_app.http.limits import HttpLimits
from serve_app.http.wire import Base64Image, ImageIn, UriImage, WireModel, bounded, picture_of_address
from serve_app.types import ClassifyRequest, ItemFailure, Picture

MAX_MESSAGES = 16
MAX_TEMPLATES = 256

Item: TypeAlias = str | Picture | ItemFailure
"""Something to embed, or why it cannot be."""

# --- embeddings: OpenAI's form, infinity's and ours -----------------------------------------------------------------


class TextItemIn(WireModel):
    """A text, whatever it looks like."""

    text: str


class ImageItemIn(WireModel):
    """A picture."""

    image: ImageIn


def _item_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    present = [name for name in ("text", "image") if name in value] if isinstance(value, dict) else []
    return f"<{present[0]}>" if len(present) == 1 else None


ItemIn = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[TextItemIn, Tag("<text>")] | Annotated[ImageItemIn, Tag("<image>")],
    Discriminator(
        _item_tag,
        custom_error_type="item",
        custom_error_message="expected a string, {text} or {image}; token ids are not taken, because they come from the "
        "tokeniser of another model: send the text itself",
    ),
]


class ItemsIn(RootModel[Annotated[tuple[ItemIn, ...], FailFast()]]):
    """Several items."""

    model_config = ConfigDict(frozen=True, strict=True)


def _one_or_many_tag(value: Any) -> str | None:
    return "<one>" if isinstance(value, str) else "<many>" if isinstance(value, list) else None


def _one_or_many(many: Any) -> Any:
    """The type of a field that takes a string, or this list."""
    return Annotated[
        Annotated[str, Tag("<one>")] | Annotated[many, Tag("<many>")],
        Discriminator(
            _one_or_many_tag, custom_error_type="one_or_many", custom_error_message="expected a string or a list"
        ),
    ]


# --- embeddings: vLLM's form ----------------------------------------------------------------------------------------


class TextPartIn(WireModel):
    """A text."""

    type: Literal["text"]
    text: str


class ImageUrlIn(WireModel):
    """The address of a picture."""

    url: str = Field(description="A URI under a root that the service allows, or `data:image/...;base64,...`.")
    detail: str | None = Field(default=None, description="Not used: the model has one resolution.")


class ImageUrlPartIn(WireModel):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrlIn


def _part_tag(value: Any) -> str | None:
    return f"<{value.get('type')}>" if isinstance(value, dict) else None


PartIn = Annotated[
    Annotated[TextPartIn, Tag("<text>")] | Annotated[ImageUrlPartIn, Tag("<image_url>")],
    Discriminator(
        _part_tag,
        custom_error_type="part",
        custom_error_message="expected an object of the type text or image_url",
    ),
]


class PartsIn(RootModel[Annotated[tuple[PartIn, ...], FailFast()]]):
    """What a message consists of."""

    model_config = ConfigDict(frozen=True, strict=True)


class MessageIn(WireModel):
    """A message of a chat; who says it makes no difference."""

    role: str
    content: _one_or_many(PartsIn)  # type: ignore[valid-type]

    def to_parts(self) -> tuple[TextPartIn | ImageUrlPartIn, ...]:
        content: str | PartsIn = self.content
        return content.root if isinstance(content, PartsIn) else (TextPartIn(type="text", text=content),)


# --- embeddings -----------------------------------------------------------------------------------------------------


class EmbeddingsIn(WireModel):
    """What to embed. Exactly one of `input` and `messages`."""

    input: str | ItemsIn | None = Field(
        default=None,
        description="A string, or a list of strings, `{text}` and `{image: {uri | base64}}`. A string is a text; with "
        "`modality: image`, or if it begins with `data:image/`, it is a picture.",
        examples=[["a red boat at night", {"image": {"uri": "file:///data/pictures/boat.png"}}]],
    )
    messages: tuple[MessageIn, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_MESSAGES,
        description="One text or one picture, as vLLM takes them.",
    )
    model: str | None = Field(default=None, description="Needed by nobody; if given, the model of this service.")
    modality: Literal["text", "image"] = Field(default="text", description="What the strings of `input` are.")
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="`base64`: the bytes of little-endian float32 numbers."
    )
    dimensions: int | None = Field(default=None, ge=1, description="If given, the dimension of the model's vectors.")
    user: str | None = Field(default=None, description="Taken because OpenAI's clients send it; not used.")
    on_error: Literal["fail", "report"] = Field(
        default="fail",
        description="`fail`: one bad item fails the request. `report`: it stands as an error in `data`, the others go on.",
    )

    @model_validator(mode="after")
    def _has_one_of_both(self) -> Self:
        if (self.input is None) == (self.messages is None):
            raise PydanticCustomError("exactly_one_of", "expected exactly one of input and messages")
        return self

    def to_items(self, max_picture_bytes: int) -> list[Item]:
        """What to embed, in order. Raises InvalidRequest for messages that are not one text or one picture."""
        if self.messages is not None:
            return [self._of_messages(self.messages, max_picture_bytes)]
        items = self.input.root if isinstance(self.input, ItemsIn) else (self.input or "",)
        return [self._item(item, max_picture_bytes) for item in items]

    def place_of(self, index: int) -> str:
        """Where the item stood, as messages name it."""
        if self.messages is not None:
            return "messages"
        return "input" if isinstance(self.input, str) else f"input[{index}]"

    def _item(self, item: str | TextItemIn | ImageItemIn, max_picture_bytes: int) -> Item:
        if isinstance(item, TextItemIn):
            return item.text
        if isinstance(item, ImageItemIn):
            return picture_or_failure(item.image, max_picture_bytes)
        if self.modality == "image" or item[:11].lower() == "data:image/":
            return _addressed(item, max_picture_bytes)
        return item

    def _of_messages(self, messages: Sequence[MessageIn], max_picture_bytes: int) -> Item:
        parts = [part for message in messages for part in message.to_parts()]
        if len(parts) != 1:
            raise InvalidRequest(
                f"messages: expected one text or one picture in all, {len(parts)} were found; this model has no vector of both"
            )
        part = parts[0]
        return part.text if isinstance(part, TextPartIn) else _addressed(part.image_url.url, max_picture_bytes)


def picture_or_failure(image: UriImage | Base64Image, max_bytes: int) -> Picture | ItemFailure:
    """The picture; what is wrong with it is its own failure, and not the request's."""
    try:
        return image.to_picture(max_bytes)
    except InvalidRequest as error:
        return failure_of(error)


def _addressed(address: str, max_bytes: int) -> Picture | ItemFailure:
    try:
        return picture_of_address(address, max_bytes)
    except InvalidRequest as error:
        return failure_of(error)


# --- classification -------------------------------------------------------------------------------------------------


class ClassifyIn(WireModel):
    """Pictures, and the labels to choose among."""

    images: Annotated[tuple[ImageIn, ...], FailFast()] = Field(min_length=1)
    labels: Annotated[tuple[str, ...], FailFast()] = Field(min_length=1, examples=[["boat", "cat", "house"]])
    templates: Annotated[tuple[str, ...], FailFast()] = Field(
        default=("a photo of a {}.",),
        min_length=1,
        max_length=MAX_TEMPLATES,
        description="Sentences around a label, with `{}` in its place; a label's vector is the mean over them.",
    )
    limit: int | None = Field(default=None, ge=1, description="The best labels of each picture; all unless said.")
    model: str | None = Field(default=None, description="Needed by nobody; if given, the model of this service.")

    def to_request(self, max_picture_bytes: int) -> ClassifyRequest:
        return ClassifyRequest(
            pictures=tuple(picture_or_failure(image, max_picture_bytes) for image in self.images),
            labels=self.labels,
            templates=self.templates,
            limit=self.limit,
            model=self.model,
        )


# --- bounds from the configuration ----------------------------------------------------------------------------------


class EncoderModels:
    """The request models with the limits of this service in them, so that the limits hold and stand in openapi.json."""

    embeddings: type[EmbeddingsIn]
    classify: type[ClassifyIn]

    def __init__(self, limits: HttpLimits) -> None:
        bounds = Field(min_length=1, max_length=limits.max_embeddings)
        items = bounded(ItemsIn, root=(Annotated[tuple[ItemIn, ...], FailFast()], bounds))
        self.embeddings = bounded(EmbeddingsIn, input=(_one_or_many(items) | None, EmbeddingsIn.model_fields["input"]))
        pictures = Field(min_length=1, max_length=limits.max_embedded_pictures)
        labels = Field(min_length=1, max_length=limits.max_embeddings, examples=[["boat", "cat", "house"]])
        self.classify = bounded(
            ClassifyIn,
            images=(Annotated[tuple[ImageIn, ...], FailFast()], pictures),
            labels=(Annotated[tuple[str, ...], FailFast()], labels),
        )
