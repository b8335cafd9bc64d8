"""The operations on snapshots, and on the tables beside the one in service. Parses, asks the service, renders; knows no rule."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import InvalidRequest, SnapshotExists, SnapshotNotFound, TableConflict, TableNotFound, Unavailable
from serve_app.http.answers import AnswerModel, json_of
from serve_app.http.bodies import read_json
from serve_app.http.operations import Answer, Operation, Parameter
from serve_app.http.wire_model import NothingIn, WireModel
from serve_app.services.keeping import KeepingService
from serve_app.types import Snapshot, TableEntry

SNAPSHOT_NAME = Parameter("name", "path", "The snapshot's name.")
# A client waits longer than this for its write to be answered.
LONGEST_HOLD_S = 30.0
IF_VERSION = Parameter(
    "if_version",
    "query",
    "Only if this is still the version of the table in service; else 409.",
    {"type": "integer", "minimum": 0},
)
TABLE_NAME = Parameter("name", "path", "The table's name, as GET /v1/tables tells it.")


class SnapshotIn(WireModel):
    """A snapshot to make of the table as it is now."""

    name: str = Field(
        description="1 to 64 of A-Z a-z 0-9 . _ -, and no time.", max_length=200, examples=["before-the-import"]
    )


class SnapshotOut(AnswerModel):
    """A state of the table that stays. Search it with `as_of`."""

    name: str
    table: str = Field(description="Which table it is one of, where there was more than one.")
    table_version: int
    created_at: datetime
    documents: int
    fingerprint: str = Field(description="Of the encoder that the table belongs to; no other can search it.")


class SnapshotsOut(AnswerModel):
    """Every snapshot, the oldest first."""

    snapshots: tuple[SnapshotOut, ...]


class TableVersionOut(AnswerModel):
    """What was asked for is done; a search with this `min_table_version` sees it."""

    table_version: int


class HoldIn(WireModel):
    """How long writes are to wait."""

    seconds: float = Field(description="From now on; a switch of tables ends it earlier.", gt=0, le=LONGEST_HOLD_S)


class SnapshotGoneOut(AnswerModel):
    name: str
    deleted: bool = True


class ReleasedOut(AnswerModel):
    released: bool = True


class TableEntryOut(AnswerModel):
    """A table in service or beside it."""

    name: str
    in_service: bool
    since: datetime | None = Field(description="When it was last taken into service; null if never.")
    documents: int
    fingerprint: str
    model: str


class TablesOut(AnswerModel):
    """The table in service and those beside it, by name."""

    tables: tuple[TableEntryOut, ...]


class TableGoneOut(AnswerModel):
    name: str
    dropped: bool = True


class KeepingRoutes:
    """Handlers over one KeepingService."""

    def __init__(self, keeping: KeepingService) -> None:
        self._keeping = keeping

    async def create(self, request: Request) -> Response:
        return json_of(_snapshot_out(await self._keeping.create_snapshot((await read_json(request, SnapshotIn)).name)))

    async def snapshots(self, request: Request) -> Response:  # noqa: ARG002 - all of them, whoever asks
        return json_of(SnapshotsOut(snapshots=tuple(map(_snapshot_out, await self._keeping.snapshots()))))

    async def delete(self, request: Request) -> Response:
        await self._keeping.delete_snapshot(request.path_params["name"])
        return json_of(SnapshotGoneOut(name=request.path_params["name"]))

    async def restore(self, request: Request) -> Response:
        version = await self._keeping.restore_snapshot(request.path_params["name"])
        return json_of(TableVersionOut(table_version=version))

    async def tables(self, request: Request) -> Response:  # noqa: ARG002
        return json_of(TablesOut(tables=tuple(map(_table_out, await self._keeping.tables()))))

    async def use(self, request: Request) -> Response:
        version = await self._keeping.use_table(request.path_params["name"], _if_version(request))
        return json_of(TableVersionOut(table_version=version))

    async def hold(self, request: Request) -> Response:
        seconds = (await read_json(request, HoldIn)).seconds
        return json_of(TableVersionOut(table_version=await self._keeping.hold_writes(seconds)))

    async def release(self, request: Request) -> Response:
        await read_json(request, NothingIn)
        await self._keeping.release_writes()
        return json_of(ReleasedOut())

    async def drop(self, request: Request) -> Response:
        await self._keeping.drop_table(request.path_params["name"])
        return json_of(TableGoneOut(name=request.path_params["name"]))


def keeping_operations(keeping: KeepingService) -> list[Operation]:
    """The operations on snapshots and tables, for routes and openapi.json."""
    routes = KeepingRoutes(keeping)
    return [*_snapshots(routes), *_tables(routes)]


def _snapshots(routes: KeepingRoutes) -> Sequence[Operation]:
    one = "/v1/snapshots/{name}"
    return [
        Operation(
            "POST",
            "/v1/snapshots",
            routes.create,
            "snapshots",
            "Keep the table as it is now, under a name",
            {200: Answer("The snapshot.", SnapshotOut)},
            "Costs one small object and copies no rows; the files of the snapshot stay until it is deleted.",
            errors=(InvalidRequest, SnapshotExists, Unavailable),
            body=SnapshotIn,
        ),
        Operation(
            "GET",
            "/v1/snapshots",
            routes.snapshots,
            "snapshots",
            "Every snapshot",
            {200: Answer("The snapshots.", SnapshotsOut)},
            errors=(Unavailable,),
        ),
        Operation(
            "POST",
            f"{one}:restore",
            routes.restore,
            "snapshots",
            "Make the table as it was",
            {200: Answer("The version that is like the snapshot.", TableVersionOut)},
            "A new version; what was written since stays in the versions between until they are pruned.",
            errors=(SnapshotNotFound, TableConflict, Unavailable),
            parameters=[SNAPSHOT_NAME],
        ),
        Operation(
            "DELETE",
            one,
            routes.delete,
            "snapshots",
            "Delete a snapshot, and no document",
            {200: Answer("It is gone.", SnapshotGoneOut)},
            errors=(SnapshotNotFound, Unavailable),
            parameters=[SNAPSHOT_NAME],
        ),
    ]


def _tables(routes: KeepingRoutes) -> Sequence[Operation]:
    one = "/v1/tables/{name}"
    return [
        Operation(
            "GET",
            "/v1/tables",
            routes.tables,
            "service",
            "The table in service and those beside it",
            {200: Answer("The tables.", TablesOut)},
            errors=(Unavailable,),
        ),
        Operation(
            "POST",
            f"{one}:use",
            routes.use,
            "service",
            "Take a table into service",
            {200: Answer("It is in service, at this version.", TableVersionOut)},
            "One commit; every replica follows by itself, and goes over to the encoders of that table, if they run beside the "
            "graph. Without them searches go on by the old table, and writes are refused.",
            errors=(TableNotFound, TableConflict, InvalidRequest, Unavailable),
            parameters=[TABLE_NAME, IF_VERSION],
        ),
        Operation(
            "POST",
            "/v1/writes:hold",
            routes.hold,
            "service",
            "Have writes wait for a few seconds",
            {200: Answer("The version of the table that stands still meanwhile.", TableVersionOut)},
            "They are answered afterwards. For who brings another table up to date and takes it into service.",
            errors=(InvalidRequest, Unavailable),
            body=HoldIn,
        ),
        Operation(
            "POST",
            "/v1/writes:release",
            routes.release,
            "service",
            "Let writes go on that wait",
            {200: Answer("They go on.", ReleasedOut)},
            errors=(InvalidRequest, Unavailable),
            body=NothingIn,
        ),
        Operation(
            "DELETE",
            one,
            routes.drop,
            "service",
            "Remove a table for good",
            {200: Answer("It is gone.", TableGoneOut)},
            "Refused while it is in service or may still be read, and while it has snapshots.",
            errors=(TableNotFound, TableConflict, Unavailable),
            parameters=[TABLE_NAME],
        ),
    ]


def _if_version(request: Request) -> int | None:
    given = request.query_params.get("if_version")
    if given is not None and not (given.isascii() and given.isdigit() and len(given) < 19):
        raise InvalidRequest("if_version: expected a whole number.")
    return None if given is None else int(given)


def _snapshot_out(snapshot: Snapshot) -> SnapshotOut:
    return SnapshotOut(**{name: getattr(snapshot, name) for name in SnapshotOut.model_fields})


def _table_out(table: TableEntry) -> TableEntryOut:
    return TableEntryOut(**{name: getattr(table, name) for name in TableEntryOut.model_fields})
