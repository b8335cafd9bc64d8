"""Handles dressed as ports. Ray's errors become ours here, once; nothing beyond this file knows that a call left the process.

A Serve call costs milliseconds however small it is, so calls are coalesced at the caller: while some are under way, neighbours
gather and travel as one list. One call alone is never delayed. Every call may be repeated safely (encoding has no effect,
writes are idempotent), so a call to a replica that died is made again, on another one or on its successor.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from grpc import StatusCode
from grpc.aio import AioRpcError
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from configs.schema import CallConfig
from deployments.replica_count import ReplicaCount
from serve_app.core.batching import Batcher
from serve_app.core.together import together
from serve_app.errors import CrossmodalError, InternalError, Overloaded, Unavailable
from serve_app.types import (
    DeletedRows,
    DeleteOutcome,
    Document,
    EmbeddedPicture,
    EmbeddedVideo,
    Embedding,
    EncoderCard,
    FilePart,
    Filter,
    FloatMatrix,
    InlinePicture,
    ItemFailure,
    Optimized,
    Orphans,
    PictureContent,
    PictureTask,
    Pixels,
    Record,
    SearchPage,
    Snapshot,
    StoredDocument,
    TableEntry,
    TableInfo,
    UpsertOutcome,
    VectorQuery,
    VideoUri,
)

Texts: TypeAlias = Batcher[str, Embedding | ItemFailure]
Pictures: TypeAlias = Batcher[Pixels, Embedding | ItemFailure]
Tasks: TypeAlias = Batcher[PictureTask, EmbeddedPicture | ItemFailure]
T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger(__name__)
# A search has one text or a few, and somebody waits for it; documents that are stored come by the hundred.
FEW_TEXTS = 8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
# Calls that carry pictures, pixels or many vectors. Serve's gRPC, which some ways to run it take for all calls, is quick for
# small messages only and refuses those over 4 MiB; these go through Ray's object store, whatever the others do. Others do so
# when they turn out to be too large: a page of results has texts of up to 100,000 characters each.
LARGE = frozenset(
    {
        *("embed_pictures", "encode_pixels", "read_picture", "thumbnail", "upsert", "get", "find"),
        *("embed_videos", "read_file_part", "replace"),
    }
)


class Target:
    """One deployment, by its handle. `counted_by`: the method that tells how many replicas there are, see ReplicaCount."""

    def __init__(self, handle: DeploymentHandle[Any], calls: CallConfig, counted_by: str | None = None) -> None:
        self._handle = handle
        self._calls = calls
        self._replicas = ReplicaCount(handle, counted_by) if counted_by else lambda: 1

    async def call(self, method: str, *arguments: Any, large: bool = False, **keywords: Any) -> Any:
        """The method's result. `large`: it travels as those in LARGE do.

        Raises errors of serve_app.errors only; waits out the death of a replica.
        """
        handle = self._handle.options(method_name=method)
        by_reference = large or method in LARGE
        if by_reference:
            handle = handle.options(_by_reference=True)
        deadline = time.monotonic() + self._calls.retry_for_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await _answer_of(handle.remote(*arguments, **keywords))
            except (RayActorError, DeploymentUnavailableError) as error:
                if time.monotonic() + pause_s > deadline:
                    raise Unavailable(f"{self._handle.deployment_name} does not answer") from error
                log.warning("%s.%s: the replica is gone, trying again", self._handle.deployment_name, method)
            except AioRpcError as error:
                if by_reference or error.code() is not StatusCode.RESOURCE_EXHAUSTED:
                    raise translate(error, self._handle.deployment_name) from error
                handle, by_reference = handle.options(_by_reference=True), True
                continue
            except (RayError, RayServeException) as error:
                raise translate(error, self._handle.deployment_name) from error
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def coalesced(self, method: str, *, max_wait_s: float | None = None, **keywords: Any) -> Batcher[Any, Any]:
        """Calls of a method that takes one list and returns one of the same length. `keywords`: of each, see `call`."""
        calls = self._calls
        return self._batcher(method, keywords, calls.max_batch_size, calls.max_in_flight, max_wait_s=max_wait_s)

    def coalesced_in_turn(
        self, method: str, max_items: int, *, max_wait_s: float | None = None, **keywords: Any
    ) -> Batcher[Any, Any]:
        """The same where a replica works on one call after the other, and on at most so many items at a time.

        A call that waits for another one there is worth it only if it is full; what comes meanwhile would miss it.
        """
        calls = self._calls
        return self._batcher(
            method,
            keywords,
            min(calls.max_batch_size, max_items),
            calls.max_in_flight,
            max_partial_in_flight=1,
            max_wait_s=max_wait_s,
        )

    def coalesced_files(self, method: str, *, at_hand: bool = False, **keywords: Any) -> Batcher[Any, Any]:
        """The same for items of megabytes each: fewer in a call, more calls side by side.

        `at_hand`: nothing has to be fetched or stored for them, so that waiting for a full call never is waiting for a slow host.
        """
        calls = self._calls
        return self._batcher(
            method,
            keywords,
            calls.max_pictures_per_call,
            calls.max_picture_calls,
            max_partial_in_flight=calls.max_partial_picture_calls if at_hand else None,
        )

    def _batcher(
        self,
        method: str,
        keywords: Mapping[str, Any],
        max_batch_size: int,
        max_in_flight: int,
        *,
        max_partial_in_flight: int | None = None,
        max_wait_s: float | None = None,
    ) -> Batcher[Any, Any]:
        async def run(items: Sequence[Any]) -> Sequence[Any]:
            results: Sequence[Any] = await self.call(method, items, **keywords)
            return results

        return Batcher(
            run,
            max_batch_size=max_batch_size,
            max_queued_items=self._calls.max_queued_items,
            max_wait_s=max_wait_s or self._calls.max_wait_s,
            max_in_flight=max_in_flight,
            max_partial_in_flight=max_partial_in_flight,
            servers=self._replicas,
            cancel_abandoned=True,
        )


async def _by_lane(items: Sequence[T], lane: Callable[[T], Batcher[T, R]]) -> list[R]:
    """The results of items that travel by different coalescers, in order."""
    lanes = [lane(item) for item in items]
    of_lane: dict[Batcher[T, R], list[T]] = {}
    for item, its_lane in zip(items, lanes, strict=True):
        of_lane.setdefault(its_lane, []).append(item)
    found = await together(*(its_lane.submit_all(of_it) for its_lane, of_it in of_lane.items()))
    results = {its_lane: iter(of_it) for its_lane, of_it in zip(of_lane, found, strict=True)}
    return [next(results[its_lane]) for its_lane in lanes]


async def _answer_of(response: Any) -> Any:
    """What a call answers. Given up here, it is given up there: what waits in the other's queue is not computed any more."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def translate(error: Exception, deployment: str) -> CrossmodalError:
    """Our error for one of Ray's. The text of a remote error holds a traceback: it goes to the log, never into the answer."""
    if isinstance(error, BackPressureError):
        return Overloaded("too many requests are waiting; try again shortly")
    cause = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(cause, CrossmodalError):
        return type(cause)(cause.message)
    if isinstance(cause, BackPressureError):
        return Overloaded("too many requests are waiting; try again shortly")
    if isinstance(cause, (RayActorError, DeploymentUnavailableError)):
        return Unavailable(f"a part that {deployment} needs does not answer")
    log.error("%s failed", deployment, exc_info=error)
    return InternalError("something went wrong inside; the log of the service has the details")


class RemoteTextEncoder:
    """ports.TextEncoding by the TextEncoder. Who asks with a few texts never waits behind the many of others.

    `max_batch_texts`: so many the encoder takes at a time; a call brings no more, where that is known.
    """

    def __init__(self, handle: DeploymentHandle[Any], calls: CallConfig, max_batch_texts: int | None = None) -> None:
        self._target = Target(handle, calls, counted_by="describe")
        in_turn = partial(self._target.coalesced_in_turn, "encode_texts", max_batch_texts or calls.max_batch_size)
        self._few: Texts = in_turn(max_wait_s=calls.max_short_wait_s, urgent=True)
        self._many: Texts = in_turn()

    async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        return await (self._few if len(texts) <= FEW_TEXTS else self._many).submit_all(texts)

    async def describe(self) -> EncoderCard:
        card: EncoderCard = await self._target.call("describe")
        return card


class RemoteImageEncoder:
    """ports.PixelEncoding by the ImageEncoder."""

    def __init__(self, handle: DeploymentHandle[Any], calls: CallConfig) -> None:
        self._target = Target(handle, calls)
        self._urgent: Pictures = self._target.coalesced_files("encode_pixels", at_hand=True, urgent=True)
        self._others: Pictures = self._target.coalesced_files("encode_pixels", at_hand=True)

    async def encode_pixels(self, pictures: Sequence[Pixels], *, urgent: bool = False) -> list[Embedding | ItemFailure]:
        return await (self._urgent if urgent else self._others).submit_all(pictures)

    async def describe(self) -> EncoderCard:
        card: EncoderCard = await self._target.call("describe")
        return card


class RemotePreprocessor:
    """ports.PictureWork by the Preprocessor."""

    def __init__(self, handle: DeploymentHandle[Any], calls: CallConfig) -> None:
        self._target = Target(handle, calls)
        self._at_hand: Tasks = self._target.coalesced_files("embed_pictures", at_hand=True)
        self._fetched: Tasks = self._target.coalesced_files("embed_pictures")
        self._kept: Tasks = self._target.coalesced_files("embed_pictures")
        self._uris: Batcher[str, str | ItemFailure] = self._target.coalesced_files("identify_pictures")
        self._signed: Batcher[str, str | None] = self._target.coalesced("sign")

    async def embed_pictures(self, tasks: Sequence[PictureTask]) -> list[EmbeddedPicture | ItemFailure]:
        # Apart: who sends a picture with the question does not wait for what others have fetched, and neither for what is stored.
        def lane(task: PictureTask) -> Tasks:
            if task.keep:
                return self._kept
            return self._at_hand if isinstance(task.picture, InlinePicture) else self._fetched

        return await _by_lane(tasks, lane)

    async def identify_pictures(self, uris: Sequence[str]) -> list[str | ItemFailure]:
        return await self._uris.submit_all(uris)

    async def sign(self, uris: Sequence[str]) -> list[str | None]:
        return await self._signed.submit_all(uris)

    async def read_picture(self, uri: str) -> PictureContent:
        content: PictureContent = await self._target.call("read_picture", uri)
        return content

    async def thumbnail(self, uri: str, size_px: int) -> PictureContent:
        content: PictureContent = await self._target.call("thumbnail", uri, size_px)
        return content

    async def identify_videos(self, videos: Sequence[VideoUri]) -> list[str | ItemFailure]:
        found: list[str | ItemFailure] = await self._target.call("identify_videos", videos)
        return found

    async def embed_videos(self, videos: Sequence[VideoUri]) -> list[EmbeddedVideo | ItemFailure]:
        embedded: list[EmbeddedVideo | ItemFailure] = await self._target.call("embed_videos", videos)
        return embedded

    async def read_file_part(self, uri: str, start: int, length: int) -> FilePart:
        part: FilePart = await self._target.call("read_file_part", uri, start, length)
        return part


class RemoteRetriever:
    """ports.Retrieval by the Retriever."""

    def __init__(self, handle: DeploymentHandle[Any], calls: CallConfig) -> None:
        self._target = Target(handle, calls, counted_by="check_health")
        self._queries: Batcher[VectorQuery, SearchPage | ItemFailure] = self._target.coalesced("search")
        self._with_vectors: Batcher[VectorQuery, SearchPage | ItemFailure] = self._target.coalesced(
            "search", large=True
        )
        self._ids: Batcher[str, StoredDocument | None] = self._target.coalesced("get")

    async def search(self, queries: Sequence[VectorQuery]) -> list[SearchPage | ItemFailure]:
        # Pages with vectors are large: searches that ask for some travel apart from those that do not.
        return await _by_lane(queries, lambda query: self._with_vectors if query.vectors else self._queries)

    async def get(
        self, ids: Sequence[str], min_table_version: int = 0, as_of: str | None = None
    ) -> list[StoredDocument | None]:
        if min_table_version or as_of is not None:
            # By itself: what travels together is not all asked of the same version.
            rows: list[StoredDocument | None] = await self._target.call("get", ids, min_table_version, as_of)
            return rows
        return await self._ids.submit_all(ids)

    async def find(self, where: Filter | None, limit: int, after: str | None = None) -> list[Document]:
        found: list[Document] = await self._target.call("find", where, limit, after)
        return found

    async def count(self, where: Filter) -> int:
        count: int = await self._target.call("count", where)
        return count

    async def table_info(self) -> TableInfo:
        info: TableInfo = await self._target.call("table_info")
        return info


class RemoteIndexer:
    """ports.Indexing and ports.TableKeeping by the Indexer."""

    def __init__(self, handle: DeploymentHandle[Any], calls: CallConfig) -> None:
        self._target = Target(handle, calls)
        self._records: Batcher[Record, UpsertOutcome | ItemFailure] = self._target.coalesced("upsert")

    async def prepare_table(self, encoder: EncoderCard, usual_texts: FloatMatrix | None = None) -> TableInfo:
        info: TableInfo = await self._target.call("prepare_table", encoder, usual_texts)
        return info

    async def upsert(self, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        return await self._records.submit_all(records)

    async def replace(self, where: Filter, records: Sequence[Record]) -> list[UpsertOutcome | ItemFailure]:
        written: list[UpsertOutcome | ItemFailure] = await self._target.call("replace", where, records)
        return written

    async def delete(self, ids: Sequence[str]) -> list[DeleteOutcome]:
        outcomes: list[DeleteOutcome] = await self._target.call("delete", ids)
        return outcomes

    async def delete_matching(self, where: Filter | None) -> DeletedRows:
        deleted: DeletedRows = await self._target.call("delete_matching", where)
        return deleted

    async def optimize(self) -> Optimized:
        optimized: Optimized = await self._target.call("optimize")
        return optimized

    async def orphans(self, remove: bool, after: str | None = None) -> Orphans:
        found: Orphans = await self._target.call("orphans", remove, after)
        return found

    async def create_snapshot(self, name: str) -> Snapshot:
        snapshot: Snapshot = await self._target.call("create_snapshot", name)
        return snapshot

    async def snapshots(self) -> list[Snapshot]:
        snapshots: list[Snapshot] = await self._target.call("snapshots")
        return snapshots

    async def restore_snapshot(self, name: str) -> int:
        version: int = await self._target.call("restore_snapshot", name)
        return version

    async def delete_snapshot(self, name: str) -> None:
        await self._target.call("delete_snapshot", name)

    async def tables(self) -> list[TableEntry]:
        tables: list[TableEntry] = await self._target.call("tables")
        return tables

    async def version(self) -> int:
        version: int = await self._target.call("version")
        return version

    async def use_table(self, name: str, if_version: int | None = None) -> int:
        version: int = await self._target.call("use_table", name, if_version)
        return version

    async def hold_writes(self, seconds: float) -> int:
        version: int = await self._target.call("hold_writes", seconds)
        return version

    async def release_writes(self) -> None:
        await self._target.call("release_writes")

    async def drop_table(self, name: str) -> None:
        await self._target.call("drop_table", name)
