"""Put videos in and take them out: each is a row for each of its frames. Knows neither codecs nor the table.

The frames of a video are replaced as a whole: those of an old content that are no more go with the write that brings the new.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from serve_app.core.failures import failure_of, value_of
from serve_app.core.fields import check_fields
from serve_app.core.ids import document_id
from serve_app.core.records import metadata_to_json
from serve_app.core.texts import check_text
from serve_app.core.videos import check_policy, check_video_id, frame_id, frames_of, video_content
from serve_app.errors import CrossmodalError, InvalidRequest
from serve_app.ports import Indexing, PictureWork, Retrieval
from serve_app.types import (
    DeleteOutcome,
    Document,
    DocumentInput,
    EmbeddedVideo,
    FieldSpec,
    FieldValue,
    ItemFailure,
    Modality,
    Record,
    StoredDocument,
    UpsertOutcome,
    UpsertStatus,
    VideoUri,
)


class VideoService:
    """Upsert and delete videos. A video whose content is there already is neither decoded nor encoded again.

    `frame_px`: the longer side of a kept frame, which belongs to the content.
    """

    def __init__(
        self,
        pictures: PictureWork,
        retrieval: Retrieval,
        indexing: Indexing,
        *,
        max_characters: int,
        frame_px: int,
        fields: Mapping[str, FieldSpec] = MappingProxyType({}),
    ) -> None:
        self._pictures = pictures
        self._retrieval = retrieval
        self._indexing = indexing
        self._max_characters = max_characters
        self._frame_px = frame_px
        self._fields = fields

    async def add(self, documents: Sequence[DocumentInput]) -> list[UpsertOutcome | ItemFailure]:
        """One after the other: each may be hundreds of frames. The table is prepared."""
        results: list[UpsertOutcome | ItemFailure] = []
        for document in documents:
            try:
                results.append(await self._add(document, document.video or VideoUri("")))
            except CrossmodalError as error:
                results.append(failure_of(error))
        return results

    async def first_frame(self, video_id: str) -> Document | None:
        """What stands for the video where a document is asked for; None where there is no such video."""
        found = await self._retrieval.find(frames_of(video_id), 1)
        return found[0] if found else None

    async def delete(self, video_id: str) -> DeleteOutcome:
        """Every frame; `deleted` is False where there is no such video."""
        if await self.first_frame(video_id) is None:
            return DeleteOutcome(video_id, deleted=False, table_version=0)
        deleted = await self._indexing.delete_matching(frames_of(video_id))
        return DeleteOutcome(video_id, deleted=deleted.count > 0, table_version=deleted.table_version)

    async def _add(self, document: DocumentInput, video: VideoUri) -> UpsertOutcome:
        fields = self._checked(document, video)
        sha256 = value_of((await self._pictures.identify_videos([video]))[0])
        video_id = document.id or document_id(sha256)
        known = await self._known_frames(video_id, sha256, video)
        if known:
            records = [_known_record(row, document, video, fields) for row in known]
        else:
            embedded = value_of((await self._pictures.embed_videos([video]))[0])
            records = _records(video_id, document, video, embedded, fields)
        outcomes = [value_of(each) for each in await self._indexing.replace(frames_of(video_id), records)]
        unchanged = all(outcome.status is UpsertStatus.UNCHANGED for outcome in outcomes)
        return UpsertOutcome(
            id=video_id,
            status=UpsertStatus.UNCHANGED if unchanged else UpsertStatus.STORED,
            table_version=max(outcome.table_version for outcome in outcomes),
            frames=len(records),
        )

    def _checked(self, document: DocumentInput, video: VideoUri) -> dict[str, FieldValue]:
        if document.picture is not None:
            raise InvalidRequest("a document is a video or has an image, not both")
        if document.text is not None:
            check_text(document.text, self._max_characters)
        if document.id is not None:
            check_video_id(document.id)
        check_policy(video.policy)
        metadata_to_json(document.metadata)
        return check_fields(document.fields, self._fields)

    async def _known_frames(self, video_id: str, sha256: str, video: VideoUri) -> list[StoredDocument]:
        """The rows of the video if its content is there already, all of it; none otherwise."""
        count = await self._retrieval.count(frames_of(video_id))
        if not count:
            return []
        content = video_content(sha256, video.policy, self._frame_px, count)
        frames = await self._retrieval.find(frames_of(video_id), count)
        if len(frames) != count or any(frame.content_sha256 != content for frame in frames):
            return []
        rows = [row for row in await self._retrieval.get([frame.id for frame in frames]) if row is not None]
        return rows if len(rows) == count else []


def _records(
    video_id: str,
    document: DocumentInput,
    video: VideoUri,
    embedded: EmbeddedVideo,
    fields: Mapping[str, FieldValue],
) -> list[Record]:
    """A text is what the video is about, not what a moment shows: words find it, and no vector has it."""
    return [
        Record(
            id=frame_id(video_id, frame.offset_s),
            modality=Modality.VIDEO_FRAME,
            uri=video.uri,
            text=document.text,
            content_sha256=embedded.content_sha256,
            metadata=document.metadata,
            vector=frame.embedding.vector,
            fingerprint=frame.embedding.fingerprint,
            fields=fields,
            offset_s=frame.offset_s,
            thumbnail_uri=frame.thumbnail_uri,
        )
        for frame in embedded.frames
    ]


def _known_record(
    row: StoredDocument, document: DocumentInput, video: VideoUri, fields: Mapping[str, FieldValue]
) -> Record:
    """The frame as it is, with what else came with the request."""
    frame = row.document
    return Record(
        id=frame.id,
        modality=frame.modality,
        uri=video.uri,
        text=document.text,
        content_sha256=frame.content_sha256,
        metadata=document.metadata,
        vector=row.vector,
        fingerprint=row.fingerprint,
        fields=fields,
        offset_s=frame.offset_s,
        thumbnail_uri=frame.thumbnail_uri,
    )
