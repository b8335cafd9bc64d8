"""Fields, filters, listing and deletion over HTTP."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from serve_app.errors import InvalidConfig
from serve_app.http.filter_wire import FilterText
from serve_app.types import And, Compare, EncoderCard, Not, Operator, Or, TableInfo
from tests.fakes.table import MemoryTable
from tests.http.conftest import app_of, client_of, error_of
from tests.http.test_documents import BOAT_64, add
from tests.unit.services.conftest import make_system

FILTER_OF_ALL_KINDS = {
    "or": [
        {"and": [{"field": "price", "gte": 5, "lt": 20}, {"field": "tags", "any": ["sea"]}]},
        {"not": {"field": "taken_at", "exists": True}},
    ]
}


@pytest.fixture
async def filled(client: httpx.AsyncClient) -> httpx.AsyncClient:
    documents = [
        {"id": "a", "text": "a red boat", "fields": {"price": 4, "tags": ["sea", "red"]}},
        {
            "id": "b",
            "text": "a blue boat",
            "fields": {"price": 19.5, "tags": [], "taken_at": "2026-11-24T21:00:00+09:00"},
        },
        {"id": "c", "image": {"base64": BOAT_64}, "fields": {"tags": ["sea"], "taken_at": "2026-11-25"}},
        {"id": "d", "text": "a cat", "fields": {"price": None}},
    ]
    answer = (await add(client, *documents)).json()
    assert [item["status"] for item in answer["items"]] == ["stored"] * 4
    return client


async def listed(client: httpx.AsyncClient, where: Mapping[str, Any] | None = None, **more: Any) -> list[str]:
    parameters = {**more, **({} if where is None else {"filter": json.dumps(where)})}
    answer = await client.get("/v1/documents", params=parameters)
    assert answer.status_code == 200, answer.text
    return [document["id"] for document in answer.json()["documents"]]


async def test_fields_come_back_in_their_types(filled: httpx.AsyncClient) -> None:
    found = (await filled.get("/v1/documents/b")).json()
    assert found["fields"] == {"price": 19.5, "tags": [], "taken_at": "2026-11-24T12:00:00Z"}
    assert (await filled.get("/v1/documents/d")).json()["fields"] == {}
    search = await filled.post("/v1/search", json={"query": {"text": "blue boat"}, "modalities": ["text"], "limit": 1})
    assert search.json()["results"][0]["fields"]["price"] == 19.5
    assert (await filled.get("/v1/table")).json()["fields"] == {
        "price": "float",
        "tags": "strings",
        "taken_at": "timestamp",
    }


async def test_other_fields_are_stored_and_the_same_are_unchanged(filled: httpx.AsyncClient) -> None:
    again = {"id": "a", "text": "a red boat", "fields": {"price": 4.0, "tags": ["sea", "red"]}}
    assert (await add(filled, again)).json()["items"][0]["status"] == "unchanged"
    again["fields"] = {"price": 5}
    assert (await add(filled, again)).json()["items"][0]["status"] == "stored"
    assert (await filled.get("/v1/documents/a")).json()["fields"] == {"price": 5.0}


async def test_a_document_with_a_wrong_field_fails_alone(client: httpx.AsyncClient) -> None:
    wrong = [{"id": "x", "text": "a cat", "fields": fields} for fields in ({"colour": 1}, {"price": "4"}, {"tags": {}})]
    items = (await add(client, *wrong, {"id": "y", "text": "a cat"})).json()["items"]
    assert [item.get("error", {}).get("code") for item in items] == ["invalid_field"] * 3 + [None]
    assert items[0]["error"]["message"].endswith("declared are: price, tags, taken_at")
    status, code, message = error_of(await add(client, wrong[1]))
    assert (status, code) == (422, "invalid_field")
    assert "'price' (float) takes a finite number" in message


async def test_documents_are_listed_by_id_page_by_page(filled: httpx.AsyncClient) -> None:
    assert await listed(filled) == ["a", "b", "c", "d"]
    first = (await filled.get("/v1/documents", params={"limit": 3})).json()
    assert [document["id"] for document in first["documents"]] == ["a", "b", "c"]
    rest = (await filled.get("/v1/documents", params={"limit": 3, "after": first["next_after"]})).json()
    assert ([document["id"] for document in rest["documents"]], rest["next_after"]) == (["d"], None)
    whole = (await filled.get("/v1/documents", params={"limit": 4})).json()
    assert whole["next_after"] is None
    assert await listed(filled, {"field": "tags", "exists": True}, limit=2, after="a") == ["b", "c"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"field": "price", "lt": 20}, ["a", "b"]),
        ({"field": "price", "gt": 4, "lte": 19.5}, ["b"]),
        ({"field": "price", "in": [4, 5]}, ["a"]),
        ({"not": {"field": "price", "lt": 5}}, ["b", "c", "d"]),
        ({"field": "price", "exists": False}, ["c", "d"]),
        ({"field": "tags", "all": ["red", "sea"]}, ["a"]),
        ({"field": "taken_at", "gte": "2026-11-24T12:00:00Z"}, ["b", "c"]),
        ({"field": "modality", "eq": "image"}, ["c"]),
        ({"field": "uri", "prefix": "memory://"}, ["c"]),
        (FILTER_OF_ALL_KINDS, ["a", "d"]),
    ],
)
async def test_a_filter_chooses(filled: httpx.AsyncClient, where: Mapping[str, Any], expected: list[str]) -> None:
    assert await listed(filled, where) == expected
    search = await filled.post("/v1/search", json={"query": {"text": "boat"}, "filter": where})
    assert sorted(result["id"] for result in search.json()["results"]) == expected
    answer = (await filled.post("/v1/documents:delete", json={"filter": where})).json()
    assert answer["deleted"] == len(expected)
    assert await listed(filled) == [each for each in ["a", "b", "c", "d"] if each not in expected]


async def test_searches_with_different_filters_do_not_mix(filled: httpx.AsyncClient) -> None:
    form = {"request": json.dumps({"filter": {"field": "price", "gt": 5}, "modalities": ["text"]})}
    answer = await filled.post("/v1/search", data=form, files={"image": b"picture: red boat"})
    assert [result["id"] for result in answer.json()["results"]] == ["b"]


@pytest.mark.parametrize(
    ("where", "code", "message"),
    [
        (
            {"field": "prize", "lt": 1},
            "invalid_filter",
            "updated_at, content_sha256, offset_s, price",
        ),
        (
            {"field": "price", "lt": "1; DROP TABLE"},
            "invalid_filter",
            "lt of the field 'price' (float) takes a finite number",
        ),
        ({"field": "price"}, "invalid_filter", "'price' needs one of eq, ne"),
        ({"field": "price", "eq": None}, "invalid_filter", "'price' needs one of eq, ne"),
        ({"field": "price", "like": "1"}, "invalid_request", "like: there is no such field"),
        ({"field": "price", "lt": [1]}, "invalid_request", "lt"),
        ({"field": "tags", "any": []}, "invalid_request", "any: expected at least 1 items"),
        ({"field": "tags", "any": "sea"}, "invalid_request", "any: expected a list"),
        ({"field": "id", "eq": "a", "and": []}, "invalid_request", "exactly one of field, and, or or not"),
        ({}, "invalid_request", "exactly one of field, and, or or not"),
        ([], "invalid_request", "exactly one of field, and, or or not"),
        ({"and": []}, "invalid_request", "and: expected at least 1 items"),
        ({"not": "price < 1"}, "invalid_request", "not: expected an object with exactly one of"),
        ({"field": "id", "eq": "x" * 3000}, "invalid_request", "eq"),
        ({"field": "id", "eq": "\ud800"}, "invalid_request", "not valid JSON"),
    ],
)
async def test_a_wrong_filter_is_said(filled: httpx.AsyncClient, where: Any, code: str, message: str) -> None:
    for answer in (
        await filled.get("/v1/documents", params={"filter": json.dumps(where)}),
        await filled.post("/v1/search", content=json.dumps({"query": {"text": "boat"}, "filter": where}), headers=JSON),
        await filled.post("/v1/documents:delete", content=json.dumps({"filter": where}), headers=JSON),
    ):
        status, found, said = error_of(answer)
        assert (status, found) == (422, code), said
        assert message in said
    assert len(await listed(filled)) == 4


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("depth", [17, 150, 5_000])
async def test_a_filter_too_deep_is_refused_however_deep_it_is(filled: httpx.AsyncClient, depth: int) -> None:
    where = '{"not": ' * depth + '{"field": "id", "eq": "a"}' + "}" * depth
    body = f'{{"query": {{"text": "boat"}}, "filter": {where}}}'
    status, code, _ = error_of(await filled.post("/v1/search", content=body, headers=JSON))
    assert status == 422
    assert code in ("invalid_filter", "invalid_request")


@pytest.mark.parametrize(
    "parameters",
    [{"limit": "0"}, {"limit": "1001"}, {"limit": "-1"}, {"filter": "price < 1"}, {"offset": "3"}, {"filter": ""}],
)
async def test_a_wrong_listing_is_refused(client: httpx.AsyncClient, parameters: dict[str, str]) -> None:
    status, code, _ = error_of(await client.get("/v1/documents", params=parameters))
    assert (status, code) == (422, "invalid_request")


async def test_documents_are_deleted_by_their_ids(filled: httpx.AsyncClient) -> None:
    answer = (await filled.post("/v1/documents:delete", json={"ids": ["a", "nobody", "c", "a"]})).json()
    assert answer["deleted"] == 2
    assert answer["table_version"] >= 2
    assert await listed(filled) == ["b", "d"]
    assert (await filled.post("/v1/documents:delete", json={"ids": ["a"]})).json()["deleted"] == 0


async def test_everything_is_deleted_only_where_that_is_said(filled: httpx.AsyncClient) -> None:
    for body in ({}, {"filter": None}, {"all": False}, {"ids": []}, {"all": None}, {"all": True, "ids": ["a"]}, []):
        assert error_of(await filled.post("/v1/documents:delete", json=body))[:2] == (422, "invalid_request")
    assert len(await listed(filled)) == 4
    assert (await filled.post("/v1/documents:delete", json={"all": True})).json()["deleted"] == 4
    assert await listed(filled) == []


def test_a_filter_on_the_wire_becomes_one_of_the_domain() -> None:
    parsed = FilterText.model_validate_json(json.dumps(FILTER_OF_ALL_KINDS)).root.to_filter()
    price = And((Compare("price", Operator.LT, 20), Compare("price", Operator.GTE, 5)))
    tags = Compare("tags", Operator.ANY, ("sea",))
    assert parsed == Or((And((price, tags)), Not(Compare("taken_at", Operator.EXISTS, True))))


class RefusingTable(MemoryTable):
    """A table that has a field which is not declared any more."""

    async def create(self, encoder: EncoderCard) -> TableInfo:
        raise InvalidConfig("the table has the field 'price' as float, and it is no longer declared")


async def test_a_declaration_that_does_not_fit_the_table_keeps_the_service_from_being_ready() -> None:
    async with client_of(app_of(make_system(RefusingTable()))) as client:
        status, code, message = error_of(await client.get("/readyz"))
    assert (status, code) == (503, "not_ready")
    assert message == "the table has the field 'price' as float, and it is no longer declared"
