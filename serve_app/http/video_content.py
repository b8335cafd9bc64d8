"""The file of a video as a player wants it: in ranges of bytes (RFC 9110), so that one can begin in the midst. Knows no codec."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from serve_app.errors import InvalidRange
from serve_app.services.documents import DocumentService
from serve_app.types import Document, FilePart

PART_BYTES = 2 * 1024 * 1024
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
MEDIA_TYPES: Mapping[str, str] = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".ogv": "video/ogg",
    ".ts": "video/mp2t",
}
HEADERS = {
    "Accept-Ranges": "bytes",
    # The file lies where its owner may change it.
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


async def video_response(request: Request, document: Document, documents: DocumentService) -> Response:
    """The video that a frame is of: a redirect to where it lies, the part that was asked for, or all of it.

    Raises InvalidRange, PictureNotFound. A part may be shorter than what was asked for; players ask on.
    """
    address = await documents.address(document)
    if address is not None:
        moment = f"#t={document.offset_s:.3f}"
        return RedirectResponse(address + moment, status_code=307, headers={"Cache-Control": "no-store"})
    media_type = MEDIA_TYPES.get(PurePosixPath(urlsplit(document.uri or "").path).suffix.lower(), "video/mp4")
    asked = RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or asked[0] == "bytes=-":
        first = await documents.content_part(document, 0, PART_BYTES)
        headers = {**HEADERS, "Content-Length": str(first.total)}
        return StreamingResponse(_whole(first, document, documents), media_type=media_type, headers=headers)
    start, length = await _asked(asked[1], asked[2], document, documents)
    part = await documents.content_part(document, start, min(length, PART_BYTES))
    told = f"bytes {part.start}-{part.start + len(part.data) - 1}/{part.total}"
    return Response(part.data, 206, media_type=media_type, headers={**HEADERS, "Content-Range": told})


async def _asked(first: str, last: str, document: Document, documents: DocumentService) -> tuple[int, int]:
    """Where the part begins, and how many bytes of it are wanted."""
    if not first:
        total = (await documents.content_part(document, 0, 1)).total
        length = min(int(last), total)
        return total - length, length
    start = int(first)
    if not last:
        return start, PART_BYTES
    if int(last) < start:
        raise InvalidRange("the header Range asks for an end before its beginning")
    return start, int(last) - start + 1


async def _whole(part: FilePart, document: Document, documents: DocumentService) -> AsyncIterator[bytes]:
    yield part.data
    total = part.total
    while (start := part.start + len(part.data)) < total:
        part = await documents.content_part(document, start, PART_BYTES)
        yield part.data
