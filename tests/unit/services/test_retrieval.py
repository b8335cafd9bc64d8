"""Searches that travel together: which of them share a read of the table, and what fails alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from serve_app.errors import StorageUnavailable
from serve_app.services.retrieval import RetrievalService
from serve_app.types import (
    Compare,
    DocumentInput,
    Filter,
    FloatMatrix,
    ItemFailure,
    Modality,
    Operator,
    Ranking,
    SearchPage,
    StoredDocument,
    VectorQuery,
)
from tests.fakes.parts import CARD, picture_of, vector_of
from tests.fakes.table import MemoryTable
from tests.unit.services.conftest import System, make_system

WORDS = ("red boat", "blue cat", "green tree", "red house", "snow tree", "blue house")
BROKEN = Compare("uri", Operator.PREFIX, "broken")


class CountingTable(MemoryTable):
    """Tells of its reads, and cannot be read through one filter."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, Modality, int]] = []
        self.aimed: list[bool] = []

    async def nearest(
        self, vectors: FloatMatrix, modality: Modality, limit: int, where: Filter | None = None, *, aimed: bool = False
    ) -> list[list[StoredDocument]]:
        if where == BROKEN:
            raise StorageUnavailable("the table could not be read: its storage failed")
        self.reads.append((len(vectors), modality, limit))
        self.aimed.append(aimed)
        return await super().nearest(vectors, modality, limit, where, aimed=aimed)


@pytest.fixture
async def table() -> CountingTable:
    table = CountingTable()
    system = make_system(table)
    await system.documents.add([DocumentInput(text=words, id=f"text {words}") for words in WORDS])
    await system.documents.add([DocumentInput(picture=picture_of(words), id=f"image {words}") for words in WORDS])
    await system.indexing.settled()
    return table


def asked(words: str, /, **options: object) -> VectorQuery:
    vector = vector_of(words, Modality.TEXT)
    query = VectorQuery(vector, CARD.fingerprint, ((Modality.TEXT, 1.0),), tuple(Modality), 4)
    return replace(query, **options)  # type: ignore[arg-type]


def ids(page: SearchPage | ItemFailure) -> list[str]:
    assert isinstance(page, SearchPage), page
    return [hit.document.id for hit in page.hits]


async def search(table: MemoryTable, *queries: VectorQuery) -> Sequence[SearchPage | ItemFailure]:
    return await RetrievalService(table, candidates=20).search(queries)


async def test_queries_of_different_limits_and_rankings_share_one_read_of_each_modality(table: CountingTable) -> None:
    queries = [asked(words, limit=limit) for words, limit in zip(WORDS, range(5, 11), strict=True)]
    queries.append(asked("red boat", ranking=Ranking.HYBRID, offset=3))
    together = await search(table, *queries)
    assert table.reads == [(7, Modality.TEXT, 20), (7, Modality.IMAGE, 20)]
    assert [ids(page) for page in together] == [ids((await search(table, query))[0]) for query in queries]


async def test_a_plain_search_is_read_apart_from_those_that_aim(table: CountingTable) -> None:
    await search(table, asked("boat"), asked("cat", ranking=Ranking.COSINE))
    assert len(table.reads) == 4
    assert table.aimed == [True, True, False, False]


async def test_filters_and_deep_pages_are_read_apart(table: CountingTable) -> None:
    red = Compare("id", Operator.PREFIX, "text red")
    await search(table, asked("boat"), asked("cat"), asked("boat", where=red), asked("boat", offset=20))
    assert sorted(table.reads) == sorted(
        (count, modality, limit)
        for modality in (Modality.TEXT, Modality.IMAGE)
        for count, limit in ((2, 10), (1, 10), (1, 80))
    )


async def test_a_read_that_fails_fails_the_queries_that_wanted_it_and_no_other(table: CountingTable) -> None:
    good, bad, stale = await search(
        table, asked("red boat"), asked("red boat", where=BROKEN), asked("boat", min_table_version=10**6)
    )
    assert set(ids(good)[:2]) == {"text red boat", "image red boat"}
    assert isinstance(bad, ItemFailure)
    assert bad.code == "storage_unavailable"
    assert isinstance(stale, ItemFailure)
    assert stale.code == "stale_table"


async def test_what_a_query_excludes_costs_it_no_candidate(table: CountingTable) -> None:
    (page,) = await search(table, asked("red boat", limit=10, exclude_ids=("text red boat", "image red boat")))
    assert len(ids(page)) == 10
    assert {limit for _, _, limit in table.reads} == {22}


async def test_a_query_that_is_the_mean_of_its_modality_finds_something(table: CountingTable) -> None:
    mean = (await table.calibration()).means[Modality.TEXT]
    query = asked("boat", vector=(mean / np.linalg.norm(mean)).astype(np.float32))
    exact = replace(query, made_of=((Modality.TEXT, 1.0 / float(np.linalg.norm(mean))),))
    assert len(ids((await search(table, exact))[0])) == 4


async def test_a_filter_that_leaves_few_rows_makes_the_best_of_them_surer(table: CountingTable) -> None:
    few = Compare("id", Operator.PREFIX, "text blue")
    everywhere, among_few = await search(table, asked("blue cat"), asked("blue cat", where=few))
    assert isinstance(everywhere, SearchPage)
    assert isinstance(among_few, SearchPage)
    sure = {hit.document.id: hit.confidence or 0.0 for hit in everywhere.hits}
    assert (among_few.hits[0].confidence or 0.0) > sure[among_few.hits[0].document.id]


async def test_hybrid_finds_by_words_what_vectors_do_not_know(system: System) -> None:
    await system.documents.add([DocumentInput(text=f"{words} 4711", id=words) for words in WORDS])
    await system.indexing.settled()
    await system.documents.add([DocumentInput(text="snow serial XB12", id="the one")])
    await system.indexing.settled()
    query = asked("red boat", words="XB12", limit=1, ranking=Ranking.HYBRID)
    pages = await system.retrieval.search([query, replace(query, limit=7), replace(query, ranking=Ranking.CALIBRATED)])
    assert ids(pages[1]).index("the one") < 3
    assert ids(pages[2]) == ["red boat"]
