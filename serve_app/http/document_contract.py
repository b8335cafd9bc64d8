"""What the contract says of documents and their pictures: the operations, for routes and openapi.json. Handles nothing."""

from serve_app.errors import (
    BodyTooLarge,
    DocumentNotFound,
    FingerprintMismatch,
    InvalidRange,
    InvalidRequest,
    PictureNotFound,
    Unavailable,
)
from serve_app.http.answers import THUMBNAIL_PX, DeletedOut, DeletionOut, DocumentOut, DocumentsOut, UpsertOut
from serve_app.http.documents import LISTED_DOCUMENTS, MIN_THUMBNAIL_PX, DocumentRoutes
from serve_app.http.limits import HttpLimits
from serve_app.http.operations import Answer, FormPart, Operation, Parameter
from serve_app.http.wire import RequestModels
from serve_app.services.documents import DocumentService

ID = Parameter(
    "document_id",
    "path",
    "The document's id, percent-encoded. A slash may stand as it is or as `%2F`; an id that ends in `/content` or `/thumbnail` "
    "needs `%2F`.",
)
PICTURE_PARAMETERS = [
    ID,
    Parameter(
        "v",
        "query",
        "The first 16 digits of the content's SHA-256, as in the addresses of answers: makes them cacheable.",
    ),
    Parameter("If-None-Match", "header", "The ETag of an earlier answer: 304 if the content is still the same."),
]
RANGE = Parameter(
    "Range", "header", "Of a video: the bytes that are wanted, such as `bytes=0-`; the answer may have fewer."
)
MIN_TABLE_VERSION = Parameter(
    "min_table_version",
    "query",
    "That of a write: the answer sees it, whichever replica answers.",
    {"type": "integer", "minimum": 0, "default": 0},
)
INCLUDE = Parameter(
    "include",
    "query",
    "`url`: with an address of the picture that a browser can fetch for a short while.",
    {"type": "string", "enum": ["url"]},
)
UNCHANGED = Answer("The content is that of the ETag in If-None-Match.")


def document_operations(documents: DocumentService, models: RequestModels, limits: HttpLimits) -> list[Operation]:
    """The operations on documents. What a document has stands before the document itself."""
    routes = DocumentRoutes(documents, models, limits)
    return [
        _list(routes, limits),
        _add(routes, models),
        _delete(routes, models),
        *_pictures(routes, limits),
        *_one(routes),
    ]


def _add(routes: DocumentRoutes, models: RequestModels) -> Operation:
    return Operation(
        "POST",
        "/v1/documents",
        routes.add,
        "documents",
        "Store documents, or replace those with the same ids",
        {200: Answer("What became of each.", UpsertOut)},
        "Content that is there already is `unchanged` and not encoded again. A document that fails has its error in its own "
        "item; a request of exactly one document that fails answers with that error's status.",
        errors=(InvalidRequest, BodyTooLarge, PictureNotFound, FingerprintMismatch, Unavailable),
        body=models.documents,
        form=(
            FormPart(
                "documents",
                "A list of documents, whose `image` may be `{part}`: the name of a file of this body. Without this part, "
                "each `file` becomes a document.",
                models.form_documents,
            ),
            FormPart("file", "A picture file; beside `documents`, files have names of your own.", repeated=True),
        ),
    )


def _list(routes: DocumentRoutes, limits: HttpLimits) -> Operation:
    most = limits.max_listed_documents
    sizes = {"type": "integer", "minimum": 1, "maximum": most, "default": min(LISTED_DOCUMENTS, most)}
    return Operation(
        "GET",
        "/v1/documents",
        routes.find,
        "documents",
        "List documents, by id",
        {200: Answer("A page of them.", DocumentsOut)},
        errors=(InvalidRequest, Unavailable),
        parameters=[
            Parameter("filter", "query", 'Which ones: a filter as JSON, such as `{"field": "price", "lt": 20}`.'),
            Parameter("limit", "query", "Most documents of the page.", sizes),
            Parameter("after", "query", "Those whose ids come after this one: `next_after` of the page before."),
        ],
    )


def _delete(routes: DocumentRoutes, models: RequestModels) -> Operation:
    return Operation(
        "POST",
        "/v1/documents:delete",
        routes.delete_several,
        "documents",
        "Remove documents, by a filter or by their ids",
        {200: Answer("How many are gone.", DeletionOut)},
        "A filter removes what it matches in one commit; `all: true` removes everything. Ids that are not there are not counted.",
        errors=(InvalidRequest, BodyTooLarge, Unavailable),
        body=models.deletion,
    )


def _pictures(routes: DocumentRoutes, limits: HttpLimits) -> list[Operation]:
    of_one = "/v1/documents/{document_id:path}"
    sizes = {
        "type": "integer",
        "minimum": MIN_THUMBNAIL_PX,
        "maximum": limits.max_thumbnail_px,
        "default": THUMBNAIL_PX,
    }
    etag = {"ETag": "The content's SHA-256, and of a thumbnail its size."}
    file = Answer("The file.", media_types=("image/*", "video/*"), headers=etag)
    part = Answer(
        "A part of the video.", media_types=("video/*",), headers={"Content-Range": "Which part of how much."}
    )
    jpeg = Answer("The JPEG.", media_types=("image/jpeg",), headers=etag)
    elsewhere = Answer(
        "The picture lies at the signed address in `Location`.", headers={"Location": "A signed address."}
    )
    return [
        Operation(
            "GET",
            f"{of_one}/content",
            routes.content,
            "documents",
            "The document's picture, or the video that it is a frame of",
            {200: file, 206: part, 304: UNCHANGED, 307: elsewhere},
            "The id of a video stands for its first frame.",
            errors=(DocumentNotFound, PictureNotFound, InvalidRange, Unavailable),
            parameters=[*PICTURE_PARAMETERS, RANGE],
        ),
        Operation(
            "GET",
            f"{of_one}/thumbnail",
            routes.thumbnail,
            "documents",
            "A small JPEG of the document's picture",
            {200: jpeg, 304: UNCHANGED, 307: elsewhere},
            errors=(InvalidRequest, DocumentNotFound, PictureNotFound, Unavailable),
            parameters=[*PICTURE_PARAMETERS, Parameter("size", "query", "The longer side in pixels.", sizes)],
        ),
    ]


def _one(routes: DocumentRoutes) -> list[Operation]:
    path = "/v1/documents/{document_id:document_id}"
    errors = (DocumentNotFound, Unavailable)
    stored = {200: Answer("The document.", DocumentOut)}
    gone = {200: Answer("It is gone.", DeletedOut)}
    return [
        Operation(
            "GET",
            path,
            routes.get,
            "documents",
            "A document",
            stored,
            errors=(InvalidRequest, *errors),
            parameters=[ID, MIN_TABLE_VERSION, INCLUDE],
        ),
        Operation(
            "DELETE", path, routes.delete, "documents", "Remove a document", gone, errors=errors, parameters=[ID]
        ),
    ]
