"""The operations on the service itself: is it alive, is it ready, what does it run, what does it hold. Knows no rule."""

from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import FingerprintMismatch, NotReady, Unavailable
from serve_app.http.answers import (
    HealthOut,
    ModelOut,
    ModelsOut,
    ReadyOut,
    TableOut,
    json_of,
    model_out,
    ready_out,
    table_out,
)
from serve_app.http.error_table import error_of_failure
from serve_app.http.operations import Answer, Operation
from serve_app.services.status import StatusService


class ServiceRoutes:
    """Handlers over one StatusService."""

    def __init__(self, status: StatusService) -> None:
        self._status = status

    async def healthz(self, request: Request) -> Response:  # noqa: ARG002 - alive whatever is asked
        return json_of(HealthOut())

    async def readyz(self, request: Request) -> Response:  # noqa: ARG002
        readiness = await self._status.readiness()
        if readiness.failure is not None:
            error = error_of_failure(readiness.failure)
            # What lasts keeps its code, so that nobody waits for it to pass.
            raise error if isinstance(error, FingerprintMismatch) else NotReady(readiness.failure.message)
        return json_of(ready_out(readiness))

    async def table(self, request: Request) -> Response:  # noqa: ARG002
        return json_of(table_out(await self._status.table()))

    async def models(self, request: Request) -> Response:  # noqa: ARG002
        model: ModelOut = model_out(await self._status.encoder())
        return json_of(ModelsOut(data=(model,)))


def service_operations(status: StatusService) -> list[Operation]:
    """The operations on the service itself, for routes and openapi.json."""
    routes = ServiceRoutes(status)
    return [
        Operation(
            "GET",
            "/v1/table",
            routes.table,
            "service",
            "The state of the table",
            {200: Answer("The state.", TableOut)},
            errors=(Unavailable,),
        ),
        Operation(
            "GET",
            "/v1/models",
            routes.models,
            "service",
            "The encoder",
            {200: Answer("One model.", ModelsOut)},
            errors=(Unavailable,),
        ),
        Operation(
            "GET",
            "/healthz",
            routes.healthz,
            "service",
            "Whether the process lives",
            {200: Answer("It does.", HealthOut)},
        ),
        Operation(
            "GET",
            "/readyz",
            routes.readyz,
            "service",
            "Whether a text and a picture go all the way through, and the table belongs to the encoder",
            {200: Answer("Everything answers and belongs together.", ReadyOut)},
            errors=(NotReady, FingerprintMismatch),
        ),
    ]
