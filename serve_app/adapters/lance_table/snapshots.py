"""Snapshots of one table of LanceDB: versions that have a name and stay. Knows no rows and no other table.

A snapshot is a branch of Lance that nobody writes to, forked from the version that it keeps. A tag would be the plainer means,
and cannot be used: pruning raises as soon as a tagged version is old enough to go, and LanceDB's `optimize` has no way around it.
A version from which a branch forks is left alone, its files too, and all others are pruned as ever; it can still be read and
restored on the main line. A branch costs one manifest and copies no rows.
"""

from datetime import UTC, datetime

import lancedb

from serve_app.adapters.lance_table.database import FOREIGN
from serve_app.core.history import version_at
from serve_app.errors import SnapshotExists


async def fork(table: lancedb.AsyncTable, name: str) -> None:
    """Keep the latest version under this name. Raises SnapshotExists."""
    await table.checkout_latest()  # type: ignore[no-untyped-call]
    try:
        await table.branches.create(name, None, await table.version())
    except FOREIGN as error:
        if name not in await table.branches.list():
            raise
        raise SnapshotExists(f"there is a snapshot {name!r} already") from error


async def forks(table: lancedb.AsyncTable) -> dict[str, int]:
    """The snapshots of a table: names and LanceDB's number of the version that each keeps."""
    found = await table.branches.list()
    return {name: int(branch["parent_version"]) for name, branch in found.items()}


async def forked_at(table: lancedb.AsyncTable, name: str) -> datetime:
    """When a snapshot was made."""
    versions = await (await table.branches.checkout(name)).list_versions()  # type: ignore[no-untyped-call]
    return _utc(versions[0]["timestamp"])


async def version_of(table: lancedb.AsyncTable, moment: datetime) -> int:
    """LanceDB's number of the version that was current then. Raises SnapshotNotFound if it is not kept."""
    versions = await table.list_versions()  # type: ignore[no-untyped-call]
    return version_at([(int(each["version"]), _utc(each["timestamp"])) for each in versions], moment)


def _utc(naive: datetime) -> datetime:
    """LanceDB tells the times of versions in the time of this machine, without saying so."""
    return naive.astimezone(UTC)
