"""What jobs have written down of themselves beside their table, `<table.uri>/_jobs/<id>/`, for whoever wants to know.

Read from any machine, and also when the cluster that ran a job is gone. Knows nothing of how jobs run, and writes nothing.
"""

import asyncio
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from serve_app.adapters.object_folder import ObjectFolder
from serve_app.core.jobs import state_from_bytes
from serve_app.types import FailedItem, JobState

JOBS = "_jobs"
STATE = "state.json"
FAILURES = "failures"
READERS = 16


class JobRecords:
    """Implements ports.JobReading. `options`: of the object store that holds the table."""

    def __init__(self, table_uri: str, options: Mapping[str, str] | None = None) -> None:
        self._folder = ObjectFolder(f"{table_uri.rstrip('/')}/{JOBS}", options)

    async def states(self) -> list[JobState]:
        return await asyncio.to_thread(self._states)

    async def state(self, job_id: str) -> JobState | None:
        return await asyncio.to_thread(self._state, job_id)

    async def failures(self, job_id: str, attempt: int, limit: int) -> list[FailedItem]:
        return await asyncio.to_thread(self._failures, job_id, attempt, limit)

    def _states(self) -> list[JobState]:
        with ThreadPoolExecutor(READERS) as pool:
            # A folder without a state is that of a job which is only just beginning.
            return [state for state in pool.map(self._state, self._folder.folders()) if state is not None]

    def _state(self, job_id: str) -> JobState | None:
        data = self._folder.get(f"{job_id}/{STATE}")
        return None if data is None else state_from_bytes(data)

    def _failures(self, job_id: str, attempt: int, limit: int) -> list[FailedItem]:
        # Here and not above: the Gateway reads failures seldom, and nothing else of Arrow's.
        import pyarrow.parquet as pq

        found: dict[str, FailedItem] = {}
        begin = f"{job_id}/{FAILURES}/{attempt:04}-"
        for name in self._folder.names(f"{job_id}/{FAILURES}"):
            data = self._folder.get(name) if name.startswith(begin) and len(found) < limit else None
            for row in pq.read_table(io.BytesIO(data)).to_pylist() if data is not None else ():
                found.setdefault(row["key"], FailedItem(row["key"], row["uri"], row["code"], row["message"]))
        return list(found.values())[:limit]
