"""What goes into the client and what comes out of it, as frozen values. Knows nothing of HTTP.

Answers are read by name: a key that this version does not know is left aside, so that a newer service can say more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from serve_app.errors import CrossmodalError, InternalError

ImageSource: TypeAlias = Path | bytes | str
"""A file of this machine, the bytes of a picture file, or a URI that the service can read."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class NewVideo:
    """A video to add, where the service can read it. A frame is taken every `every_s` seconds, or of each scene."""

    uri: str
    every_s: float | None = None
    scenes: bool = False


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to add: a text, a picture, or both fused to one. Without an id it gets one from its content.

    Or a `video`, of which each frame that is taken becomes a document. `fields`: values of the fields that the service
    declares; times as datetime or in ISO 8601.
    """

    text: str | None = None
    image: ImageSource | None = None
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    video: NewVideo | None = None

    @property
    def label(self) -> str:
        """What a person calls this document: its id, its file, its address or the beginning of its text."""
        if self.id is not None:
            return self.id
        if self.video is not None:
            return self.video.uri
        if isinstance(self.image, bytes):
            return f"a picture of {len(self.image):,} bytes"
        return str(self.image) if self.image is not None else repr((self.text or "")[:60])


@dataclass(frozen=True, slots=True)
class Added:
    """What became of the `index`-th document given. Either `status` (stored, unchanged) or `error` is set.

    `frames`: of a video, how many documents it became.
    """

    index: int
    document: NewDocument
    id: str | None = None
    status: str | None = None
    truncated: bool = False
    table_version: int | None = None
    error: CrossmodalError | None = None
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame of a video that was found. `content_url` is a path of the video that begins there."""

    id: str
    offset_s: float
    score: float
    confidence: float | None = None
    content_url: str | None = None
    thumbnail_url: str | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One result. `score`: higher is better. `confidence`: 0 to 1, None where the service cannot know.

    `content_url` and `thumbnail_url` are paths of the service; `url`, a whole address, and `vector` are there where asked for.
    Of a frame of a video `video_id` and `offset_s` say of which and when, and `moments` has the video's best ones.
    """

    id: str
    modality: str
    score: float
    confidence: float | None = None
    text: str | None = None
    uri: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    content_url: str | None = None
    thumbnail_url: str | None = None
    url: str | None = None
    vector: Sequence[float] | None = None
    video_id: str | None = None
    offset_s: float | None = None
    moments: Sequence[Moment] = ()


@dataclass(frozen=True, slots=True)
class SearchResults:
    """Results, best first, and how they were found. `took_ms`: milliseconds by step."""

    results: tuple[SearchResult, ...]
    ranking: str
    table_version: int
    calibration_version: int | None = None
    truncated: bool = False
    took_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as the service keeps it, without its vector. Times, those of fields too, are ISO 8601, UTC."""

    id: str
    modality: str
    uri: str | None = None
    text: str | None = None
    content_sha256: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    created_at: str | None = None
    updated_at: str | None = None
    content_url: str | None = None
    thumbnail_url: str | None = None
    url: str | None = None
    video_id: str | None = None
    offset_s: float | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """How many documents were removed, and the first version of the table without them."""

    deleted: int
    table_version: int


@dataclass(frozen=True, slots=True)
class Orphans:
    """Kept pictures that no document points to, and how many of them were removed."""

    pictures: int
    bytes: int
    removed: int
    removed_bytes: int


@dataclass(frozen=True, slots=True)
class Table:
    """The state of the table; version 0 and no fingerprint while nothing was ever stored."""

    version: int
    counts: Mapping[str, int]
    fingerprint: str | None = None
    model: str | None = None
    dimension: int | None = None
    calibration_version: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    index: Mapping[str, Any] | None = None  # how the table is searched, why, and what was measured


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of the table that stays; `Client.search(as_of=name)` searches it."""

    name: str
    created_at: str
    documents: int
    table_version: int
    table: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A table in service or beside it. `since`: when it was last taken into service, None for never."""

    name: str
    in_service: bool
    documents: int
    fingerprint: str
    model: str
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """How a job stands: counts over all attempts, times and stages of the last one. `status`: running, finished, failed, lost.

    `stages`: by name `items`, `items_per_s`, `busy_share` and more. `failures`: with `Client.job` alone, the first hundred
    items that could not be stored, each with `key`, `uri`, `code` and `message`.
    """

    id: str
    kind: str
    table: str
    status: str
    attempt: int
    started_at: str
    updated_at: str
    message: str = ""
    stored: int = 0
    unchanged: int = 0
    failed: int = 0
    skipped: int = 0
    encoded: int = 0
    repeated: int = 0
    bytes: int = 0
    startup_s: float = 0.0
    running_s: float = 0.0
    upkeep_s: float = 0.0
    items_per_s: float = 0.0
    bottleneck: str | None = None
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """Whether the service takes requests. When it does not, `reason` is a sentence and `code` that of the error."""

    ready: bool
    reason: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Unit vectors, float32 of shape [n, dimension], in the order asked. `truncated`: that text was not read to its end."""

    vectors: npt.NDArray[np.float32]
    truncated: tuple[bool, ...]
    model: str


@dataclass(frozen=True, slots=True)
class LabelProbability:
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classified:
    """What became of a picture: its labels, best first, or the `error` that it met."""

    labels: tuple[LabelProbability, ...] = ()
    error: CrossmodalError | None = None


@dataclass(frozen=True, slots=True)
class Classification:
    """What became of each picture. `activation`: softmax, probabilities add up to 1; sigmoid, each label by itself."""

    results: tuple[Classified, ...]
    activation: str
    model: str
    truncated_labels: tuple[str, ...] = ()


def read_answer(kind: type[Answer], payload: Mapping[str, Any]) -> Answer:
    """A dataclass out of the JSON object of an answer. Raises InternalError when a key that must be there is not."""
    known = fields(kind)  # type: ignore[arg-type]
    missing = [
        each.name
        for each in known
        if each.default is MISSING and each.default_factory is MISSING and each.name not in payload
    ]
    if missing:
        raise InternalError(f"the service's answer lacks {', '.join(missing)}: is it of this version?")
    return kind(**{each.name: payload[each.name] for each in known if each.name in payload})
