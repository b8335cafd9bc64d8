"""Errors to answers: the one table of statuses and the one form of an error body. Knows no route and no service.

Every error body is `{"error": {"code", "message", "request_id"}}`. What answers 500 is ours: it goes to the log with the request
id, and the client reads one generic sentence, whatever the error says of itself.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from serve_app.errors import (
    BodyTooLarge,
    Conflict,
    CrossmodalError,
    DeadlineExceeded,
    FingerprintMismatch,
    InternalError,
    InvalidRange,
    InvalidRequest,
    MethodNotAllowed,
    ModelUnavailable,
    NotFound,
    RouteNotFound,
    Unavailable,
    error_of,
)
from serve_app.types import ItemFailure

log = logging.getLogger("crossmodal.http")

STATUS: Mapping[type[BaseException], int] = {
    CrossmodalError: 500,
    InvalidRequest: 422,
    BodyTooLarge: 413,
    InvalidRange: 416,
    NotFound: 404,
    MethodNotAllowed: 405,
    Conflict: 409,
    Unavailable: 503,
    DeadlineExceeded: 504,
    FingerprintMismatch: 503,  # nothing the client sends can help; the operator has to act
    ModelUnavailable: 503,
}
"""The status of each error class; a class that is not here has that of its nearest ancestor."""

RETRY_AFTER_S = 1
GENERIC = "Something went wrong inside the service; its log has the details under this request id."


def status_of(error: type[BaseException]) -> int:
    """The HTTP status of an error class; 500 for whatever is not of our tree."""
    return next((STATUS[ancestor] for ancestor in error.__mro__ if ancestor in STATUS), 500)


def public(error: BaseException) -> CrossmodalError:
    """The error as a client may see it: what would answer 500 becomes one generic sentence."""
    if isinstance(error, CrossmodalError) and status_of(type(error)) != HTTPStatus.INTERNAL_SERVER_ERROR:
        return error
    return InternalError(GENERIC)


def error_of_failure(failure: ItemFailure) -> CrossmodalError:
    """The error that a failed item of a list stands for, as a client may see it."""
    return public(error_of(failure.code, failure.message))


def request_id_of(scope: Scope) -> str:
    """The id that RequestId gave to this request."""
    return str(scope.get("state", {}).get("request_id", ""))


def error_response(error: BaseException, scope: Scope) -> Response:
    """The answer to a request that failed with this error, which is logged if it is our own fault."""
    shown = public(error)
    request_id = request_id_of(scope)
    if isinstance(shown, InternalError):
        log.error("request %s failed: %s %r", request_id, scope["method"], scope["path"], exc_info=error)
    status = status_of(type(shown))
    retry = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 and isinstance(shown, Unavailable) else {}
    body = {"error": {"code": shown.code, "message": shown.message, "request_id": request_id}}
    return JSONResponse(body, status_code=status, headers={**retry, "Cache-Control": "no-store"})


async def answer_error(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for errors of our tree."""
    return error_response(error, request.scope)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for its own errors: 404 and 405 of the router, 400 of its parsers."""
    if not isinstance(error, HTTPException):
        raise error
    response = error_response(_translated(error, request), request.scope)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _translated(error: HTTPException, request: Request) -> CrossmodalError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return RouteNotFound("There is nothing at this address; GET /docs lists what there is.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = sorted((error.headers or {}).get("Allow", "").split(", "))
        return MethodNotAllowed(f"This address takes {', '.join(allowed)}; it does not take {request.method[:16]}.")
    if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return InvalidRequest(str(error.detail))
    return InternalError(str(error.detail))
