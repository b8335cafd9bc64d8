"""Videos in bulk: each becomes its frames, kept as JPEG, ready to be encoded. Knows no codec, no Ray and no source.

A video is gone through twice. First its frames are kept, since what all of them share, their content, says how many there are;
then they are read again and made ready, some at a time: of the longest video no more than that is in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

from serve_app.core.failures import failure_of
from serve_app.core.fields import check_fields
from serve_app.core.ids import document_id, sha256_of
from serve_app.core.planning import DocumentPlan, record_of, record_of_known, same_row
from serve_app.core.records import metadata_to_json
from serve_app.core.source_items import SourceItem
from serve_app.core.texts import check_text
from serve_app.core.videos import check_policy, check_video_id, frame_id, frames_of, frames_of_others, video_content
from serve_app.errors import CrossmodalError, InvalidVideo
from serve_app.ports import DocumentTable, FileSource, ImageSource, ObjectStore, PictureDecoding, VideoDecoding
from serve_app.services.bulk import Observe, Prepared, Unchanged, timed
from serve_app.services.frames import FRAMES_AT_ONCE, file_sha256
from serve_app.types import (
    Embedding,
    FieldSpec,
    FramePolicy,
    ImagePreprocessing,
    ItemFailure,
    Modality,
    Record,
    StoredDocument,
)

READY_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A frame that lies in the object store. `offset_s`: when it is shown, from the beginning."""

    offset_s: float
    thumbnail_uri: str


@dataclass(frozen=True, slots=True)
class PreparedFrame(Prepared):
    """A frame that is kept, and still to be encoded."""

    frame: KeptFrame

    @property
    def words(self) -> str | None:
        # A text is what the video is about, not what a moment shows: words find it, and no vector has it.
        return None

    def record(self, words: Embedding | None, seen: Embedding | None, image_weight: float) -> Record:
        row = record_of(
            self.plan, words, seen, uri=self.uri, picture_sha256=self.picture_sha256, image_weight=image_weight
        )
        return _placed(replace(row, content_sha256=self.plan.content_sha256), self.frame)


@dataclass(frozen=True, slots=True)
class Superseded:
    """Frames of other contents of this video, to be deleted: the table has, or is about to have, those of this one."""

    video_id: str
    content_sha256: str


FrameOutcome: TypeAlias = PreparedFrame | Record | Unchanged | Superseded | ItemFailure


@dataclass(frozen=True, slots=True)
class VideoRules:
    """What a video is held to. `frame_px`: the longer side of a kept frame, which belongs to the content."""

    declared: Mapping[str, FieldSpec]
    max_characters: int
    max_bytes: int
    frame_px: int
    policy: FramePolicy


class BulkVideos:
    """One video at a time, whole or not at all: damage is told before the first of its frames is given out."""

    def __init__(
        self,
        files: FileSource,
        kept: ImageSource,
        videos: VideoDecoding,
        decoder: PictureDecoding,
        store: ObjectStore,
        table: DocumentTable,
        preprocessing: ImagePreprocessing,
        rules: VideoRules,
        *,
        observe: Observe,
    ) -> None:
        self._files = files
        self._kept = kept
        self._videos = videos
        self._decoder = decoder
        self._store = store
        self._table = table
        self._preprocessing = preprocessing
        self._rules = rules
        self._observe = observe

    async def prepare(self, item: SourceItem) -> AsyncIterator[list[tuple[str, FrameOutcome]]]:
        """What became of the frames of this video, by key, in portions; or the one failure of the video."""
        try:
            async for portion in self._portions(item):
                yield portion
        except CrossmodalError as error:
            yield [(item.key, failure_of(error))]

    async def _portions(self, item: SourceItem) -> AsyncIterator[list[tuple[str, FrameOutcome]]]:
        shared = self._shared_plan(item)
        async with self._files.open_file(shared.uri or "", self._rules.max_bytes) as file:
            with timed(self._observe, "fetch") as done:
                sha256 = await asyncio.to_thread(file_sha256, file)
                done(1, file.tell())
            video_id = item.id or document_id(sha256)
            content, known = await self._known(video_id, sha256)
            frames = [_kept_frame(row) for row in known]
            if not frames:
                frames = [frame async for frame in self._keep(file)]
                content = video_content(sha256, self._rules.policy, self._rules.frame_px, len(frames))
        others = frames_of_others(video_id, content)
        for start in range(0, len(frames), READY_AT_ONCE):
            portion = frames[start : start + READY_AT_ONCE]
            plans = [
                replace(shared, id=frame_id(video_id, frame.offset_s), content_sha256=content) for frame in portion
            ]
            yield await self._ready(item.key, plans, portion)
        if await self._table.count(others):
            yield [(item.key, Superseded(video_id, content))]

    async def _ready(
        self, key: str, plans: Sequence[DocumentPlan], frames: Sequence[KeptFrame]
    ) -> list[tuple[str, FrameOutcome]]:
        with timed(self._observe, "compare") as done:
            rows = await self._table.get([plan.id for plan in plans])
            done(len(plans), 0)
        found: list[tuple[str, FrameOutcome]] = []
        for plan, frame, row in zip(plans, frames, rows, strict=True):
            if row is not None and plan.describes(row) and _kept_frame(row) == frame:
                record = _placed(record_of_known(plan, row), frame)
                outcome: FrameOutcome = Unchanged(plan.id) if same_row(record, row) else record
            else:
                outcome = await self._decoded(plan, frame)
            found.append((frame_id(key, frame.offset_s), outcome))
        return found

    async def _decoded(self, plan: DocumentPlan, frame: KeptFrame) -> PreparedFrame:
        data = await self._kept.fetch(frame.thumbnail_uri)
        with timed(self._observe, "decode") as done:
            pixels = self._decoder.to_pixels(data, self._preprocessing)
            done(1, len(data))
        return PreparedFrame(plan, plan.uri, sha256_of(data), pixels, frame)

    async def _keep(self, file: object) -> AsyncIterator[KeptFrame]:
        frames = self._videos.frames(file, self._rules.policy)  # type: ignore[arg-type]

        def next_jpegs() -> list[tuple[float, bytes]]:
            return [(each.offset_s, self._decoder.to_jpeg(each.pixels)) for each in islice(frames, FRAMES_AT_ONCE)]

        while True:
            with timed(self._observe, "decode") as done:
                taken = await asyncio.to_thread(next_jpegs)
                done(len(taken), sum(len(jpeg) for _, jpeg in taken))
            if not taken:
                return
            uris = await asyncio.gather(*(self._store.put(sha256_of(jpeg), "image/jpeg", jpeg) for _, jpeg in taken))
            for (offset_s, _), uri in zip(taken, uris, strict=True):
                yield KeptFrame(offset_s, uri)

    async def _known(self, video_id: str, sha256: str) -> tuple[str, list[StoredDocument]]:
        """The content and the rows of a video of which the table has everything; no rows of any other."""
        count = await self._table.count(frames_of(video_id))
        content = video_content(sha256, self._rules.policy, self._rules.frame_px, count)
        rows = await self._table.find(frames_of(video_id), count) if count else []
        whole = len(rows) == count and all(row.document.content_sha256 == content for row in rows)
        return content, sorted(rows, key=lambda row: row.document.offset_s or 0.0) if whole else []

    def _shared_plan(self, item: SourceItem) -> DocumentPlan:
        """Of every frame, but for its id and its content."""
        if item.uri is None:
            raise InvalidVideo("a video is read from where it lies, and has an address")
        if item.text is not None:
            check_text(item.text, self._rules.max_characters)
        if item.id is not None:
            check_video_id(item.id)
        check_policy(self._rules.policy)
        metadata_to_json(item.metadata)
        fields = check_fields(item.fields, self._rules.declared)
        return DocumentPlan("", Modality.VIDEO_FRAME, item.text, item.uri, "", item.metadata, fields)


def _kept_frame(row: StoredDocument) -> KeptFrame:
    return KeptFrame(row.document.offset_s or 0.0, row.document.thumbnail_uri or "")


def _placed(record: Record, frame: KeptFrame) -> Record:
    return replace(record, offset_s=frame.offset_s, thumbnail_uri=frame.thumbnail_uri)
