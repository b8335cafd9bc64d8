"""The values that travel through the system. Frozen, picklable, without behaviour beyond their own fields.

Between deployments nothing else travels: no PIL image, no tensor, no torch type.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatVector: TypeAlias = npt.NDArray[np.float32]
"""Shape [dimension]; finite, of unit length unless said otherwise."""
FloatMatrix: TypeAlias = npt.NDArray[np.float32]
"""Shape [n, dimension]; rows finite, of unit length unless said otherwise."""
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Shape [height, width, 3], RGB, exactly the size that the encoder takes; not normalised."""


class Modality(StrEnum):
    """What a document is made of, and what a query is asked with."""

    TEXT = "text"
    IMAGE = "image"
    IMAGE_TEXT = "image_text"
    VIDEO_FRAME = "video_frame"


class Ranking(StrEnum):
    """How candidates of several modalities are put in one order."""

    CALIBRATED = "calibrated"
    COSINE = "cosine"
    HYBRID = "hybrid"


class Grouping(StrEnum):
    """What is one result: a video, however many of its frames are found, or every frame by itself."""

    VIDEO = "video"
    NONE = "none"


class UpsertStatus(StrEnum):
    STORED = "stored"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """One item of a list could not be done; `code` is that of serve_app.errors, `message` is for the user."""

    code: str
    message: str


# --- encoders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImagePreprocessing:
    """How a model wants its pictures. Sizes in pixels, mean and std per RGB channel of values in 0..1."""

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str  # "bicubic" | "bilinear" | "nearest"
    resize_mode: str  # "shortest" (then centre crop) | "longest" (then pad) | "squash"
    fill_color: int  # grey value 0..255 of the padding


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """Which encoder this is. Two encoders with the same fingerprint give comparable vectors."""

    model: str
    pretrained: str
    fingerprint: str  # SHA-256 over architecture, weights, preprocessing and tokeniser; hex
    dimension: int
    context_length: int  # tokens
    preprocessing: ImagePreprocessing
    device: str
    precision: str
    logit_scale: float  # what the model multiplies cosines with, already exponentiated
    logit_bias: float | None = None  # added after that by models trained with a sigmoid (SigLIP); None: softmax


@dataclass(frozen=True, slots=True)
class Embedding:
    """A unit vector and the encoder that made it. `truncated`: the text was longer than the encoder reads."""

    vector: FloatVector
    fingerprint: str
    truncated: bool = False
    tokens: int = 0  # that the encoder read of a text, its begin and end among them; 0 for a picture


# --- pictures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InlinePicture:
    """A picture that came with the request, as the bytes of its file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PictureUri:
    """A picture that lies somewhere else: file://, s3://, gs://, az://, https://."""

    uri: str


Picture: TypeAlias = InlinePicture | PictureUri


@dataclass(frozen=True, slots=True)
class PictureTask:
    """A picture to embed. `keep`: put inline bytes into the object store, before anything points to them."""

    picture: Picture
    keep: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddedPicture:
    """What became of a PictureTask. `uri` is None for an inline picture that was not kept."""

    content_sha256: str
    uri: str | None
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class PictureContent:
    """The bytes of a picture file, or, for object storage that can sign, an address to fetch them from."""

    media_type: str
    data: bytes | None = None
    url: str | None = None


# --- videos ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FramePolicy:
    """Which frames of a video become documents: one every so many seconds, or, where None, one of each scene."""

    every_s: float | None = 2.0


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A decoded frame, upright, with square pixels, RGB. `offset_s`: when it is shown, from the beginning."""

    offset_s: float
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class VideoUri:
    """A video that lies somewhere, and which of its frames are wanted."""

    uri: str
    policy: FramePolicy = FramePolicy()


@dataclass(frozen=True, slots=True)
class EmbeddedFrame:
    """A frame as a picture that is kept. `thumbnail_uri`: of its JPEG, which the embedding was made of."""

    offset_s: float
    thumbnail_uri: str
    embedding: Embedding


@dataclass(frozen=True, slots=True)
class EmbeddedVideo:
    """What became of a video. `content_sha256`: what each of its frames is stored with (core.videos.video_content)."""

    content_sha256: str
    frames: tuple[EmbeddedFrame, ...]


@dataclass(frozen=True, slots=True)
class FilePart:
    """Some bytes of a file, from `start` on; `total` are all that it has."""

    data: bytes
    start: int
    total: int


# --- declared fields --------------------------------------------------------------------------------------------------


class FieldType(StrEnum):
    """What a declared field holds. `strings` and `integers` are lists."""

    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    STRINGS = "strings"
    INTEGERS = "integers"


class FieldIndex(StrEnum):
    """The index of a declared field: ordered, by distinct value, by element of a list, or none."""

    BTREE = "btree"
    BITMAP = "bitmap"
    LABEL_LIST = "label_list"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    type: FieldType
    index: FieldIndex


@dataclass(frozen=True, slots=True)
class TextIndexSpec:
    """How texts are cut into words. `tokenizer`: simple, whitespace, icu or ngram. `language`: of stemming, None for none."""

    tokenizer: str = "simple"
    language: str | None = None
    stop_words: bool = False  # whether those of the language are left out
    fold_accents: bool = True


FieldValue: TypeAlias = str | int | float | bool | datetime | tuple[str, ...] | tuple[int, ...]
"""The value of a declared field; a timestamp is aware, in UTC. A document without the field does not name it."""


# --- documents ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DocumentInput:
    """What a user asks to store. At least one of text and picture; both make one image_text document.

    Or a video, each of whose frames becomes a document with the text, the metadata and the fields given.
    """

    text: str | None = None
    picture: Picture | None = None
    video: VideoUri | None = None
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(
        default_factory=dict
    )  # as given; core.fields checks them against the declared ones


@dataclass(frozen=True, slots=True)
class Document:
    """A row of the table without its vector."""

    id: str
    modality: Modality
    uri: str | None
    text: str | None
    content_sha256: str
    metadata: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    offset_s: float | None = None  # of a video's frame: when it is shown, from the beginning; its `uri` is the video's
    thumbnail_uri: str | None = None  # of a video's frame: the kept JPEG of it, which its vector was made of


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A row of the table with its vector and the fingerprint of the encoder that made it."""

    document: Document
    vector: FloatVector
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Record:
    """A row to write. The Indexer sets the timestamps, and keeps `created_at` of a row that is already there.

    `created_at`, `updated_at`: of a row that comes from another table of ours, and keeps its times.
    """

    id: str
    modality: Modality
    uri: str | None
    text: str | None
    content_sha256: str
    metadata: Mapping[str, Any]
    vector: FloatVector
    fingerprint: str
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    offset_s: float | None = None
    thumbnail_uri: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UpsertOutcome:
    """`table_version` is the first version of the table in which the document stands as given. `frames`: of a video."""

    id: str
    status: UpsertStatus
    table_version: int
    truncated: bool = False
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class DeletedRows:
    """How many documents a filter removed, and the first version of the table without them."""

    count: int
    table_version: int


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    """`deleted` is False where there was no such document."""

    id: str
    deleted: bool
    table_version: int


# --- filters --------------------------------------------------------------------------------------------------------


class Operator(StrEnum):
    """How a field is compared. `in`: one of the values; `any` and `all`: of the elements of a list."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    IN = "in"
    ANY = "any"
    ALL = "all"
    EXISTS = "exists"
    PREFIX = "prefix"


@dataclass(frozen=True, slots=True)
class Compare:
    """One field against a value: as the user gave it, or, once checked by core.filters, of the field's type.

    A document without the field matches no comparison, `ne` included; `exists: false` finds it.
    """

    field: str
    op: Operator
    value: str | int | float | bool | datetime | tuple[str | int | float | bool | datetime, ...]


@dataclass(frozen=True, slots=True)
class And:
    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Every document that `filter` does not match, those without its field included."""

    filter: "Filter"


Filter: TypeAlias = Compare | And | Or | Not


# --- search ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextQuery:
    text: str


@dataclass(frozen=True, slots=True)
class PictureQuery:
    picture: Picture


@dataclass(frozen=True, slots=True)
class DocumentQuery:
    """More like this document; the document itself is left out of the answer."""

    document_id: str


@dataclass(frozen=True, slots=True)
class RawVectorQuery:
    """A vector of the user's own making, by the same encoder, of any length. `modality`: what it was made of."""

    vector: tuple[float, ...]
    modality: Modality


SimpleQuery: TypeAlias = TextQuery | PictureQuery | DocumentQuery | RawVectorQuery


@dataclass(frozen=True, slots=True)
class WeightedQuery:
    """A part of a composed query. A negative weight leads away from it."""

    query: SimpleQuery
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ComposedQuery:
    """Several queries at once: the weighted sum of their vectors. Documents among them are left out of the answer."""

    parts: tuple[WeightedQuery, ...]


Query: TypeAlias = SimpleQuery | ComposedQuery


class Include(StrEnum):
    """What costs extra, and comes with a document only where it is asked for."""

    URL = "url"  # a signed address of the picture, good for a short while
    VECTOR = "vector"


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """`ranking` None: calibrated where more than one modality can be returned, or a confidence is asked for; else cosine."""

    query: Query
    limit: int = 10
    modalities: tuple[Modality, ...] = tuple(Modality)
    ranking: Ranking | None = None
    min_table_version: int = 0  # that of a write which the search has to see
    as_of: str | None = None  # the name of a snapshot, or an ISO 8601 time: search what the table held then
    where: Filter | None = None
    include: tuple[Include, ...] = ()
    offset: int = 0  # results to pass over
    min_score: float | None = None
    min_confidence: float | None = None  # 0 to 1
    diversity: float = 0.0  # 0: the best as they come; 1: the most different ones
    group_by: Grouping = Grouping.VIDEO


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """What the Retriever is asked: a unit vector, what it was made of, and what may come back.

    `made_of`: of the raw vectors of which modalities this one is a sum, with what weights, in units of the sum's length; a
    plain query is ((its modality, 1.0),). `words`: the query's own, for the ranking `hybrid`.
    """

    vector: FloatVector
    fingerprint: str
    made_of: tuple[tuple[Modality, float], ...]
    modalities: tuple[Modality, ...]
    limit: int
    ranking: Ranking | None = None
    exclude_ids: tuple[str, ...] = ()
    where: Filter | None = None  # checked against the declared fields
    min_table_version: int = 0
    as_of: str | None = None
    offset: int = 0
    min_score: float | None = None
    min_confidence: float | None = None
    diversity: float = 0.0
    words: str | None = None
    vectors: bool = False
    group_by: Grouping = Grouping.VIDEO


@dataclass(frozen=True, slots=True)
class TextMatch:
    """A row that holds words of a query. `score`: BM25, higher is better, comparable within one answer only."""

    row: StoredDocument
    score: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame of a video that was found, by the id of its document."""

    id: str
    offset_s: float
    score: float
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A result. `score`: higher is better; its unit is that of the ranking (core.ranking).

    `confidence`: how likely it is that none of the rows searched would score as high if nothing among them had to do with
    the query; None where the table has too little to tell. `vector`: the raw one, where asked for. `moments`: where a frame
    stands for its video, the best of its frames, this one first.
    """

    document: Document
    score: float
    confidence: float | None
    vector: FloatVector | None = None
    moments: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchPage:
    hits: tuple[Hit, ...]
    ranking: Ranking
    table_version: int
    calibration_version: int | None


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """A page and what happened to the query on its way. Durations in milliseconds.

    `urls`: by a picture's URI an address that a browser can fetch for a short while; empty where nobody asked for them.
    """

    page: SearchPage
    truncated: bool
    encode_ms: float
    retrieve_ms: float
    urls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """Documents in the order of their ids. `next_after`: the id to go on from, None at the end."""

    documents: tuple[Document, ...]
    next_after: str | None


# --- classification -------------------------------------------------------------------------------------------------


class Activation(StrEnum):
    """How similarities become probabilities: over all labels (CLIP), or for each label by itself (SigLIP)."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """`templates` have `{}` where the label goes. `limit`: the best labels of each picture, all if None.

    A picture that was found wrong while the request was read is its failure.
    """

    pictures: tuple[Picture | ItemFailure, ...]
    labels: tuple[str, ...]
    templates: tuple[str, ...]
    limit: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class LabelProbability:
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class ClassifiedPicture:
    """The labels of a picture, best first."""

    labels: tuple[LabelProbability, ...]


@dataclass(frozen=True, slots=True)
class ClassifyAnswer:
    """What each picture is. `truncated_labels`: those of which a prompt was longer than the encoder reads."""

    pictures: tuple[ClassifiedPicture | ItemFailure, ...]
    activation: Activation
    model: str
    truncated_labels: tuple[str, ...]


# --- the table and its state ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PairScores:
    """Mean and standard deviation of the centred cosines of unrelated pairs (query modality, document modality)."""

    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The mean vector of each modality (not of unit length) and the spread of unrelated pairs; see core.ranking."""

    version: int  # counts up with each estimate; 0 is the empty calibration
    row_counts: Mapping[Modality, int]  # rows of each modality when it was estimated
    means: Mapping[Modality, FloatVector]
    pair_scores: Mapping[tuple[Modality, Modality], PairScores]


class VectorType(StrEnum):
    """The numbers that a table keeps its vectors in. Everywhere else they are float32."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class IndexKind(StrEnum):
    """How nearest rows are found: by reading every vector, or by quantised ones in inverted lists: a byte or a bit a number."""

    EXACT = "exact"
    IVF_SQ = "ivf_sq"
    IVF_RQ = "ivf_rq"


class Reach(StrEnum):
    """How far from where a search looks first the rows that it wants may lie, in the lists of an index."""

    AIMED = "aimed"  # the query points to where the modality lies
    FILTERED = "filtered"  # aimed, and a filter leaves a part of the rows
    SPARSE = "sparse"  # aimed, and a filter leaves few rows
    PLAIN = "plain"  # the query as it is, which may lie far from every row of the modality


@dataclass(frozen=True, slots=True)
class IndexReading:
    """One way to read an index: the lists that are read at least, and the candidates that are compared on raw vectors."""

    nprobes: int
    compared: int


@dataclass(frozen=True, slots=True)
class IndexState:
    """How the table is searched, why, and what was measured; every reader of the table asks its index by these figures.

    `recall`: of the ten nearest rows against exact search, of the worst pair of query and document modality.
    `search_ms`, `exact_ms`: the median of one aimed search, and of exact search. Both include the modality filter.
    """

    kind: IndexKind
    reason: str  # one sentence for the operator
    rows: int  # of the table when it was measured
    measured_at: datetime
    recall: float
    search_ms: float
    exact_ms: float
    partitions: int = 0  # lists of the index
    readings: Mapping[Reach, IndexReading] | None = None  # how the index is asked, as measured; None for exact search
    built_rows: int = 0  # of the table when an index was last made, even if exact search was better
    build_s: float = 0.0
    unindexed_rows: int = 0  # at present: written since the index was last brought up to date, and searched exactly


@dataclass(frozen=True, slots=True)
class Orphans:
    """Kept pictures that no document points to, and what was removed of them, in one part of the store.

    `next_after`: what to ask for the next part with, None after the last.
    """

    pictures: int
    bytes: int
    removed: int
    removed_bytes: int
    next_after: str | None = None


@dataclass(frozen=True, slots=True)
class Optimized:
    """Whether upkeep that was asked for is done, or still under way, and the table's version now."""

    done: bool
    table_version: int


@dataclass(frozen=True, slots=True)
class TableHead:
    """What a writer has to know before a commit; cheap to read. Version 0 and no fingerprint without a table."""

    version: int
    fingerprint: str | None
    dimension: int | None


@dataclass(frozen=True, slots=True)
class TableInfo:
    """The state of the table; `version` 0 and no fingerprint while it does not exist.

    `index` is None until it was first decided how the table is searched; it is then searched exactly.
    """

    uri: str
    version: int  # grows with every commit, and on through a change of tables
    counts: Mapping[Modality, int]
    fingerprint: str | None
    model: str | None  # "name (pretrained)" of the encoder that the table belongs to
    dimension: int | None
    calibration_version: int
    fields: Mapping[str, FieldType] = field(default_factory=dict)  # the declared ones that it has
    index: IndexState | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of the table that has a name and stays. `table_version` is its version, in the numbers of today."""

    name: str
    table: str
    table_version: int
    created_at: datetime
    documents: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A table in service, or beside it. `since`: when it was last taken into service; None: never."""

    name: str
    in_service: bool
    since: datetime | None
    documents: int
    fingerprint: str
    model: str


# --- jobs -------------------------------------------------------------------------------------------------------------


class JobStatus(StrEnum):
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    LOST = "lost"  # its driver has said nothing for long: it was killed, and may be started again


@dataclass(frozen=True, slots=True)
class StageFigures:
    """What a stage of a job has done. `busy_s`: seconds of work, summed over its workers."""

    items: int = 0
    bytes: int = 0
    busy_s: float = 0.0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job stands. Counts are over all attempts, times and stages are those of the last one.

    `stored`, `unchanged`, `failed`: what became of the items so far. `skipped`: those that earlier attempts had done.
    `repeated`: items that were encoded though they were encoded before, by an attempt or a worker that was lost.
    """

    id: str
    kind: str  # "ingest", ...
    table: str
    status: JobStatus
    attempt: int
    started_at: datetime
    updated_at: datetime
    message: str = ""  # why it failed
    stored: int = 0
    unchanged: int = 0
    failed: int = 0
    skipped: int = 0
    encoded: int = 0
    repeated: int = 0
    bytes: int = 0
    startup_s: float = 0.0  # until the first item was encoded
    running_s: float = 0.0  # since then, until the last commit
    upkeep_s: float = 0.0  # indexes and calibration, after the last commit
    stages: Mapping[str, StageFigures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that a job could not store. `key`: of the item in its source."""

    key: str
    uri: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether every part answers and belongs together; if not, `failure` has a code and one sentence for the operator."""

    failure: ItemFailure | None
    encoder: EncoderCard | None
    table: TableInfo | None

    @property
    def ready(self) -> bool:
        return self.failure is None
