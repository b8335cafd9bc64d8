"""Every error that a user can meet. Knows nothing of HTTP, Ray or any library.

CrossmodalError
├── InvalidRequest                 the request itself is wrong; repeating it cannot help
│   ├── EmptyText · TextTooLong
│   ├── InvalidVector              wrong dimension, NaN, infinite or zero
│   ├── InvalidDocumentId
│   ├── InvalidField
│   ├── InvalidFilter
│   ├── UriNotAllowed              outside the allowed roots, or a scheme that nobody allowed
│   ├── InvalidPicture
│   │   ├── NotAPicture · PictureTruncated · UnsupportedPicture
│   │   └── PictureTooLarge · PictureTooElongated
│   ├── InvalidVideo               no picture of it can be decoded
│   │   ├── NotAVideo · VideoTruncated · UnsupportedVideo
│   │   ├── VideoTooLarge          more bytes, or more pixels in a frame, than allowed
│   │   └── VideoTooLong           longer, or more frames of it asked for, than allowed
│   ├── InvalidSource              what bulk work is to read is not of its kind, or its columns are not those named
│   │   ├── InvalidRow             one row of it
│   │   └── UnreadableSource       a file of it is damaged, or ends too early
│   └── BodyTooLarge
├── NotFound
│   ├── DocumentNotFound · RouteNotFound
│   ├── TableNotFound              no table of this name lies beside the one in service
│   ├── SourceNotFound             nothing lies where bulk work is to read
│   ├── SnapshotNotFound           no snapshot of this name, or no version of this time is kept
│   ├── JobNotFound
│   ├── ModelNotFound              the request names another model than the service runs
│   └── PictureNotFound            the document is there, its picture is not
├── Conflict                       the request is right, and what is there stands against it
│   ├── SnapshotExists             a snapshot of this name is there already
│   ├── TableConflict              the table is in service, not one of ours, or still read
│   └── DestinationConflict        something lies already where an export is to go
├── MethodNotAllowed
├── InvalidRange                   bytes beyond the end of a file
├── Unavailable                    right request, wrong moment; repeating it helps
│   ├── Overloaded · DeadlineExceeded
│   ├── NotReady
│   ├── StaleTable                 no version of the table is as new as the one asked for
│   ├── StorageUnavailable
│   └── ClusterUnavailable         no Ray cluster answers that could take a job
├── FingerprintMismatch            the table was built with another encoder
├── ModelUnavailable               weights missing, damaged or not those asked for
├── InvalidConfig
├── JobFailed                      a job ended before it was through, and says why
└── InternalError                  ours; the cause is in the log, never in the answer

Each class takes one message, has a stable `code`, and survives pickling. Messages are written for the user: one sentence, no
traceback, no path of the server that the user did not send.
"""

from typing import ClassVar


class CrossmodalError(Exception):
    """Base of the tree. `code` is part of the HTTP contract and never changes."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The sentence for the user."""
        return str(self.args[0])


class InvalidRequest(CrossmodalError):
    code = "invalid_request"


class EmptyText(InvalidRequest):
    code = "empty_text"


class TextTooLong(InvalidRequest):
    code = "text_too_long"


class InvalidVector(InvalidRequest):
    code = "invalid_vector"


class InvalidDocumentId(InvalidRequest):
    code = "invalid_document_id"


class InvalidField(InvalidRequest):
    code = "invalid_field"


class InvalidFilter(InvalidRequest):
    code = "invalid_filter"


class UriNotAllowed(InvalidRequest):
    code = "uri_not_allowed"


class InvalidPicture(InvalidRequest):
    code = "invalid_picture"


class NotAPicture(InvalidPicture):
    code = "not_a_picture"


class PictureTruncated(InvalidPicture):
    code = "picture_truncated"


class UnsupportedPicture(InvalidPicture):
    code = "unsupported_picture"


class PictureTooLarge(InvalidPicture):
    code = "picture_too_large"


class PictureTooElongated(InvalidPicture):
    code = "picture_too_elongated"


class InvalidVideo(InvalidRequest):
    code = "invalid_video"


class NotAVideo(InvalidVideo):
    code = "not_a_video"


class VideoTruncated(InvalidVideo):
    code = "video_truncated"


class UnsupportedVideo(InvalidVideo):
    code = "unsupported_video"


class VideoTooLarge(InvalidVideo):
    code = "video_too_large"


class VideoTooLong(InvalidVideo):
    code = "video_too_long"


class InvalidSource(InvalidRequest):
    code = "invalid_source"


class InvalidRow(InvalidSource):
    code = "invalid_row"


class UnreadableSource(InvalidSource):
    code = "unreadable_source"


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"


class NotFound(CrossmodalError):
    code = "not_found"


class DocumentNotFound(NotFound):
    code = "document_not_found"


class RouteNotFound(NotFound):
    code = "route_not_found"


class TableNotFound(NotFound):
    code = "table_not_found"


class SourceNotFound(NotFound):
    code = "source_not_found"


class SnapshotNotFound(NotFound):
    code = "snapshot_not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class JobNotFound(NotFound):
    code = "job_not_found"


class PictureNotFound(NotFound):
    code = "picture_not_found"


class Conflict(CrossmodalError):
    code = "conflict"


class SnapshotExists(Conflict):
    code = "snapshot_exists"


class TableConflict(Conflict):
    code = "table_conflict"


class DestinationConflict(Conflict):
    code = "destination_conflict"


class InvalidRange(CrossmodalError):
    code = "invalid_range"


class MethodNotAllowed(CrossmodalError):
    code = "method_not_allowed"


class Unavailable(CrossmodalError):
    code = "unavailable"


class Overloaded(Unavailable):
    code = "overloaded"


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"


class NotReady(Unavailable):
    code = "not_ready"


class StaleTable(Unavailable):
    code = "stale_table"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class ClusterUnavailable(Unavailable):
    code = "cluster_unavailable"


class FingerprintMismatch(CrossmodalError):
    code = "fingerprint_mismatch"


class ModelUnavailable(CrossmodalError):
    code = "model_unavailable"


class InvalidConfig(CrossmodalError):
    code = "invalid_config"


class JobFailed(CrossmodalError):
    code = "job_failed"


class InternalError(CrossmodalError):
    code = "internal"


def every_error(root: type[CrossmodalError] = CrossmodalError) -> list[type[CrossmodalError]]:
    """The tree in depth-first order, the root first."""
    return [root, *(error for child in root.__subclasses__() for error in every_error(child))]


def error_of(code: str, message: str) -> CrossmodalError:
    """The error with this stable code; an unknown code becomes an InternalError."""
    by_code = {error.code: error for error in every_error()}
    return by_code.get(code, InternalError)(message)
