"""Kept pictures that nothing points to, and upkeep on demand: by HTTP, by the client and by the command."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from typer.testing import CliRunner

from serve_app.cli import app as commands
from serve_app.client import Client, NewDocument, Orphans
from serve_app.services import indexing
from serve_app.types import Modality
from serve_app.types import Orphans as Found
from tests.http.conftest import app_of, error_of
from tests.http.serving import serving
from tests.unit.services.conftest import System


@pytest.fixture
def asked(system: System) -> list[tuple[bool, str | None]]:
    """What the Indexer was asked; its store has two parts, with an orphan of ten bytes in each."""
    calls: list[tuple[bool, str | None]] = []

    class TwoParts:
        async def orphans(self, remove: bool, after: str | None = None) -> Found:
            calls.append((remove, after))
            return Found(1, 10, int(remove), 10 * remove, None if after else "7f")

    system.documents._indexing = TwoParts()  # type: ignore[assignment]
    return calls


async def test_orphans_are_counted_unless_removal_is_asked_for(
    client: httpx.AsyncClient, asked: list[tuple[bool, str | None]]
) -> None:
    answer = await client.post("/v1/pictures:gc", json={})
    assert answer.json() == {"pictures": 1, "bytes": 10, "removed": 0, "removed_bytes": 0, "next_after": "7f"}
    answer = await client.post("/v1/pictures:gc", json={"remove": True, "after": "7f"})
    assert answer.json() == {"pictures": 1, "bytes": 10, "removed": 1, "removed_bytes": 10, "next_after": None}
    assert asked == [(False, None), (True, "7f")]


@pytest.mark.parametrize(
    "body", [{"remove": "yes"}, {"after": "zz"}, {"after": "7f\n"}, {"after": 1}, {"delete": True}]
)
async def test_wrong_bodies_are_refused(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    assert error_of(await client.post("/v1/pictures:gc", json=body))[:2] == (422, "invalid_request")


def test_the_client_and_the_command_go_through_every_part(system: System, asked: list[tuple[bool, str | None]]) -> None:
    with serving(app_of(system)) as url:
        with Client(url, retries=0) as client:
            assert client.orphans() == Orphans(2, 20, 0, 0)

        def said(*words: str) -> str:
            return CliRunner().invoke(commands, ["gc", *words, "--url", url], env={"COLUMNS": "200"}).output

        assert said() == "no document points to 2 pictures, 20 bytes; remove them with crossmodal gc --yes\n"
        assert said("--yes") == "removed 2 of 2 pictures, 20 bytes\n"
    assert asked == [(False, None), (False, "7f")] * 2 + [(True, None), (True, "7f")]


async def test_upkeep_is_done_when_it_is_asked_for(client: httpx.AsyncClient, system: System) -> None:
    async def store(*ids: str) -> None:
        for each in ids:
            await client.post("/v1/documents", json={"documents": [{"id": each, "text": each}]})
        await system.indexing.settled()

    async def calibrated_rows() -> int:
        return (await system.table.calibration()).row_counts[Modality.TEXT]

    async def optimize() -> dict[str, object]:
        answer: dict[str, object] = (await client.post("/v1/table:optimize", json={})).json()
        return answer

    await store(*"abcdefghij")
    await optimize()
    await store("k")
    assert await calibrated_rows() == 10
    answer = await optimize()
    assert answer == {"done": True, "table_version": (await client.get("/v1/table")).json()["version"]}
    assert await calibrated_rows() == 11


async def test_upkeep_wants_no_options(client: httpx.AsyncClient) -> None:
    assert error_of(await client.post("/v1/table:optimize", json={"full": True}))[:2] == (422, "invalid_request")


def test_the_client_and_the_command_wait_until_upkeep_is_done(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "OPTIMIZE_S", 0.1)
    at_once, begun = system.table.maintain, []

    async def maintain(keep_versions: timedelta) -> None:
        begun.append(keep_versions)
        await asyncio.sleep(0.25 if len(begun) == 1 else 0)
        await at_once(keep_versions)

    monkeypatch.setattr(system.table, "maintain", maintain)
    with serving(app_of(system)) as url:
        with Client(url, retries=0) as client:
            assert [each.error for each in client.add([NewDocument("a boat")])] == [None]
            assert client.optimize() == client.table().version
            before = len(begun)
        said = CliRunner().invoke(commands, ["table", "optimize", "--url", url], env={"COLUMNS": "200"}).output
    assert said.startswith("the table is optimized (table version ")
    assert len(begun) == before + 1
