"""What `as_of` means: the name of a snapshot, or a moment. Knows no table."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from serve_app.errors import InvalidRequest, SnapshotNotFound

SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def moment_of(as_of: str) -> datetime | None:
    """The moment that an ISO 8601 date or time names, UTC where it says nothing else; None for the name of a snapshot."""
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def check_snapshot_name(name: str) -> None:
    """Raise InvalidRequest for a name that an address or a folder could not carry, or that could be taken for a time."""
    if not SNAPSHOT_NAME.fullmatch(name):
        raise InvalidRequest(
            "the name of a snapshot has 1 to 64 of the characters A-Z a-z 0-9 . _ -, and begins with a letter or a digit"
        )
    if moment_of(name) is not None:
        raise InvalidRequest(f"{name!r} would be taken for a time: give the snapshot a name with a word in it")


def version_at(versions: Sequence[tuple[int, datetime]], moment: datetime) -> int:
    """Which of the (version, committed at) that are kept was current then. Raises SnapshotNotFound if that one is not kept.

    Versions count up by one: a gap after the last one before that moment may hide the one that was current.
    """
    ordered = sorted(versions)
    earlier = [version for version, committed in ordered if committed <= moment]
    if not earlier:
        raise SnapshotNotFound(f"the table keeps nothing from as long ago as {moment.isoformat()}")
    following = {before: after for (before, _), (after, _) in pairwise(ordered)}
    if following.get(earlier[-1], earlier[-1] + 1) != earlier[-1] + 1:
        raise SnapshotNotFound(
            f"what the table held at {moment.isoformat()} is not kept any more: later versions are, and snapshots"
        )
    return earlier[-1]
