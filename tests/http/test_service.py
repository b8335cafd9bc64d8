import httpx
import pytest

from serve_app.types import ItemFailure, Readiness
from tests.fakes.parts import CARD, OTHER_CARD, FakeTextEncoding
from tests.http.conftest import app_of, client_of, error_of
from tests.unit.services.conftest import System, make_system


async def test_the_process_lives_whatever_else_is_broken(
    client: httpx.AsyncClient, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system.texts, "describe", None)
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_ready_service_shows_its_model_and_its_table(client: httpx.AsyncClient) -> None:
    body = (await client.get("/readyz")).json()
    assert body["ready"] is True
    assert body["model"]["fingerprint"] == body["table"]["fingerprint"] == CARD.fingerprint


async def test_a_service_over_the_table_of_another_model_is_not_ready_and_says_why(system: System) -> None:
    await system.status.readiness()
    other = make_system(system.table, FakeTextEncoding(OTHER_CARD))
    async with client_of(app_of(other)) as client:
        answer = await client.get("/readyz")
    status, code, message = error_of(answer)
    assert (status, code) == (503, "fingerprint_mismatch")
    assert "other" in message
    assert "retry-after" not in answer.headers


async def test_a_part_that_does_not_answer_is_a_reason_that_may_pass(
    client: httpx.AsyncClient, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def readiness() -> Readiness:
        return Readiness(ItemFailure("unavailable", "TextEncoder does not answer"), encoder=None, table=None)

    monkeypatch.setattr(system.status, "readiness", readiness)
    assert error_of(await client.get("/readyz"))[:2] == (503, "not_ready")


async def test_the_table_counts_each_modality_and_keeps_its_own_address_to_itself(client: httpx.AsyncClient) -> None:
    documents = [{"text": "a cat"}, {"text": "a boat"}, {"image": {"base64": "cGljdHVyZTogY2F0"}}]
    await client.post("/v1/documents", json={"documents": documents})
    answer = await client.get("/v1/table")
    body = answer.json()
    assert (body["counts"].get("text"), body["counts"].get("image"), body["total"]) == (2, 1, 3)
    assert (body["dimension"], body["fingerprint"]) == (CARD.dimension, CARD.fingerprint)
    assert "uri" not in body
    assert "memory://" not in answer.text


async def test_the_table_may_not_be_there_yet(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/table")).json()
    assert (body["version"], body["total"], body["fingerprint"]) == (0, 0, None)


async def test_the_model_is_a_list_of_one_with_all_that_makes_vectors_comparable(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    [model] = body["data"]
    assert (model["id"], model["object"], model["fingerprint"]) == ("fake", "model", CARD.fingerprint)
    assert (model["dimension"], model["context_length"]) == (CARD.dimension, CARD.context_length)
    assert model["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


async def test_head_is_answered_like_get(client: httpx.AsyncClient) -> None:
    assert (await client.head("/v1/table")).status_code == 200
