"""Searches two tables with the models that they belong to, and compares what is found. For a process that may have torch."""

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from deployments.jobs.settings import JobSettings
from deployments.jobs.stages import load_text_tower
from serve_app.adapters.lance_table import LanceTable
from serve_app.core.comparison import TOP, Comparison, SampleQuery, SearchedSide, compare
from serve_app.core.failures import value_of
from serve_app.core.usual_texts import USUAL_TEXTS
from serve_app.services.retrieval import RetrievalService
from serve_app.types import Compare, Modality, Operator, VectorQuery

SAMPLED, LOOKED_AT = 100, 1000
WARMING = 3


def compare_tables(before: JobSettings, after: JobSettings, queries: Sequence[SampleQuery]) -> Comparison | None:
    """`beside` of either settings names its table. None where the model of `before` is not that of its table.

    Without queries texts of the table are asked, or usual ones.
    """
    with asyncio.Runner() as runner:
        asked = queries or runner.run(sample_queries(before.open_table()))
        sides = [_search(runner, settings, asked) for settings in (before, after)]
    if sides[0] is None or sides[1] is None:
        return None
    return compare(asked, sides[0], sides[1])


async def sample_queries(table: LanceTable) -> tuple[SampleQuery, ...]:
    """Texts that the table holds, of different places in it; usual ones where it holds none."""
    rows = await table.find(Compare("text", Operator.EXISTS, True), LOOKED_AT)
    texts = list(dict.fromkeys(row.document.text or "" for row in rows))
    chosen = [texts[at] for at in np.linspace(0, len(texts) - 1, min(SAMPLED, len(texts)), dtype=int)]
    return tuple(map(SampleQuery, chosen or USUAL_TEXTS))


def _search(runner: asyncio.Runner, settings: JobSettings, queries: Sequence[SampleQuery]) -> SearchedSide | None:
    tower, table = load_text_tower(settings), settings.open_table()
    service = RetrievalService(table, candidates=settings.config.search.candidates)
    if runner.run(table.head()).fingerprint != tower.card.fingerprint:
        return None
    found, encode_ms, search_ms = [], [], []
    for query in (*queries[:WARMING], *queries):
        began = time.perf_counter()
        embedding = value_of(tower.encode([query.text])[0])
        encoded = time.perf_counter()
        asked = VectorQuery(
            vector=embedding.vector,
            fingerprint=embedding.fingerprint,
            made_of=((Modality.TEXT, 1.0),),
            modalities=tuple(Modality),
            limit=TOP,
            words=query.text,
        )
        page = value_of(runner.run(service.search([asked]))[0])
        search_ms.append((time.perf_counter() - encoded) * 1e3)
        encode_ms.append((encoded - began) * 1e3)
        found.append(tuple(hit.document.id for hit in page.hits))
    warm = min(WARMING, len(queries))
    return SearchedSide(
        table=settings.beside or "",
        model=tower.card.model,
        found=tuple(found[warm:]),
        encode_ms=tuple(encode_ms[warm:]),
        search_ms=tuple(search_ms[warm:]),
    )
