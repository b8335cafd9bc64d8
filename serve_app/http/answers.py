"""What a client receives: domain types become pydantic models, whose schemas stand in openapi.json. Knows no request."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from serve_app.core.videos import video_of
from serve_app.errors import CrossmodalError
from serve_app.types import (
    DeletedRows,
    DeleteOutcome,
    Document,
    DocumentPage,
    EncoderCard,
    FieldType,
    Hit,
    IndexKind,
    IndexState,
    Modality,
    Moment,
    Ranking,
    Reach,
    Readiness,
    SearchAnswer,
    TableInfo,
    UpsertOutcome,
    UpsertStatus,
)

THUMBNAIL_PX = 256
URL_DESCRIPTION = (
    "With `include: url`: where the picture lies, signed where it has to be; good for a short while. Null for a text, and where "
    "the storage cannot sign (a local folder)."
)


VIDEO_ID_DESCRIPTION = (
    "Of a video's frame: the video, which can be asked for and deleted by it. Null for anything else."
)
OFFSET_DESCRIPTION = "Of a video's frame: when it is shown, in seconds from the beginning."


class AnswerModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def json_of(model: BaseModel, status: int = 200) -> Response:
    """The model as a JSON answer."""
    return Response(model.model_dump_json(), status_code=status, media_type="application/json")


# --- errors ---------------------------------------------------------------------------------------------------------


class ErrorDetail(AnswerModel):
    code: str = Field(description="Stable; never changes.", examples=["invalid_request"])
    message: str = Field(description="One sentence for a human.")
    request_id: str = Field(description="Names the request in the service's log.")


class ErrorOut(AnswerModel):
    """Every error, of every operation."""

    error: ErrorDetail


class ItemErrorDetail(AnswerModel):
    code: str
    message: str


FieldOut = str | int | float | bool | datetime | tuple[str, ...] | tuple[int, ...]
Fields = Annotated[dict[str, FieldOut], Field(description="The declared fields that it has.")]


# --- documents ------------------------------------------------------------------------------------------------------


class StoredItem(AnswerModel):
    id: str
    status: UpsertStatus = Field(
        description="`unchanged`: this very content was there already, and nothing was encoded."
    )
    truncated: bool = Field(
        description="The text was longer than the encoder reads; what it left out is not searchable."
    )
    frames: int | None = Field(description="Of a video: how many documents it became. Null for anything else.")


class FailedItem(AnswerModel):
    error: ItemErrorDetail


class UpsertOut(AnswerModel):
    """What became of each document, in the order of the request."""

    items: tuple[StoredItem | FailedItem, ...]
    table_version: int | None = Field(
        description="The table's first version that has all of them; null if none was stored."
    )


class DocumentOut(AnswerModel):
    """A document as it is stored."""

    id: str
    modality: Modality
    uri: str | None = Field(description="Where the picture or the video lies; null for a text.")
    text: str | None
    metadata: dict[str, Any]
    fields: Fields
    content_sha256: str
    video_id: str | None = Field(description=VIDEO_ID_DESCRIPTION)
    offset_s: float | None = Field(description=OFFSET_DESCRIPTION)
    created_at: datetime
    updated_at: datetime
    content_url: str | None = Field(
        description="Path of the picture; of a frame that of the video, with `#t=` and the second. Null for a text."
    )
    thumbnail_url: str | None = Field(description="Path of a small JPEG of it; null for a text.")
    url: str | None = Field(description=URL_DESCRIPTION)


class DocumentsOut(AnswerModel):
    """Documents in the order of their ids."""

    documents: tuple[DocumentOut, ...]
    next_after: str | None = Field(description="Ask with this as `after` for the next ones; null at the end.")


class DeletionOut(AnswerModel):
    """What was removed."""

    deleted: int = Field(description="How many documents.")
    table_version: int


class DeletedOut(AnswerModel):
    id: str
    deleted: bool
    table_version: int


# --- search ---------------------------------------------------------------------------------------------------------


class MomentOut(AnswerModel):
    """A frame of a video that was found."""

    id: str
    offset_s: float
    score: float
    confidence: float | None
    content_url: str
    thumbnail_url: str


class ResultOut(AnswerModel):
    """A document that was found; of a video, unless `group_by` is `none`, the one that stands for its best moments."""

    id: str
    modality: Modality
    score: float = Field(
        description="Higher is better. `calibrated`: standard deviations above the mean of unrelated pairs; `cosine`: the "
        "cosine; `hybrid`: a sum of reciprocal ranks."
    )
    confidence: float | None = Field(
        description="0 to 1: the chance that, were nothing in the table related to the query, all of it would score lower. "
        "Null where the table holds no documents of the query's kind to know that from."
    )
    text: str | None
    uri: str | None
    metadata: dict[str, Any]
    fields: Fields
    video_id: str | None = Field(description=VIDEO_ID_DESCRIPTION)
    offset_s: float | None = Field(description=OFFSET_DESCRIPTION)
    moments: tuple[MomentOut, ...] = Field(
        description="Of a video that stands for its frames: the moments that fit best, this one first."
    )
    content_url: str | None
    thumbnail_url: str | None
    url: str | None = Field(description=URL_DESCRIPTION)
    vector: tuple[float, ...] | None = Field(description="Of unit length; null unless asked for with `include`.")


class TookMs(AnswerModel):
    """Durations in milliseconds."""

    encode: float
    retrieve: float
    total: float


class SearchOut(AnswerModel):
    """What was found, best first."""

    results: tuple[ResultOut, ...]
    ranking: Ranking
    calibration_version: int | None
    table_version: int
    truncated: bool = Field(description="The query's text was longer than the encoder reads.")
    took_ms: TookMs


class SearchesOut(AnswerModel):
    """What was found by each search, in the order of the request. Encoding and retrieving took as long for all together."""

    answers: tuple[SearchOut | FailedItem, ...]


# --- the service ----------------------------------------------------------------------------------------------------


class ReadingOut(AnswerModel):
    """One way to read the vector index."""

    nprobes: int = Field(description="Lists that are read at least.")
    compared: int = Field(description="Candidates that are compared on raw vectors, at least.")


class IndexOut(AnswerModel):
    """How the table is searched, and what was measured."""

    kind: IndexKind
    reason: str
    recall: float = Field(
        description="Of the ten nearest documents against exact search, of the worst pair of modalities."
    )
    search_ms: float = Field(description="The median of one search of one modality, when it was measured.")
    exact_ms: float = Field(description="The same by reading every vector.")
    rows: int = Field(description="Documents when it was measured.")
    measured_at: datetime
    unindexed_rows: int = Field(description="Documents that are not in the index yet; they are searched exactly.")
    partitions: int
    readings: dict[Reach, ReadingOut] | None = Field(
        description="How the index is asked: by a calibrated search without a filter, under one, under one that few documents "
        "match, and by a plain search. Null for exact search."
    )
    build_s: float


class TableOut(AnswerModel):
    """The state of the table."""

    version: int
    total: int
    counts: dict[Modality, int] = Field(description="Documents of each modality.")
    fingerprint: str | None = Field(description="Of the encoder that the table belongs to.")
    model: str | None
    dimension: int | None
    calibration_version: int
    fields: dict[str, FieldType] = Field(description="The declared fields, by which documents can be filtered.")
    index: IndexOut | None = Field(description="None until it was decided; the table is then searched exactly.")


class PreprocessingOut(AnswerModel):
    """How the model wants its pictures."""

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    resize_mode: str
    fill_color: int


class ModelOut(AnswerModel):
    """The encoder. Vectors of encoders with the same fingerprint can be compared; no others can."""

    id: str
    object: Literal["model"] = "model"
    pretrained: str
    fingerprint: str
    dimension: int
    context_length: int = Field(description="Tokens of a text that the encoder reads.")
    preprocessing: PreprocessingOut
    device: str
    precision: str


class ModelsOut(AnswerModel):
    object: Literal["list"] = "list"
    data: tuple[ModelOut, ...]


class HealthOut(AnswerModel):
    status: Literal["ok"] = "ok"


class ReadyOut(AnswerModel):
    """Every part answers, and they belong together."""

    ready: Literal[True] = True
    model: ModelOut | None
    table: TableOut | None


# --- from the domain ------------------------------------------------------------------------------------------------


class Addresses:
    """Paths of a document's picture, under the prefix where the application is mounted."""

    def __init__(self, root_path: str) -> None:
        self._documents = f"{quote(root_path.rstrip('/'))}/v1/documents"

    def content(self, document: Document) -> str | None:
        return self._of(document, _content_tail(document, document.offset_s))

    def thumbnail(self, document: Document) -> str | None:
        return self._of(document, f"thumbnail?size={THUMBNAIL_PX}&v={version_of(document)}")

    def moment_content(self, document: Document, moment: Moment) -> str:
        """The video from another moment on; `document` is a frame of it."""
        return self._path(moment.id, _content_tail(document, moment.offset_s))

    def moment_thumbnail(self, document: Document, moment: Moment) -> str:
        return self._path(moment.id, f"thumbnail?size={THUMBNAIL_PX}&v={version_of(document)}")

    def _of(self, document: Document, tail: str) -> str | None:
        return None if document.uri is None else self._path(document.id, tail)

    def _path(self, document_id: str, tail: str) -> str:
        return f"{self._documents}/{quote(document_id, safe='')}/{tail}"


def _content_tail(document: Document, offset_s: float | None) -> str:
    moment = "" if offset_s is None else f"#t={offset_s:.3f}"
    return f"content?v={version_of(document)}{moment}"


def version_of(document: Document) -> str:
    """Stands in the addresses of a picture, so that what an address shows never changes and may be cached for good."""
    return document.content_sha256[:16]


def upsert_out(items: Sequence[UpsertOutcome | CrossmodalError]) -> UpsertOut:
    versions = [item.table_version for item in items if isinstance(item, UpsertOutcome)]
    return UpsertOut(items=tuple(map(_item_out, items)), table_version=max(versions, default=None))


def _item_out(item: UpsertOutcome | CrossmodalError) -> StoredItem | FailedItem:
    if isinstance(item, CrossmodalError):
        return FailedItem(error=ItemErrorDetail(code=item.code, message=item.message))
    return StoredItem(id=item.id, status=item.status, truncated=item.truncated, frames=item.frames)


def document_out(document: Document, addresses: Addresses, url: str | None = None) -> DocumentOut:
    return DocumentOut(
        id=document.id,
        modality=document.modality,
        uri=document.uri,
        text=document.text,
        metadata=dict(document.metadata),
        fields=dict(document.fields),
        content_sha256=document.content_sha256,
        video_id=video_of(document.id, document.modality),
        offset_s=document.offset_s,
        created_at=document.created_at,
        updated_at=document.updated_at,
        content_url=addresses.content(document),
        thumbnail_url=addresses.thumbnail(document),
        url=url,
    )


def documents_out(page: DocumentPage, addresses: Addresses) -> DocumentsOut:
    documents = tuple(document_out(each, addresses) for each in page.documents)
    return DocumentsOut(documents=documents, next_after=page.next_after)


def deletion_out(deleted: DeletedRows) -> DeletionOut:
    return DeletionOut(deleted=deleted.count, table_version=deleted.table_version)


def deleted_out(outcome: DeleteOutcome) -> DeletedOut:
    return DeletedOut(id=outcome.id, deleted=outcome.deleted, table_version=outcome.table_version)


def search_out(answer: SearchAnswer, addresses: Addresses, total_ms: float) -> SearchOut:
    page = answer.page
    took = TookMs(encode=round(answer.encode_ms, 2), retrieve=round(answer.retrieve_ms, 2), total=round(total_ms, 2))
    return SearchOut(
        results=tuple(_result_out(hit, addresses, answer.urls) for hit in page.hits),
        ranking=page.ranking,
        calibration_version=page.calibration_version,
        table_version=page.table_version,
        truncated=answer.truncated,
        took_ms=took,
    )


def _result_out(hit: Hit, addresses: Addresses, urls: Mapping[str, str]) -> ResultOut:
    document = hit.document
    return ResultOut(
        id=document.id,
        modality=document.modality,
        score=hit.score,
        confidence=hit.confidence,
        text=document.text,
        uri=document.uri,
        metadata=dict(document.metadata),
        fields=dict(document.fields),
        video_id=video_of(document.id, document.modality),
        offset_s=document.offset_s,
        moments=tuple(_moment_out(document, moment, addresses) for moment in hit.moments),
        content_url=addresses.content(document),
        thumbnail_url=addresses.thumbnail(document),
        url=urls.get(document.uri or ""),
        vector=None if hit.vector is None else tuple(hit.vector.tolist()),
    )


def _moment_out(document: Document, moment: Moment, addresses: Addresses) -> MomentOut:
    return MomentOut(
        id=moment.id,
        offset_s=moment.offset_s,
        score=moment.score,
        confidence=moment.confidence,
        content_url=addresses.moment_content(document, moment),
        thumbnail_url=addresses.moment_thumbnail(document, moment),
    )


def searches_out(
    answers: Sequence[SearchAnswer | CrossmodalError], addresses: Addresses, total_ms: float
) -> SearchesOut:
    return SearchesOut(
        answers=tuple(
            FailedItem(error=ItemErrorDetail(code=each.code, message=each.message))
            if isinstance(each, CrossmodalError)
            else search_out(each, addresses, total_ms)
            for each in answers
        )
    )


def table_out(info: TableInfo) -> TableOut:
    """The table's own address stays inside: it may name a path or a bucket of the operator's."""
    return TableOut(
        version=info.version,
        total=sum(info.counts.values()),
        counts=dict(info.counts),
        fingerprint=info.fingerprint,
        model=info.model,
        dimension=info.dimension,
        calibration_version=info.calibration_version,
        fields=dict(info.fields),
        index=None if info.index is None else index_out(info.index),
    )


def index_out(state: IndexState) -> IndexOut:
    return IndexOut(
        kind=state.kind,
        reason=state.reason,
        recall=state.recall,
        search_ms=state.search_ms,
        exact_ms=state.exact_ms,
        rows=state.rows,
        measured_at=state.measured_at,
        unindexed_rows=state.unindexed_rows,
        partitions=state.partitions,
        readings=None
        if state.readings is None
        else {
            reach: ReadingOut(nprobes=reading.nprobes, compared=reading.compared)
            for reach, reading in state.readings.items()
        },
        build_s=state.build_s,
    )


def model_out(card: EncoderCard) -> ModelOut:
    shape = card.preprocessing
    return ModelOut(
        id=card.model,
        pretrained=card.pretrained,
        fingerprint=card.fingerprint,
        dimension=card.dimension,
        context_length=card.context_length,
        preprocessing=PreprocessingOut(**{name: getattr(shape, name) for name in PreprocessingOut.model_fields}),
        device=card.device,
        precision=card.precision,
    )


def ready_out(readiness: Readiness) -> ReadyOut:
    model = None if readiness.encoder is None else model_out(readiness.encoder)
    table = None if readiness.table is None else table_out(readiness.table)
    return ReadyOut(model=model, table=table)
