"""How a job has a service go over to another table: by HTTP where one runs, by the table's own log where none does."""

import asyncio
import time
from typing import Protocol

from serve_app.adapters.lance_table import LanceTable
from serve_app.client import Client
from serve_app.errors import NotReady

POLL_S = 0.2


class Switchboard(Protocol):
    def hold_writes(self, seconds: float) -> int:
        """Have writes wait; the version of the table in service that stands still."""
        ...

    def use_table(self, name: str, if_version: int | None) -> int:
        """Raises TableConflict if the table in service has another version."""
        ...

    def release_writes(self) -> None: ...

    def wait_for(self, fingerprint: str, timeout_s: float) -> None:
        """Until searches and writes go through that encoder. Raises NotReady."""
        ...


class RunningService:
    """By HTTP."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def hold_writes(self, seconds: float) -> int:
        return self._client.hold_writes(seconds)

    def use_table(self, name: str, if_version: int | None) -> int:
        return self._client.use_table(name, if_version=if_version)

    def release_writes(self) -> None:
        self._client.release_writes()

    def wait_for(self, fingerprint: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            state = self._client.ready()
            served = self._client.models()["data"][0]["fingerprint"] if state.ready else None
            if served == fingerprint:
                return
            if time.monotonic() > deadline:
                raise NotReady(state.reason or "the service goes on with its former encoder")
            time.sleep(POLL_S)


class NoService:
    """Nobody reads or writes the table but this job."""

    def __init__(self, table: LanceTable, runner: asyncio.Runner) -> None:
        self._table = table
        self._runner = runner

    def hold_writes(self, seconds: float) -> int:  # noqa: ARG002 - there are no writes
        return self._runner.run(self._table.keeping.version())

    def use_table(self, name: str, if_version: int | None) -> int:
        return self._runner.run(self._table.keeping.use_table(name, if_version))

    def release_writes(self) -> None:
        return

    def wait_for(self, fingerprint: str, timeout_s: float) -> None:  # noqa: ARG002
        return
