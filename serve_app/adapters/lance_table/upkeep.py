"""What keeps a Lance table fast and small. Run behind the writers' backs: commits are optimistic, nothing is locked."""

from datetime import timedelta

import lancedb

from serve_app.adapters.lance_table.indexes import make_scalar_indexes


async def maintain(table: lancedb.AsyncTable, keep_versions: timedelta) -> None:
    """Make missing scalar indexes, merge small files, add new rows to every index, drop versions older than told."""
    await make_scalar_indexes(table)
    await table.optimize(cleanup_older_than=keep_versions)
