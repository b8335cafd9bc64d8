"""Reads a whole source as a job does: its parts, pickled on the way, and what each of them holds."""

import pickle
from collections.abc import Mapping
from typing import Any

from serve_app.adapters.sources import SourceSpec, open_source
from serve_app.core.source_items import SourceFailure, SourceItem, rows_to_items


def read(*locations: object, **said: Any) -> tuple[list[SourceItem], list[SourceFailure]]:
    """What a source holds, in order, and what failed. Keys are unique, and the parts the same each time."""
    source = pickle.loads(pickle.dumps(open_source(SourceSpec(tuple(map(str, locations)), **said))))
    parts = list(source.parts())
    assert [part.key for part in parts] == [part.key for part in source.parts()]
    assert len({part.key for part in parts}) == len(parts)
    items: list[SourceItem] = []
    failures: list[SourceFailure] = []
    for part in pickle.loads(pickle.dumps(parts)):
        for found in source.read_part(part):
            if isinstance(found, SourceFailure):
                failures.append(found)
            else:
                items += rows_to_items(found)
    keys = [each.key for each in [*items, *failures]]
    assert len(set(keys)) == len(keys)
    return items, failures


def codes(failures: list[SourceFailure]) -> Mapping[str, str]:
    return {each.key: each.code for each in failures}
