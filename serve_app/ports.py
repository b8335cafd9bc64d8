"""What each part asks of another, and nothing more. Lists in, lists of the same length and order out; failures are values.

A port whose call fails as a whole raises an error of serve_app.errors.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import IO, Any, Protocol

from serve_app.types import (
    Calibration,
    DeletedRows,
    DeleteOutcome,
    Document,
    EmbeddedPicture,
    EmbeddedVideo,
    Embedding,
    EncoderCard,
    FailedItem,
    FilePart,
    Filter,
    FloatMatrix,
    FramePolicy,
    ImagePreprocessing,
    IndexKind,
    IndexReading,
    IndexState,
    ItemFailure,
    JobState,
    Modality,
    Optimized,
    Orphans,
    PictureContent,
    PictureTask,
    Pixels,
    Record,
    SearchPage,
    Snapshot,
    StoredDocument,
    TableEntry,
    TableHead,
    TableInfo,
    TextMatch,
    UpsertOutcome,
    VectorQuery,
    VideoFrame,
    VideoUri,
)

# --- between the deployments ----------------------------------------------------------------------------------------


class TextEncoding(Protocol):
    async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]: ...

    async def describe(self) -> EncoderCard: ...


class PixelEncoding(Protocol):
    async def encode_pixels(
        self, pictures: Sequence[Pixels], *, urgent: bool = False
    ) -> list[Embedding | ItemFailure]: ...

    async def describe(self) -> EncoderCard: ...


class PictureEmbedding(Protocol):
    async def embed_pictures(self, tasks: Sequence[PictureTask]) -> list[EmbeddedPicture | ItemFailure]: ...


class PictureWork(PictureEmbedding, Protocol):
    """What the Preprocessor does: everything that touches the bytes of pictures and videos."""

    async def identify_pictures(self, uris: Sequence[str]) -> list[str | ItemFailure]:
        """SHA-256 (hex) of the file behind each URI."""
        ...

    async def read_picture(self, uri: str) -> PictureContent: ...

    async def sign(self, uris: Sequence[str]) -> list[str | None]:
        """For each URI an address that a browser can fetch for a short while; None where there is none."""
        ...

    async def thumbnail(self, uri: str, size_px: int) -> PictureContent: ...

    async def identify_videos(self, videos: Sequence[VideoUri]) -> list[str | ItemFailure]:
        """SHA-256 (hex) of each file."""
        ...

    async def embed_videos(self, videos: Sequence[VideoUri]) -> list[EmbeddedVideo | ItemFailure]:
        """Frames are kept as pictures before they are returned."""
        ...

    async def read_file_part(self, uri: str, start: int, length: int) -> FilePart:
        """Up to `length` bytes of a file from `start` on. Raises PictureNotFound, UriNotAllowed, InvalidRange."""
        ...


class Retrieval(Protocol):
    async def search(self, queries: Sequence[VectorQuery]) -> list[SearchPage | ItemFailure]: ...

    async def get(
        self, ids: Sequence[str], min_table_version: int = 0, as_of: str | None = None
    ) -> list[StoredDocument | None]:
        """The rows with these ids, None where there is none: of that version or a later one, or as they were `as_of` a
        snapshot or time. Raises StaleTable, SnapshotNotFound."""
        ...

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> list[Document]:
        """The first `limit` documents that `where` matches, in the order of their ids, those after the id `after`."""
        ...

    async def count(self, where: Filter) -> int:
        """How many documents `where` matches."""
        ...

    async def table_info(self) -> TableInfo: ...


class Indexing(Protocol):
    async def prepare_table(self, encoder: EncoderCard, usual_texts: FloatMatrix | None = None) -> TableInfo:
        """Create the table for this encoder if there is none; FingerprintMismatch if it belongs to another.

        `usual_texts`: vectors [n, dimension] of what stands in for texts while the table holds hardly any.
        """
        ...

    async def upsert(self, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]: ...

    async def replace(self, where: Filter, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        """Upsert the records and delete what else `where` matches, in one commit: readers see the old or the new."""
        ...

    async def delete(self, ids: Sequence[str]) -> list[DeleteOutcome]: ...

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        """Delete what `where` matches, everything if None; what was deleted before is gone already and not counted."""
        ...

    async def optimize(self) -> Optimized:
        """Calibrate over all rows, compact and index now, instead of once it is worth it. Answers after some seconds whether
        that is done; asked again, it waits on."""
        ...

    async def orphans(self, remove: bool, after: str | None = None) -> Orphans:
        """Count the kept pictures that no document points to, and remove them if told: in a part of the store that takes
        seconds, the first or the one after `next_after`. May be repeated."""
        ...


# --- inside the encoders: blocking, called from one thread -----------------------------------------------------------


class TextTower(Protocol):
    @property
    def card(self) -> EncoderCard: ...

    def encode(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]: ...


class ImageTower(Protocol):
    @property
    def card(self) -> EncoderCard: ...

    def encode(self, pictures: Sequence[Pixels]) -> list[Embedding | ItemFailure]: ...


class StagedTower(Protocol):
    """Either tower, in two steps: `encode(items)` is `compute(stage(items))`."""

    @property
    def overlaps(self) -> bool:
        """Whether staging the next batch beside the present one pays, as it does where staging is a copy to a GPU."""
        ...

    def encode(self, items: Any, /) -> list[Embedding | ItemFailure]: ...

    def stage(self, items: Any, /) -> Any: ...

    def compute(self, staged: Any, /) -> list[Embedding | ItemFailure]: ...


# --- inside the Preprocessor -----------------------------------------------------------------------------------------


class PictureDecoding(Protocol):
    """Bytes of a picture file to what the encoder, or a browser, takes. Blocking. Raises InvalidPicture and its children."""

    def to_pixels(self, data: bytes, preprocessing: ImagePreprocessing) -> Pixels: ...

    def to_thumbnail(self, data: bytes, size_px: int) -> bytes:
        """A JPEG whose longer side is at most `size_px`."""
        ...

    def to_jpeg(self, pixels: Pixels) -> bytes:
        """A JPEG of the same size, for a frame of a video."""
        ...

    def media_type(self, data: bytes) -> str:
        """Such as "image/png", from the first bytes; raises NotAPicture."""
        ...


class VideoDecoding(Protocol):
    """A video file to frames. Blocking. Raises InvalidVideo and its children."""

    def frames(self, file: IO[bytes], policy: FramePolicy) -> Iterator[VideoFrame]:
        """Decoded as they are asked for."""
        ...


class FileSource(Protocol):
    """Reads files that are too large for memory by URI, within the allowed roots only."""

    def open_file(self, uri: str, max_bytes: int) -> AbstractAsyncContextManager[IO[bytes]]:
        """A local file, or a local copy. Raises UriNotAllowed, PictureNotFound, VideoTooLarge, StorageUnavailable."""
        ...

    async def read_part(self, uri: str, start: int, length: int) -> FilePart: ...


class ObjectStore(Protocol):
    """Where pictures that came with a request are kept; content-addressed, so a write may be repeated."""

    async def put(self, content_sha256: str, media_type: str, data: bytes) -> str:
        """Store and return the URI. Raises StorageUnavailable."""
        ...

    def owns(self, uri: str) -> bool:
        """Whether this store wrote that URI."""
        ...

    async def signed_url(self, uri: str) -> str | None:
        """An address that a browser can fetch for a short while; None where the store cannot sign (a local folder)."""
        ...


class PictureRemoval(Protocol):
    """What the Indexer may do to kept pictures. Pictures that were put lately stay: their documents may be under way."""

    def owns(self, uri: str) -> bool: ...

    async def remove(self, uri: str, older_than: timedelta) -> int:
        """Delete a picture that was put so long ago, at least; returns its bytes, 0 where it stays or is gone."""
        ...

    def stored(self, older_than: timedelta, part: str) -> AsyncIterator[dict[str, int]]:
        """URI and bytes of the pictures that were put so long ago and whose SHA-256 begins with `part`, in portions.

        `part`: two hexadecimal digits.
        """
        ...


class ImageSource(Protocol):
    """Reads pictures by URI, within the allowed roots only."""

    async def fetch(self, uri: str) -> bytes:
        """Raises UriNotAllowed, PictureNotFound, PictureTooLarge, StorageUnavailable."""
        ...

    async def fetch_all(self, uris: Sequence[str]) -> list[bytes | ItemFailure]:
        """Several at once, in order; one that cannot be read fails alone."""
        ...


# --- inside the Retriever and the Indexer ----------------------------------------------------------------------------


class DocumentTable(Protocol):
    """The one table. Knows rows and vectors; knows nothing of ranking."""

    async def info(self) -> TableInfo: ...

    async def create(self, encoder: EncoderCard) -> TableInfo:
        """Create if absent; returns the state either way. Raises nothing on a mismatch: the caller compares."""
        ...

    async def get(self, ids: Sequence[str]) -> list[StoredDocument | None]: ...

    async def nearest(
        self, vectors: FloatMatrix, modality: Modality, limit: int, where: Filter | None = None, *, aimed: bool = False
    ) -> list[list[StoredDocument]]:
        """For each query row the `limit` nearest rows of one modality by cosine that `where` matches, best first.

        `aimed`: the queries point to where that modality lies (core.ranking.aim), so an index need not look everywhere.
        """
        ...

    async def matching(
        self, text: str, modalities: Sequence[Modality], limit: int, where: Filter | None = None
    ) -> list[TextMatch]:
        """The `limit` best rows by BM25 over `text`, best first. "Words in quotes" must stand together, in this order."""
        ...

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> list[StoredDocument]:
        """The first `limit` rows that `where` matches, in the order of their ids, those after the id `after`."""
        ...

    async def count(self, where: Filter) -> int:
        """How many rows `where` matches."""
        ...

    async def upsert(
        self,
        records: Sequence[Record],
        created_at: Mapping[str, datetime],
        now: datetime,
        *,
        instead_of: Filter | None = None,
    ) -> int:
        """One commit; ids must be distinct. `created_at` for ids that exist already. Returns the table's new version.

        `instead_of`: in the same commit go the rows that this matches and that are not among the records.
        """
        ...

    async def delete(self, ids: Sequence[str]) -> int: ...

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        """Delete what `where` matches, everything if None, in one commit."""
        ...

    async def sample(self, modality: Modality, limit: int) -> FloatMatrix:
        """Up to `limit` raw vectors of this modality, spread over the table; the same table version gives the same sample."""
        ...

    async def refresh(self, min_version: int) -> int:
        """Look for newer versions until the view is at least that new; returns the version seen. Raises StaleTable.

        Short enough to wait for inside a request: a version that was acknowledged is there at once.
        """
        ...

    async def at(self, as_of: str | None, fingerprint: str | None = None) -> "DocumentTable":
        """The table as it was: by the name of a snapshot, or at an ISO 8601 time. Raises SnapshotNotFound.

        Read-only, and the same rows for as long as it is used. None: the table of today, whose rows change but which no switch
        of tables takes away. `fingerprint`: the table last in service for that encoder, if there was one; else the caller
        finds by its `info` that it belongs to another.
        """
        ...

    async def calibration(self) -> Calibration: ...

    async def info_and_calibration(self) -> tuple[TableInfo, Calibration]:
        """Both of one version."""
        ...

    async def store_calibration(self, calibration: Calibration) -> None: ...


class TableKeeping(Protocol):
    """Snapshots of the table, and the tables that lie beside it. All are right while others read and write."""

    async def create_snapshot(self, name: str) -> Snapshot:
        """Keep the table as it is now. Raises SnapshotExists, InvalidRequest, NotReady."""
        ...

    async def snapshots(self) -> list[Snapshot]:
        """Of all tables, the oldest first."""
        ...

    async def restore_snapshot(self, name: str) -> int:
        """A new version that is like the snapshot; what was written since stays in the versions between.

        Raises SnapshotNotFound, TableConflict if it is one of another table.
        """
        ...

    async def delete_snapshot(self, name: str) -> None:
        """Raises SnapshotNotFound."""
        ...

    async def tables(self) -> list[TableEntry]:
        """The table in service and those beside it, by name."""
        ...

    async def version(self) -> int:
        """Of the table in service, now; 0 without one."""
        ...

    async def use_table(self, name: str, if_version: int | None = None) -> int:
        """Take a table into service; readers follow by themselves. Returns its version. Raises TableNotFound.

        `if_version`: only if the table in service has that version still; raises TableConflict if somebody has written since.
        """
        ...

    async def drop_table(self, name: str) -> None:
        """Remove a table for good. Raises TableNotFound; TableConflict while it is in service, was so until just now, or
        has snapshots."""
        ...


class WriteHolding(Protocol):
    """Has the writes of a service wait for a short while."""

    async def hold_writes(self, seconds: float) -> int:
        """For so long from now on, or until a table is taken into service. The version that stands still meanwhile."""
        ...

    async def release_writes(self) -> None:
        """Let those go on that wait; nothing where none are held."""
        ...


class JobReading(Protocol):
    """What jobs wrote down of themselves. Raises StorageUnavailable."""

    async def states(self) -> list[JobState]:
        """Of all jobs, in no order."""
        ...

    async def state(self, job_id: str) -> JobState | None: ...

    async def failures(self, job_id: str, attempt: int, limit: int) -> list[FailedItem]:
        """The first `limit` items that failed in this attempt, each once."""
        ...


class MaintainedTable(DocumentTable, Protocol):
    """What the one writer may do besides. Every method raises NotReady without a table, StorageUnavailable if it fails."""

    async def head(self) -> TableHead:
        """What has to be known before a commit. Counts nothing, and raises nothing without a table."""
        ...

    async def maintain(self, keep_versions: timedelta) -> None:
        """Compact small files, bring indexes up to date, and drop versions older than that."""
        ...

    async def build_index(self, kind: IndexKind, partitions: int) -> None:
        """Make the vector index anew over all rows. Readers go on as `store_index` last told them."""
        ...

    async def drop_index(self) -> None:
        """Remove the vector index, if there is one."""
        ...

    async def frozen(self) -> "MaintainedTable":
        """The table as it is now: read-only, and the same rows whatever is written meanwhile."""
        ...

    async def probe(
        self, vectors: FloatMatrix, modality: Modality, limit: int, reading: IndexReading | None
    ) -> list[list[str]]:
        """The ids of `nearest`, found by the index as told, or exactly without a reading: to measure one by the other."""
        ...

    async def uris_matching(self, where: Filter | None, limit: int) -> list[str]:
        """Up to `limit` URIs that rows which `where` matches point to, of all rows if None; in no order."""
        ...

    async def used_uris(self, uris: Sequence[str]) -> set[str]:
        """Those of these URIs that a row points to, of this table, of a snapshot, or of a table beside it."""
        ...

    async def store_index(self, state: IndexState) -> None:
        """Store how the table is searched, with the table: from then on `nearest` of every reader does it so."""
        ...
