"""The application: operations, pages and middleware put together. Knows no adapter, no Ray and no model."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serve_app.errors import CrossmodalError
from serve_app.http.document_contract import document_operations
from serve_app.http.encoder_calls import encoder_operations
from serve_app.http.error_table import answer_error, answer_http_exception
from serve_app.http.jobs import job_operations
from serve_app.http.keeping import keeping_operations
from serve_app.http.limits import HttpLimits
from serve_app.http.middleware import BodyLimit, Deadline, LastNet, RequestId
from serve_app.http.openapi import openapi
from serve_app.http.operations import Answer, Operation, routes_of
from serve_app.http.pages import page_operations
from serve_app.http.search import search_operations
from serve_app.http.service import service_operations
from serve_app.http.tidying import tidying_operations
from serve_app.http.wire import RequestModels
from serve_app.services.classify import ClassifyService
from serve_app.services.documents import DocumentService
from serve_app.services.embeddings import EmbeddingService
from serve_app.services.jobs import JobService
from serve_app.services.keeping import KeepingService
from serve_app.services.search import SearchService
from serve_app.services.status import StatusService

CONTRACT_VERSION = "1"


def create_app(
    search: SearchService,
    documents: DocumentService,
    embeddings: EmbeddingService,
    classify: ClassifyService,
    status: StatusService,
    keeping: KeepingService,
    jobs: JobService,
    limits: HttpLimits | None = None,
    *,
    request_id_said_outside: bool = False,
) -> Starlette:
    """The HTTP contract over these services. `request_id_said_outside`: see RequestId."""
    limits = limits or HttpLimits()
    models = RequestModels(limits.max_documents, limits.max_listed_documents)
    operations = [
        # Routes are tried in this order: what is asked most often comes first.
        *search_operations(search, limits),
        *encoder_operations(embeddings, classify, limits),
        *document_operations(documents, models, limits),
        *tidying_operations(documents),
        *keeping_operations(keeping),
        *job_operations(jobs),
        *service_operations(status),
        *page_operations(),
    ]
    app = Starlette(
        routes=routes_of([*operations, _contract(operations)]),
        middleware=[
            Middleware(RequestId, said_outside=request_id_said_outside),
            Middleware(BodyLimit, max_body_bytes=limits.max_body_bytes),
            Middleware(Deadline, timeout_s=limits.request_timeout_s),
            Middleware(LastNet),
        ],
        exception_handlers={CrossmodalError: answer_error, HTTPException: answer_http_exception},
    )
    app.router.redirect_slashes = False  # a slash too many is a mistake that is better said than followed
    return app


def _contract(operations: list[Operation]) -> Operation:
    """GET /openapi.json, which stands in itself too."""

    async def handler(request: Request) -> Response:  # noqa: ARG001
        return JSONResponse(described, headers={"Cache-Control": "no-cache"})

    answer = Answer("An OpenAPI 3.1 document.", media_types=("application/json",))
    contract = Operation("GET", "/openapi.json", handler, "pages", "This contract", {200: answer})
    described = openapi([*operations, contract], CONTRACT_VERSION)
    return contract
