"""What a job has done, on the storage of its table: `<table.uri>/_jobs/<id>/`. Survives whatever happens to the job.

`done/`: a file for each commit, written right after it, with the hashes of the keys that need no more work. A crash between a
commit and its file costs that commit's work once more, and no row: commits are merges by id. `failures/`: what could not be
stored. `state.json`: how the job stands. Knows no Ray and no row of the table.
"""

import hashlib
import io
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from configs.schema import TableConfig
from serve_app.adapters.job_records import FAILURES, JOBS, STATE
from serve_app.adapters.object_folder import ObjectFolder
from serve_app.core.jobs import state_from_bytes, state_to_bytes
from serve_app.types import ItemFailure, JobState

ALL_FAILURES = "failures.parquet"
FAILURE_SCHEMA = pa.schema(
    [("key", pa.string()), ("uri", pa.string()), ("code", pa.string()), ("message", pa.string())]
)
READERS = 16

Hashes = npt.NDArray[np.uint64]
STORED_KNOWN, STORED_ENCODED, UNCHANGED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Done:
    """All that earlier attempts did: the sorted hashes of keys, and how many of them are of which kind."""

    hashes: Hashes
    stored: int = 0
    encoded: int = 0
    unchanged: int = 0


def jobs_folder(table: TableConfig) -> ObjectFolder:
    return ObjectFolder(f"{table.uri.rstrip('/')}/{JOBS}", table.options)


def hashes_of(keys: Sequence[str]) -> Hashes:
    """64 bits of each key: at 100 million keys the chance that any two of them share a hash is one in four thousand."""
    digests = (hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest() for key in keys)
    return np.frombuffer(b"".join(digests), np.uint64)


def is_among(hashes: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    """For each hash whether it is one of the sorted `known` ones."""
    if not len(known):
        return np.zeros(len(hashes), np.bool_)
    found: npt.NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
    return found


class Ledger:
    """Of one job. Opened in each process that notes something."""

    def __init__(self, table: TableConfig, job_id: str) -> None:
        self._folder = ObjectFolder(f"{jobs_folder(table).uri}/{job_id}", table.options)
        self.failures_uri = f"{self._folder.uri}/{ALL_FAILURES}"

    def state(self) -> JobState | None:
        data = self._folder.get(STATE)
        return None if data is None else state_from_bytes(data)

    def save_state(self, state: JobState) -> None:
        self._folder.put(STATE, state_to_bytes(state))

    def note_done(self, keys: Sequence[str], kinds: Sequence[int]) -> None:
        """These keys need no more work: their commit has been made."""
        rows = pa.table({"key": pa.array(hashes_of(keys)), "kind": pa.array(kinds, pa.uint8())})
        self._folder.put(f"done/{uuid.uuid4().hex}.parquet", _to_parquet(rows))

    def note_failures(self, attempt: int, failures: Mapping[str, tuple[str | None, ItemFailure]]) -> None:
        """By key the URI and why it could not be stored."""
        rows = [
            {"key": key, "uri": uri, "code": failure.code, "message": failure.message}
            for key, (uri, failure) in failures.items()
        ]
        data = _to_parquet(pa.Table.from_pylist(rows, FAILURE_SCHEMA))
        self._folder.put(f"{FAILURES}/{attempt:04}-{uuid.uuid4().hex}.parquet", data)

    def done(self) -> Done:
        """What is noted as done."""
        found = list(self._read("done"))
        if not found:
            return Done(np.empty(0, np.uint64))
        rows = pa.concat_tables(found)
        # A writer that was lost after its note, or two attempts, may have noted a key twice.
        hashes, first = np.unique(rows.column("key").to_numpy(), return_index=True)
        kinds = np.bincount(rows.column("kind").to_numpy()[first], minlength=3)
        return Done(hashes, int(kinds[:2].sum()), int(kinds[STORED_ENCODED]), int(kinds[UNCHANGED]))

    def failures(self, attempt: int) -> pa.Table:
        """What failed in this attempt, a row for each key; a later attempt tries again what failed in an earlier one."""
        found = list(self._read(f"{FAILURES}/{attempt:04}-"))
        rows = pa.concat_tables(found) if found else FAILURE_SCHEMA.empty_table()
        _, first = np.unique(np.asarray(rows.column("key").to_pylist(), dtype=object), return_index=True)
        return rows.take(pa.array(np.sort(first)))

    def save_failures(self, rows: pa.Table) -> None:
        self._folder.put(ALL_FAILURES, _to_parquet(rows))

    def _read(self, begin: str) -> Iterator[pa.Table]:
        names = [name for name in self._folder.names(begin.partition("/")[0]) if name.startswith(begin)]
        with ThreadPoolExecutor(READERS) as pool:
            for data in pool.map(self._folder.get, names):
                if data is not None:
                    yield pq.read_table(io.BytesIO(data))


def _to_parquet(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    return buffer.getvalue()
