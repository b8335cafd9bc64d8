"""Snapshots and tables over HTTP, what `as_of` and `min_table_version` mean to a search, and the client's part in it."""

import asyncio

import httpx
import pytest

from serve_app.client import Client, NewDocument
from serve_app.errors import SnapshotExists, SnapshotNotFound, StaleTable, TableConflict, TableNotFound
from serve_app.types import TableEntry
from tests.fakes.keeping import MemoryKeeping
from tests.fakes.parts import CARD, OTHER_CARD, FakeTextEncoding
from tests.http.conftest import app_of, client_of, error_of
from tests.http.serving import serving
from tests.unit.services.conftest import System, make_system


async def add(client: httpx.AsyncClient, **texts: str) -> int:
    """Store texts by id; the version of the table that has them."""
    documents = [{"id": name, "text": text} for name, text in texts.items()]
    answer = await client.post("/v1/documents", json={"documents": documents})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["table_version"])


async def found(client: httpx.AsyncClient, words: str, **options: object) -> list[str]:
    answer = await client.post("/v1/search", json={"query": {"text": words}, **options})
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["results"]]


async def test_a_snapshot_is_made_told_searched_restored_and_deleted(client: httpx.AsyncClient) -> None:
    await add(client, cat="a cat", boat="a red boat")
    made = (await client.post("/v1/snapshots", json={"name": "before"})).json()
    assert (made["name"], made["documents"], made["fingerprint"]) == ("before", 2, CARD.fingerprint)
    await client.delete("/v1/documents/boat")
    assert await found(client, "red boat", limit=1) == ["cat"]
    assert await found(client, "red boat", limit=1, as_of="before") == ["boat"]
    assert (await client.get("/v1/snapshots")).json() == {"snapshots": [made]}
    restored = (await client.post("/v1/snapshots/before:restore")).json()["table_version"]
    assert restored > made["table_version"]
    assert await found(client, "red boat", limit=1, min_table_version=restored) == ["boat"]
    assert (await client.delete("/v1/snapshots/before")).json() == {"name": "before", "deleted": True}
    assert (await client.get("/v1/snapshots")).json() == {"snapshots": []}


async def test_a_document_asks_the_past_as_it_was_then(client: httpx.AsyncClient) -> None:
    await add(client, cat="a cat", kitten="a small cat", boat="a red boat", ship="a red ship")
    await client.post("/v1/snapshots", json={"name": "before"})
    await add(client, cat="a red boat")
    await client.delete("/v1/documents/boat")

    async def like(document_id: str, **options: object) -> httpx.Response:
        body = {"query": {"document_id": document_id}, "limit": 1, **options}
        return await client.post("/v1/search", json=body)

    def best(answer: httpx.Response) -> str:
        return str(answer.json()["results"][0]["id"])

    assert best(await like("cat")) == "ship"
    assert best(await like("cat", as_of="before")) == "kitten"
    assert best(await like("boat", as_of="before")) == "ship"
    assert (await like("boat")).json()["error"]["code"] == "document_not_found"
    unknown = await like("cat", as_of="nobody")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "snapshot_not_found")
    composed = {"query": {"all_of": [{"document_id": "cat"}, {"text": "a cat"}]}, "limit": 1}
    both = [composed, {**composed, "as_of": "before"}, {**composed, "as_of": "nobody"}]
    answers = (await client.post("/v1/search:batch", json={"searches": both})).json()["answers"]
    assert [best["id"] for best in answers[1]["results"]] == ["kitten"]
    assert answers[2]["error"]["code"] == "snapshot_not_found"


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/v1/snapshots", {"name": "taken"}, (409, "snapshot_exists")),
        ("POST", "/v1/snapshots", {"name": "a b"}, (422, "invalid_request")),
        ("POST", "/v1/snapshots", {"name": "2026-11-24"}, (422, "invalid_request")),
        ("POST", "/v1/snapshots", {}, (422, "invalid_request")),
        ("POST", "/v1/snapshots/nobody:restore", None, (404, "snapshot_not_found")),
        ("DELETE", "/v1/snapshots/nobody", None, (404, "snapshot_not_found")),
        ("POST", "/v1/tables/nobody:use", None, (404, "table_not_found")),
        ("DELETE", "/v1/tables/nobody", None, (404, "table_not_found")),
        ("DELETE", "/v1/tables/documents", None, (409, "table_conflict")),
        ("PUT", "/v1/snapshots", None, (405, "method_not_allowed")),
    ],
)
async def test_what_cannot_be_done_says_why(
    client: httpx.AsyncClient, method: str, path: str, body: object, expected: tuple[int, str]
) -> None:
    await add(client, cat="a cat")
    await client.post("/v1/snapshots", json={"name": "taken"})
    assert error_of(await client.request(method, path, json=body))[:2] == expected


async def test_nothing_is_kept_before_there_is_a_table(client: httpx.AsyncClient) -> None:
    assert error_of(await client.post("/v1/snapshots", json={"name": "early"}))[:2] == (503, "not_ready")


async def test_the_tables_are_told(client: httpx.AsyncClient) -> None:
    await add(client, cat="a cat")
    (table,) = (await client.get("/v1/tables")).json()["tables"]
    assert (table["name"], table["in_service"], table["documents"]) == ("documents", True, 1)
    assert (await client.post("/v1/tables/documents:use")).json()["table_version"] >= 2


async def test_a_table_is_used_only_if_nobody_wrote_since_where_that_is_asked(client: httpx.AsyncClient) -> None:
    await add(client, cat="a cat")
    version = (await client.post("/v1/writes:hold", json={"seconds": 20})).json()["table_version"]
    used = await client.post("/v1/tables/documents:use", params={"if_version": version})
    assert used.json()["table_version"] == version
    await add(client, boat="a red boat")
    late = await client.post("/v1/tables/documents:use", params={"if_version": version})
    assert error_of(late)[:2] == (409, "table_conflict")
    odd = await client.post("/v1/tables/documents:use", params={"if_version": "soon"})
    assert error_of(odd)[:2] == (422, "invalid_request")


@pytest.mark.parametrize("ended_by", ["/v1/writes:release", "/v1/tables/documents:use", None])
async def test_writes_wait_while_they_are_held_and_then_go_on(client: httpx.AsyncClient, ended_by: str | None) -> None:
    version = await add(client, cat="a cat")
    seconds = 20 if ended_by else 0.2
    held = await client.post("/v1/writes:hold", json={"seconds": seconds})
    assert held.json()["table_version"] >= version
    writing = asyncio.create_task(add(client, boat="a red boat"))
    await asyncio.sleep(0.05)
    assert not writing.done()
    assert await found(client, "red boat", limit=1) == ["cat"]
    if ended_by:
        (await client.post(ended_by, json={})).raise_for_status()
    assert await writing > version


@pytest.mark.parametrize("seconds", [0, -1, 31, "long"])
async def test_writes_are_not_held_for_long(client: httpx.AsyncClient, seconds: object) -> None:
    assert error_of(await client.post("/v1/writes:hold", json={"seconds": seconds}))[:2] == (422, "invalid_request")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"as_of": "nobody"}, (404, "snapshot_not_found")),
        ({"as_of": "2020-01-01T00:00:00Z"}, (404, "snapshot_not_found")),
        ({"as_of": ""}, (422, "invalid_request")),
        ({"min_table_version": 10**6}, (503, "stale_table")),
        ({"min_table_version": -1}, (422, "invalid_request")),
        ({"min_table_version": 1, "as_of": "nobody"}, (422, "invalid_request")),
    ],
)
async def test_a_state_that_is_not_there_cannot_be_searched(
    client: httpx.AsyncClient, options: dict[str, object], expected: tuple[int, str]
) -> None:
    await add(client, cat="a cat")
    answer = await client.post("/v1/search", json={"query": {"text": "cat"}, **options})
    assert error_of(answer)[:2] == expected
    assert ("retry-after" in answer.headers) == (expected[0] == 503)


async def test_a_search_that_asks_too_much_fails_alone(client: httpx.AsyncClient, system: System) -> None:
    await add(client, cat="a cat")
    asked = [{"query": {"text": "cat"}, "min_table_version": version} for version in (0, 10**6, 1)]
    answers = await asyncio.gather(*(client.post("/v1/search", json=body) for body in asked))
    assert [answer.status_code for answer in answers] == [200, 503, 200]


async def test_a_snapshot_of_another_encoders_table_cannot_be_searched(system: System) -> None:
    async with client_of(app_of(system)) as client:
        await add(client, cat="a cat")
        await client.post("/v1/snapshots", json={"name": "old"})
    other = make_system(system.table, FakeTextEncoding(OTHER_CARD))
    async with client_of(app_of(other)) as client:
        answer = await client.post("/v1/search", json={"query": {"text": "cat"}, "as_of": "old"})
    status, code, message = error_of(answer)
    assert (status, code) == (503, "fingerprint_mismatch")
    assert "as of old" in message


async def test_a_document_is_read_as_new_as_asked(client: httpx.AsyncClient) -> None:
    version = await add(client, cat="a cat")
    assert (await client.get(f"/v1/documents/cat?min_table_version={version}")).status_code == 200
    assert error_of(await client.get("/v1/documents/cat?min_table_version=999"))[:2] == (503, "stale_table")
    for wrong in ("-1", "x", "", "1" * 30):
        answer = await client.get(f"/v1/documents/cat?min_table_version={wrong}")
        assert error_of(answer)[:2] == (422, "invalid_request")


def test_the_client_has_a_call_for_each(system: System) -> None:
    asyncio.run(system.status.readiness())
    with serving(app_of(system)) as url, Client(url, retries=0) as client:
        made = client.create_snapshot("one")
        assert client.snapshots() == (made,)
        with pytest.raises(SnapshotExists):
            client.create_snapshot("one")
        assert client.restore_snapshot("one") > made.table_version
        client.delete_snapshot("one")
        with pytest.raises(SnapshotNotFound):
            client.restore_snapshot("one")
        with pytest.raises(SnapshotNotFound):
            client.search("cat", as_of="one")
        assert [each.name for each in client.tables()] == ["documents"]
        assert client.use_table("documents") == client.table().version
        with pytest.raises(TableConflict):
            client.drop_table("documents")
        with pytest.raises(TableNotFound):
            client.drop_table("nobody")


def test_a_table_beside_can_be_dropped(system: System) -> None:
    keeping = system.keeping._keeping
    assert isinstance(keeping, MemoryKeeping)
    keeping.beside["documents.old"] = TableEntry("documents.old", False, None, 0, "f" * 64, "fake")
    with serving(app_of(system)) as url, Client(url, retries=0) as client:
        client.drop_table("documents.old")
        assert [each.name for each in client.tables()] == ["documents"]


def test_the_client_asks_for_what_it_wrote(system: System) -> None:
    with serving(app_of(system)) as url, Client(url, retries=0) as client:
        list(client.add([NewDocument(id="cat", text="a cat")]))
        assert client.search("cat").results
        system.table.version = 0  # as a replica that has not seen the write
        with pytest.raises(StaleTable):
            client.search("cat")
        with pytest.raises(StaleTable):
            client.get("cat")
        with Client(url, retries=0, read_your_writes=False) as careless:
            list(careless.add([NewDocument(id="cat", text="a cat")]))
            assert careless.search("cat").results
