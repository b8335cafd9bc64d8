"""The operations on documents and their pictures. Parses, asks the service, renders; knows no rule of the product.

An id is one percent-encoded piece of the path. A plain slash in it is taken too, unless it ends in `/content` or `/thumbnail`:
such an id has to write that slash as `%2F`.
"""

from collections.abc import Callable, Mapping, Sequence

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from serve_app.errors import (
    CrossmodalError,
    InvalidPicture,
    InvalidRequest,
)
from serve_app.http.answers import (
    THUMBNAIL_PX,
    Addresses,
    deleted_out,
    deletion_out,
    document_out,
    documents_out,
    json_of,
    upsert_out,
    version_of,
)
from serve_app.http.bodies import (
    file_parts,
    json_part,
    media_type_of,
    open_form,
    parse_json,
    picture_of,
    read_json,
    require_json,
)
from serve_app.http.error_table import error_of_failure
from serve_app.http.filter_wire import FilterText
from serve_app.http.limits import HttpLimits
from serve_app.http.video_content import video_response
from serve_app.http.wire import Base64Image, FormDocumentIn, PartImage, RequestModels, UriImage
from serve_app.services.documents import DocumentService
from serve_app.types import (
    Document,
    DocumentInput,
    Include,
    ItemFailure,
    Modality,
    Picture,
    PictureContent,
    UpsertOutcome,
)

MIN_THUMBNAIL_PX = 16
LISTED_DOCUMENTS = 100
PICTURE_HEADERS = {
    # What users stored is theirs: shown, never run, and never taken for something else.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


class DocumentRoutes:
    """Handlers over one DocumentService."""

    def __init__(self, documents: DocumentService, models: RequestModels, limits: HttpLimits) -> None:
        self._documents = documents
        self._models = models
        self._limits = limits

    async def add(self, request: Request) -> Response:
        """POST /v1/documents. One document that fails answers with its error; of several, each has its own result."""
        if media_type_of(request) == "application/json":
            body = await read_json(request, self._models.documents)
            parsed = [self._parsed(document.image, document.to_input) for document in body.documents]
        else:
            parsed = await self._read_form(request)
        results = await self._store(parsed)
        if len(results) == 1 and isinstance(results[0], CrossmodalError):
            raise results[0]
        return json_of(upsert_out(results))

    async def get(self, request: Request) -> Response:
        min_table_version = _version_in(request)
        document = await self._documents.get(request.path_params["document_id"], min_table_version)
        url = await self._documents.address(document) if _includes_url(request) else None
        return json_of(document_out(document, Addresses(request.scope.get("root_path", "")), url))

    async def find(self, request: Request) -> Response:
        """GET /v1/documents."""
        unknown = request.query_params.keys() - {"filter", "limit", "after"}
        if unknown:
            raise InvalidRequest(f"{min(unknown)[:64]}: there is no such parameter; there are filter, limit and after.")
        given = request.query_params.get("filter")
        where = None if given is None else parse_json(given, FilterText, "filter").root.to_filter()
        limit = _whole_number(request, "limit", LISTED_DOCUMENTS, 1, self._limits.max_listed_documents)
        page = await self._documents.find(where, limit, request.query_params.get("after"))
        return json_of(documents_out(page, Addresses(request.scope.get("root_path", ""))))

    async def delete_several(self, request: Request) -> Response:
        """POST /v1/documents:delete."""
        require_json(request)
        body = await read_json(request, self._models.deletion)
        if len(body.model_fields_set & {"filter", "ids", "all"}) != 1:
            raise InvalidRequest("The body: expected exactly one of filter, ids or all (which has to be true).")
        if body.ids is not None:
            return json_of(deletion_out(await self._documents.delete_ids(body.ids)))
        if body.filter is None and body.all is None:
            raise InvalidRequest("The body: null removes nothing; `all: true` removes every document.")
        where = None if body.filter is None else body.filter.to_filter()
        return json_of(deletion_out(await self._documents.delete_matching(where)))

    async def delete(self, request: Request) -> Response:
        return json_of(deleted_out(await self._documents.delete(request.path_params["document_id"])))

    async def content(self, request: Request) -> Response:
        document = await self._documents.get(request.path_params["document_id"])
        if document.modality is Modality.VIDEO_FRAME:
            return await video_response(request, document, self._documents)
        etag = f'"{document.content_sha256}"'
        if _is_known(request, document, etag):
            return _not_modified(request, document, etag)
        return _picture(request, document, etag, await self._documents.content(document))

    async def thumbnail(self, request: Request) -> Response:
        size_px = self._size_of(request)
        document = await self._documents.get(request.path_params["document_id"])
        etag = f'"{document.content_sha256}-{size_px}"'
        if _is_known(request, document, etag):
            return _not_modified(request, document, etag)
        return _picture(request, document, etag, await self._documents.thumbnail(document, size_px))

    def _size_of(self, request: Request) -> int:
        return _whole_number(
            request, "size", THUMBNAIL_PX, MIN_THUMBNAIL_PX, self._limits.max_thumbnail_px, " of pixels"
        )

    async def _store(self, parsed: Sequence[DocumentInput | CrossmodalError]) -> list[UpsertOutcome | CrossmodalError]:
        good = [document for document in parsed if isinstance(document, DocumentInput)]
        outcomes = iter(await self._documents.add(good) if good else [])
        results = [each if isinstance(each, CrossmodalError) else next(outcomes) for each in parsed]
        return [error_of_failure(each) if isinstance(each, ItemFailure) else each for each in results]

    def _parsed(
        self, image: UriImage | Base64Image | None, to_input: Callable[[Picture | None], DocumentInput]
    ) -> DocumentInput | CrossmodalError:
        try:
            return to_input(None if image is None else image.to_picture(self._limits.max_picture_bytes))
        except InvalidPicture as error:
            return error

    async def _read_form(self, request: Request) -> list[DocumentInput | CrossmodalError]:
        limits = self._limits
        async with open_form(request, limits.max_documents, limits.max_body_bytes) as form:
            listed = json_part(form, "documents", self._models.form_documents)
            files = file_parts(form)
            if listed is None and not files:
                raise InvalidRequest("The form needs files called `file`, or a part `documents` with a JSON list.")
            if listed is None:
                for name, _ in files:
                    if name != "file":
                        raise InvalidRequest(
                            f"{name[:64]}: without a part `documents`, each file is a part called `file`."
                        )
                return [await self._picture(part) for _, part in files]
            parts = _parts_by_name(files, listed.root)
            pictures = {name: await self._picture(part) for name, part in parts.items()}
        return [self._with_part(document, pictures) for document in listed.root]

    async def _picture(self, part: UploadFile) -> DocumentInput | CrossmodalError:
        """A document of nothing but this file."""
        try:
            return DocumentInput(picture=await picture_of(part, self._limits.max_picture_bytes))
        except InvalidPicture as error:
            return error

    def _with_part(
        self, document: FormDocumentIn, pictures: Mapping[str, DocumentInput | CrossmodalError]
    ) -> DocumentInput | CrossmodalError:
        if not isinstance(document.image, PartImage):
            return self._parsed(document.image, document.to_input)
        part = pictures[document.image.part]
        return part if isinstance(part, CrossmodalError) else document.to_input(part.picture)


def _whole_number(request: Request, name: str, default: int, least: int, most: int, unit: str = "") -> int:
    given = request.query_params.get(name, str(min(default, most)))
    if not (given.isascii() and given.isdigit() and len(given) < 7 and least <= int(given) <= most):
        raise InvalidRequest(f"{name}: expected a whole number{unit} from {least} to {most}.")
    return int(given)


def _includes_url(request: Request) -> bool:
    given = request.query_params.get("include")
    if given not in (None, Include.URL):
        raise InvalidRequest("include: expected `url`.")
    return given is not None


def _version_in(request: Request) -> int:
    given = request.query_params.get("min_table_version", "0")
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise InvalidRequest("min_table_version: expected a whole number.")
    return int(given)


def _parts_by_name(
    files: Sequence[tuple[str, UploadFile]], documents: Sequence[FormDocumentIn]
) -> dict[str, UploadFile]:
    """The files by name; each must be asked for by a document, and each that is asked for must be there, once."""
    parts: dict[str, UploadFile] = {}
    for name, part in files:
        if name in parts:
            raise InvalidRequest(f"{name[:64]}: two files have this part name; beside `documents` each needs its own.")
        parts[name] = part
    wanted = {document.image.part for document in documents if isinstance(document.image, PartImage)}
    for name in wanted - parts.keys():
        raise InvalidRequest(f"documents: a document asks for the part {name[:64]!r}, and there is no such file.")
    for name in parts.keys() - wanted:
        raise InvalidRequest(f"{name[:64]}: no document asks for this file by `image: {{part}}`.")
    return parts


def _cache_control(request: Request, document: Document) -> str:
    """An address that names the content may be kept for good; any other has to be asked about each time."""
    named = request.query_params.get("v") == version_of(document)
    return "private, max-age=31536000, immutable" if named else "private, no-cache"


def _is_known(request: Request, document: Document, etag: str) -> bool:
    if document.uri is None:
        return False
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or "*" in known


def _not_modified(request: Request, document: Document, etag: str) -> Response:
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": _cache_control(request, document)})


def _picture(request: Request, document: Document, etag: str, content: PictureContent) -> Response:
    if content.url is not None:
        # The signed address is good for minutes only.
        return RedirectResponse(content.url, status_code=307, headers={"Cache-Control": "no-store"})
    headers = {**PICTURE_HEADERS, "ETag": etag, "Cache-Control": _cache_control(request, document)}
    return Response(content.data, media_type=content.media_type, headers=headers)
