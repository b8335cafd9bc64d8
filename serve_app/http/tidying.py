"""What tidies up when told: kept pictures without documents, and the table. Parses, asks the service, renders; knows no rule."""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import InvalidRequest, Unavailable
from serve_app.http.answers import AnswerModel, json_of
from serve_app.http.bodies import read_json
from serve_app.http.operations import Answer, Operation
from serve_app.http.wire_model import NothingIn, WireModel
from serve_app.services.documents import DocumentService


class OrphansIn(WireModel):
    """Which part of the pictures to go through, and whether to remove what nothing points to."""

    remove: bool = Field(default=False, description="False only counts.")
    after: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{2}$",
        description="`next_after` of the answer before; null for the first call.",
    )


class OrphansOut(AnswerModel):
    """What was found in this part. Pictures of the last hour are never among it: their documents may be under way."""

    pictures: int = Field(description="Pictures that no document, snapshot or table points to.")
    bytes: int = Field(description="Their size.")
    removed: int
    removed_bytes: int
    next_after: str | None = Field(description="Ask for the next part with this as `after`; null after the last one.")


class OptimizedOut(AnswerModel):
    """How far it is."""

    done: bool = Field(description="False while it is still under way: ask again to wait on.")
    table_version: int = Field(description="A search with this `min_table_version` sees what has been done.")


def tidying_operations(documents: DocumentService) -> list[Operation]:
    """The operations, for routes and openapi.json."""

    async def orphans(request: Request) -> Response:
        asked = await read_json(request, OrphansIn)
        found = await documents.orphans(remove=asked.remove, after=asked.after)
        return json_of(OrphansOut(**{name: getattr(found, name) for name in OrphansOut.model_fields}))

    async def optimize(request: Request) -> Response:
        await read_json(request, NothingIn)
        optimized = await documents.optimize()
        return json_of(OptimizedOut(done=optimized.done, table_version=optimized.table_version))

    return [
        Operation(
            "POST",
            "/v1/table:optimize",
            optimize,
            "service",
            "Bring calibration, files and indexes up to date with every row, now",
            {200: Answer("It is done, or still under way after some seconds.", OptimizedOut)},
            "They are kept by themselves, once enough has changed. For who has stored much and measures next.",
            errors=(InvalidRequest, Unavailable),
            body=NothingIn,
        ),
        Operation(
            "POST",
            "/v1/pictures:gc",
            orphans,
            "documents",
            "Count, or remove, kept pictures that no document points to",
            {200: Answer("What was found, and removed.", OrphansOut)},
            "Goes through a part of the store that takes seconds; ask again with `next_after` until it is null.",
            errors=(InvalidRequest, Unavailable),
            body=OrphansIn,
        ),
    ]
