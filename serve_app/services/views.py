"""Which view of the table answers which query: new enough, of the time that was asked for, of the query's own encoder."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve_app.core.failures import failure_of
from serve_app.errors import CrossmodalError, StaleTable
from serve_app.ports import DocumentTable
from serve_app.types import ItemFailure, VectorQuery


@dataclass(frozen=True, slots=True)
class View:
    """A view of the table, and the places in the list of those queries that it answers."""

    table: DocumentTable
    places: Sequence[int]


async def views_of(
    table: DocumentTable, queries: Sequence[VectorQuery]
) -> tuple[list[View], Mapping[int, ItemFailure]]:
    """Every query is in one view, or among the failures: no such snapshot, or no version as new as it needs.

    A query that asks for too new a version fails alone: it travels with those of others.
    """
    alike: dict[tuple[str | None, str], list[int]] = defaultdict(list)
    for place, query in enumerate(queries):
        alike[query.as_of, query.fingerprint].append(place)
    views: list[View] = []
    failures: dict[int, ItemFailure] = {}
    for (as_of, fingerprint), places in alike.items():
        try:
            view, seen = await _view(
                table, as_of, fingerprint, max(queries[place].min_table_version for place in places)
            )
        except CrossmodalError as error:
            failures.update(dict.fromkeys(places, failure_of(error)))
            continue
        for place in places:
            if queries[place].min_table_version > seen:
                failures[place] = failure_of(_too_new(queries[place].min_table_version, seen))
        if answered := [place for place in places if place not in failures]:
            views.append(View(view, answered))
    return views, failures


async def _view(
    table: DocumentTable, as_of: str | None, fingerprint: str, min_version: int
) -> tuple[DocumentTable, int]:
    """A view, and the version that it has come to: the one asked for or a later one, if there is any; 0 if none was asked."""
    view = await table.at(as_of, fingerprint)
    if not min_version:
        return view, 0
    try:
        return view, await view.refresh(min_version)
    except StaleTable:
        # It may be the version of a table that was taken into service since this reader last looked.
        view = await table.at(as_of, fingerprint)
    try:
        return view, await view.refresh(min_version)
    except StaleTable:
        return view, (await view.info()).version


def _too_new(asked: int, seen: int) -> StaleTable:
    return StaleTable(f"the table has no version {asked} yet; its latest is {seen}")
