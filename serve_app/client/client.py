"""The client's calls, one for each endpoint. Knows the names of the HTTP interface, and nothing behind it."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from serve_app.client.adding import Adder, picture_bytes
from serve_app.client.answers import (
    Added,
    Classification,
    Deletion,
    Embeddings,
    ImageSource,
    Job,
    Moment,
    NewDocument,
    Orphans,
    Ready,
    SearchResult,
    SearchResults,
    Snapshot,
    StoredDocument,
    Table,
    TableEntry,
    read_answer,
)
from serve_app.client.encoder import classify_request, embeddings_request, read_classification, read_embeddings
from serve_app.client.transport import Transport
from serve_app.errors import CrossmodalError, InvalidRequest, NotReady, error_of

POLL_S = 0.5
READINESS_TIMEOUT_S = 15.0


class Client:
    """One crossmodal service. Close it, or use it in a `with`; several threads may share it.

    `timeout_s`: longest wait for one answer. `retries`: how often a call is repeated that met a 503 or no answer.
    `max_documents`, `max_bytes`, `in_flight`: bounds of one request of `add`, and how many are under way at once.
    `read_your_writes`: what this client was told is stored or deleted, it finds so from then on, whichever replica answers.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        timeout_s: float = 90.0,
        retries: int = 5,
        max_documents: int = 64,
        max_bytes: int = 24_000_000,
        in_flight: int = 4,
        read_your_writes: bool = True,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = httpx.Client(base_url=url, timeout=timeout_s, transport=transport, follow_redirects=True)
        self._transport = Transport(self._http, retries, sleep)
        self._adder = Adder(self._transport, max_documents, max_bytes, in_flight)
        self._sleep = sleep
        self._read_your_writes = read_your_writes
        self._written_version = 0  # of the table, after the latest write of this client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def url(self) -> str:
        return self._transport.url

    def add(self, documents: Iterable[NewDocument]) -> Iterator[Added]:
        """Store any number of documents and tell of each, in order. Documents are taken, and pictures read, as needed.

        A document that cannot be stored fails alone (`Added.error`). Raises Unavailable when the service is gone.
        """
        for added in self._adder.add(documents):
            self._wrote(added.table_version)
            yield added

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageSource | None = None,
        like: str | None = None,
        vector: Sequence[float] | None = None,
        vector_modality: str = "text",
        modalities: Sequence[str] = (),
        limit: int = 10,
        ranking: str | None = None,
        where: Mapping[str, Any] | None = None,
        all_of: Sequence[Mapping[str, Any]] = (),
        as_of: str | None = None,
        include: Sequence[str] = (),
        **options: Any,
    ) -> SearchResults:
        """Search by exactly one of: words, a picture, the id of a stored document, a vector of the service's encoder, or
        several of them, as the service's JSON has them: `all_of=[{"text": "boat"}, {"text": "night", "weight": -1}]`.

        `modalities`: what may come back (text, image, image_text, video_frame), all when empty. `where`: a filter, such as
        {"field": "price", "lt": 20}, see docs/filters.md. `as_of`: the name of a snapshot, or an ISO 8601 time, to search
        what the table held then. `include`: `url` for addresses of pictures that a browser can fetch for a short while, `vector`.
        `options`: any other field of POST /v1/search, such as offset, min_confidence, diversity. Raises InvalidRequest and its
        kinds, SnapshotNotFound.
        """
        query = _query(text, image, like, vector, vector_modality, all_of)
        options = {"limit": limit, **options}
        if modalities:
            options["modalities"] = list(modalities)
        if ranking is not None:
            options["ranking"] = ranking
        if where is not None:
            options["filter"] = where
        if include:
            options["include"] = list(include)
        if as_of is not None:
            options["as_of"] = as_of
        else:
            options |= self._as_written()
        if image is None or isinstance(image, str):
            return _results(self._transport.json("POST", "/v1/search", json={"query": query, **options}))
        request_part = (None, json.dumps(options).encode(), "application/json")
        image_part = ("image", picture_bytes(image), "application/octet-stream")
        files = [("request", request_part), ("image", image_part)]
        return _results(self._transport.json("POST", "/v1/search", files=files))

    def search_many(self, searches: Sequence[Mapping[str, Any]]) -> list[SearchResults | CrossmodalError]:
        """Several searches in one round trip, each as the JSON of POST /v1/search: {"query": {"text": ...}, "limit": 5}.

        One that fails is the error in its place. Raises InvalidRequest where the whole has the wrong shape.
        """
        payload = self._transport.json("POST", "/v1/search:batch", json={"searches": list(searches)})
        return [
            error_of(str(each["error"]["code"]), str(each["error"]["message"])) if "error" in each else _results(each)
            for each in payload.get("answers", ())
        ]

    def embed(self, texts: Sequence[str] = (), *, images: Sequence[ImageSource] = ()) -> Embeddings:
        """Unit vectors of texts, then of pictures, in one request that nothing stores.

        Raises the error of the first item that is wrong, its place in the message, and InvalidRequest for more items than
        the service takes at once.
        """
        return read_embeddings(self._transport.json("POST", "/v1/embeddings", json=embeddings_request(texts, images)))

    def classify(
        self,
        images: Sequence[ImageSource],
        labels: Sequence[str],
        *,
        templates: Sequence[str] = (),
        limit: int | None = None,
    ) -> Classification:
        """Which of the labels fit each picture, zero-shot. A picture that is wrong fails alone (`Classified.error`).

        `templates`: sentences with `{}` where the label goes, the service's own when empty. `limit`: the best labels of each
        picture. Raises InvalidRequest and its kinds.
        """
        body = classify_request(images, labels, templates, limit)
        return read_classification(self._transport.json("POST", "/v1/classify", json=body))

    def get(self, document_id: str) -> StoredDocument:
        """A stored document. Raises DocumentNotFound."""
        return read_answer(StoredDocument, self._transport.json("GET", _path(document_id), params=self._as_written()))

    def documents(self, where: Mapping[str, Any] | None = None, *, page_size: int = 100) -> Iterator[StoredDocument]:
        """Every stored document, or every one that the filter matches, by id; asked for page by page. Raises InvalidFilter."""
        asked: dict[str, Any] = {"limit": page_size}
        if where is not None:
            asked["filter"] = json.dumps(where)
        while True:
            page = self._transport.json("GET", "/v1/documents", params=asked)
            yield from (read_answer(StoredDocument, each) for each in page.get("documents", ()))
            if page.get("next_after") is None:
                return
            asked["after"] = page["next_after"]

    def delete_many(
        self, *, where: Mapping[str, Any] | None = None, ids: Sequence[str] = (), everything: bool = False
    ) -> Deletion:
        """Delete what a filter matches, or these ids, or everything: exactly one of the three. Raises InvalidFilter.

        What is not there is not counted, nor what an attempt had deleted whose answer was lost.
        """
        asked: dict[str, Any] = {"ids": list(ids)} if ids else {}
        if where is not None:
            asked["filter"] = where
        if everything:
            asked["all"] = True
        deletion = read_answer(Deletion, self._transport.json("POST", "/v1/documents:delete", json=asked))
        self._wrote(deletion.table_version)
        return deletion

    def delete(self, document_id: str) -> None:
        """Delete a document, or a video with all its frames. Raises DocumentNotFound."""
        self._wrote(self._transport.json("DELETE", _path(document_id)).get("table_version"))

    def content(self, document_id: str) -> bytes:
        """The picture file of a document, as it was stored. Raises DocumentNotFound and PictureNotFound."""
        return self._transport.send("GET", f"{_path(document_id)}/content").content

    def thumbnail(self, document_id: str, size_px: int = 256) -> bytes:
        """A small picture file, its longer side at most `size_px`. Raises as `content` does."""
        return self._transport.send("GET", f"{_path(document_id)}/thumbnail", params={"size": size_px}).content

    def orphans(self, *, remove: bool = False) -> Orphans:
        """Count the kept pictures that no document points to, and remove them if told. Asks part by part until the end."""
        found = Orphans(0, 0, 0, 0)
        asked: dict[str, Any] = {"remove": remove}
        while True:
            answer = self._transport.json("POST", "/v1/pictures:gc", json=asked)
            part = read_answer(Orphans, answer)
            found = Orphans(*(getattr(found, name) + getattr(part, name) for name in Orphans.__slots__))
            if answer.get("next_after") is None:
                return found
            asked["after"] = answer["next_after"]

    def table(self) -> Table:
        """The state of the table."""
        return read_answer(Table, self._transport.json("GET", "/v1/table"))

    def optimize(self) -> int:
        """Bring calibration, files and indexes up to date with every row, now; returns the table's version then."""
        while True:
            answer = self._transport.json("POST", "/v1/table:optimize", json={})
            if answer["done"]:
                return int(answer["table_version"])

    def create_snapshot(self, name: str) -> Snapshot:
        """Keep the table as it is now, under a name. Raises SnapshotExists."""
        return read_answer(Snapshot, self._transport.json("POST", "/v1/snapshots", json={"name": name}))

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Every snapshot, the oldest first."""
        found = self._transport.json("GET", "/v1/snapshots").get("snapshots", ())
        return tuple(read_answer(Snapshot, each) for each in found)

    def restore_snapshot(self, name: str) -> int:
        """Make the table as it was; returns its new version. Raises SnapshotNotFound and TableConflict."""
        return self._changed("POST", f"/v1/snapshots/{quote(name, safe='')}:restore")

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot, and no document. Raises SnapshotNotFound."""
        self._transport.send("DELETE", f"/v1/snapshots/{quote(name, safe='')}")

    def tables(self) -> tuple[TableEntry, ...]:
        """The table in service and those beside it, by name."""
        found = self._transport.json("GET", "/v1/tables").get("tables", ())
        return tuple(read_answer(TableEntry, each) for each in found)

    def use_table(self, name: str, *, if_version: int | None = None) -> int:
        """Take a table into service; returns its version. Raises TableNotFound and TableConflict.

        `if_version`: only if the table in service has this version still.
        """
        condition = "" if if_version is None else f"?if_version={if_version}"
        return self._changed("POST", f"/v1/tables/{quote(name, safe='')}:use{condition}")

    def hold_writes(self, seconds: float) -> int:
        """Have all writes wait for so long, or until a table is taken into service; the version that stands still."""
        return int(self._transport.json("POST", "/v1/writes:hold", json={"seconds": seconds})["table_version"])

    def release_writes(self) -> None:
        """Let writes go on that are held."""
        self._transport.json("POST", "/v1/writes:release", json={})

    def drop_table(self, name: str) -> None:
        """Remove a table for good. Raises TableNotFound, and TableConflict while anybody may need it."""
        self._transport.send("DELETE", f"/v1/tables/{quote(name, safe='')}")

    def jobs(self) -> tuple[Job, ...]:
        """Bulk work: the latest jobs, the last to have said something first."""
        return tuple(read_answer(Job, each) for each in self._transport.json("GET", "/v1/jobs").get("jobs", ()))

    def job(self, job_id: str) -> Job:
        """One job, with what it could not store. Raises JobNotFound."""
        return read_answer(Job, self._transport.json("GET", f"/v1/jobs/{quote(job_id, safe='')}"))

    def models(self) -> Mapping[str, Any]:
        """The encoder that the service runs, as /v1/models describes it."""
        return self._transport.json("GET", "/v1/models")

    def ready(self) -> Ready:
        """Whether the service takes requests now. Asks once and does not raise: what is wrong is the `reason`."""
        try:
            self._transport.send("GET", "/readyz", repeat=False, timeout=READINESS_TIMEOUT_S)
        except CrossmodalError as error:
            return Ready(False, error.message, error.code)
        return Ready(True)

    def wait_until_ready(self, timeout_s: float = 300.0) -> None:
        """Return as soon as the service takes requests. Raises NotReady, with its last reason, after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not (state := self.ready()).ready:
            if time.monotonic() >= deadline:
                raise NotReady(f"the service is not ready after {timeout_s:.0f} s: {state.reason}")
            self._sleep(POLL_S)

    def _changed(self, method: str, path: str) -> int:
        version = int(self._transport.json(method, path)["table_version"])
        self._wrote(version)
        return version

    def _wrote(self, version: int | None) -> None:
        self._written_version = max(self._written_version, version or 0)

    def _as_written(self) -> dict[str, int]:
        """The option that makes the service show what this client wrote."""
        known = self._read_your_writes and self._written_version
        return {"min_table_version": self._written_version} if known else {}


def _path(document_id: str) -> str:
    # An id may hold slashes or question marks.
    return f"/v1/documents/{quote(document_id, safe='')}"


def _query(
    text: str | None,
    image: ImageSource | None,
    like: str | None,
    vector: Sequence[float] | None,
    vector_modality: str,
    all_of: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    if all_of:
        asked["all_of"] = list(all_of)
    if text is not None:
        asked["text"] = text
    if image is not None:
        asked["image"] = {"uri": image}
    if like is not None:
        asked["document_id"] = like
    if vector is not None:
        asked["vector"] = list(vector)
    if len(asked) != 1:
        raise InvalidRequest("a search takes exactly one of words, a picture, a document's id, a vector and all_of")
    return {**asked, "modality": vector_modality} if vector is not None else asked


def _results(payload: Mapping[str, Any]) -> SearchResults:
    results = tuple(_result(each) for each in payload.get("results", ()))
    return read_answer(SearchResults, {**payload, "results": results})


def _result(payload: Mapping[str, Any]) -> SearchResult:
    moments = tuple(read_answer(Moment, each) for each in payload.get("moments", ()))
    return read_answer(SearchResult, {**payload, "moments": moments})
