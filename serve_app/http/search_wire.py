"""What a client may ask: a query, and how it is searched. Checked for their shape here, for their sense by the service."""

from typing import Annotated

from pydantic import FailFast, Field, Tag

from serve_app.errors import CrossmodalError
from serve_app.http.filter_wire import FilterIn
from serve_app.http.limits import HttpLimits
from serve_app.http.wire import ImageIn, bounded
from serve_app.http.wire_model import WireModel, exactly_one_of
from serve_app.types import (
    ComposedQuery,
    DocumentQuery,
    Grouping,
    Include,
    Modality,
    PictureQuery,
    Query,
    Ranking,
    RawVectorQuery,
    SearchRequest,
    SimpleQuery,
    TextQuery,
    WeightedQuery,
)

MAX_VECTOR_LENGTH = 16_384
MAX_PARTS = 16
MAX_OFFSET = 1_000_000  # of the shape; what the service allows is less, and it says so

# --- queries --------------------------------------------------------------------------------------------------------


class TextQueryIn(WireModel):
    """What is searched, in words."""

    text: str = Field(examples=["two red boats at night"])

    def to_query(self, max_picture_bytes: int) -> SimpleQuery:  # noqa: ARG002
        return TextQuery(self.text)


class ImageQueryIn(WireModel):
    """What looks or reads like this picture."""

    image: ImageIn

    def to_query(self, max_picture_bytes: int) -> SimpleQuery:
        return PictureQuery(self.image.to_picture(max_picture_bytes))


class DocumentQueryIn(WireModel):
    """More like this document, which is left out of the answer."""

    document_id: str

    def to_query(self, max_picture_bytes: int) -> SimpleQuery:  # noqa: ARG002
        return DocumentQuery(self.document_id)


class VectorQueryIn(WireModel):
    """A vector made by the same encoder; it need not be of unit length."""

    vector: Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], FailFast()] = Field(
        min_length=1, max_length=MAX_VECTOR_LENGTH
    )
    modality: Modality = Field(description="What the vector was made of.")

    def to_query(self, max_picture_bytes: int) -> SimpleQuery:  # noqa: ARG002
        return RawVectorQuery(self.vector, self.modality)


class _Weight(WireModel):
    weight: float = Field(
        default=1.0, allow_inf_nan=False, description="How much it counts beside the others; negative: away from it."
    )


class TextPartIn(TextQueryIn, _Weight):
    """Words, as a part of a query."""


class ImagePartIn(ImageQueryIn, _Weight):
    """A picture, as a part of a query."""


class DocumentPartIn(DocumentQueryIn, _Weight):
    """A document, as a part of a query; it is left out of the answer."""


class VectorPartIn(VectorQueryIn, _Weight):
    """A vector, as a part of a query."""


QueryPartIn = Annotated[
    Annotated[TextPartIn, Tag("<text>")]
    | Annotated[ImagePartIn, Tag("<image>")]
    | Annotated[DocumentPartIn, Tag("<document_id>")]
    | Annotated[VectorPartIn, Tag("<vector>")],
    exactly_one_of("text", "image", "document_id", "vector"),
]


class ComposedQueryIn(WireModel):
    """Several queries at once, as the weighted sum of their vectors."""

    all_of: Annotated[tuple[QueryPartIn, ...], FailFast()] = Field(
        min_length=1,
        max_length=MAX_PARTS,
        description="The parts; not all weights may be 0.",
        examples=[[{"document_id": "boat-1"}, {"text": "at night"}, {"text": "in the rain", "weight": -0.5}]],
    )

    def to_query(self, max_picture_bytes: int) -> Query:
        return ComposedQuery(
            tuple(WeightedQuery(part.to_query(max_picture_bytes), part.weight) for part in self.all_of)
        )


QueryIn = Annotated[
    Annotated[TextQueryIn, Tag("<text>")]
    | Annotated[ImageQueryIn, Tag("<image>")]
    | Annotated[DocumentQueryIn, Tag("<document_id>")]
    | Annotated[VectorQueryIn, Tag("<vector>")]
    | Annotated[ComposedQueryIn, Tag("<all_of>")],
    exactly_one_of("text", "image", "document_id", "vector", "all_of"),
]

# --- searches -------------------------------------------------------------------------------------------------------


class SearchOptionsIn(WireModel):
    """How to search, without what."""

    modalities: Annotated[tuple[Modality, ...], FailFast()] = Field(
        default=tuple(Modality), min_length=1, max_length=16, description="What may be found."
    )
    limit: int = Field(default=10, ge=1, description="Most results.")
    offset: int = Field(
        default=0, ge=0, le=MAX_OFFSET, description="Results to pass over; pages put together are one long page."
    )
    ranking: Ranking | None = Field(
        default=None,
        description="`calibrated` where more than one modality can be returned or `min_confidence` is given, else `cosine`, "
        "unless said. `hybrid`: vectors and the words of the query together.",
    )
    filter: FilterIn | None = Field(
        default=None,
        description="Which documents may be found.",
        examples=[{"field": "price", "lt": 20}],
    )
    min_score: float | None = Field(
        default=None, allow_inf_nan=False, description="Leave out what scores lower, in the unit of the ranking."
    )
    min_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Leave out what is less sure; with 0.9, one unanswerable query in ten finds.",
    )
    diversity: float = Field(
        default=0.0, ge=0, le=1, description="Above 0, results that resemble better ones make room for others."
    )
    group_by: Grouping = Field(
        default=Grouping.VIDEO,
        description="`video`: a video is one result, with its best `moments`; `none`: each of its frames is one.",
    )
    min_table_version: int = Field(
        default=0, ge=0, le=2**62, description="`table_version` of a write that the search has to see."
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
        description="`url`: with each picture an address that a browser can fetch for a short while. `vector`: of each result.",
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
            offset=self.offset,
            min_score=self.min_score,
            min_confidence=self.min_confidence,
            diversity=self.diversity,
            group_by=self.group_by,
            include=self.include,
        )


class SearchIn(SearchOptionsIn):
    """A search."""

    query: QueryIn

    def parsed(self, max_picture_bytes: int) -> SearchRequest | CrossmodalError:
        """The search, or what is wrong with its picture or filter."""
        try:
            return self.to_request(self.query.to_query(max_picture_bytes))
        except CrossmodalError as error:
            return error


class SearchesIn(WireModel):
    """Several searches; each is answered, or refused, by itself."""

    searches: tuple[SearchIn, ...] = Field(min_length=1)


class SearchModels:
    """The models with the limits of this service in them, so that the limits hold and stand in openapi.json."""

    search: type[SearchIn]
    options: type[SearchOptionsIn]
    batch: type[SearchesIn]

    def __init__(self, limits: HttpLimits) -> None:
        limit = Field(default=min(10, limits.max_limit), ge=1, le=limits.max_limit, description="Most results.")
        self.search = bounded(SearchIn, limit=(int, limit))
        self.options = bounded(SearchOptionsIn, limit=(int, limit))
        searches = Field(min_length=1, max_length=limits.max_searches)
        self.batch = bounded(SearchesIn, searches=(Annotated[tuple[self.search, ...], FailFast()], searches))  # type: ignore[name-defined]
