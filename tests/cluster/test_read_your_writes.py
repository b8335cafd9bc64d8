"""Three Retrievers that may look at the table only every five seconds: who wrote finds the write, whichever of them answers."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_app.client import Client, NewDocument
from serve_app.local_graph import LocalGraph
from tests.cluster.conftest import ready, start_graph, until
from tests.cluster.test_graph import pids_of

RETRIEVERS = 3
WRITERS = 8
PAIRS_PER_WRITER = 125
READ_CONSISTENCY_MS = 5000
SCENES = ("a red boat", "a blue car", "a yellow tree", "two cats", "a green house", "three birds", "a dog", "an apple")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGraph]:
    with start_graph(
        tmp_path_factory.mktemp("graph"),
        replicas={"Retriever": RETRIEVERS},
        CROSSMODAL_TABLE__READ_CONSISTENCY_MS=str(READ_CONSISTENCY_MS),
    ) as running:
        ready(running)
        until(lambda: len(pids_of(running, "Retriever")) == RETRIEVERS, timeout_s=120)
        yield running


def write_and_search(url: str, writer: int, pairs: int, *, read_your_writes: bool) -> tuple[int, int]:
    """Replace one document again and again and look for it after each time; how often a search, and a read, was stale."""
    stale_searches = stale_reads = 0
    with Client(url, read_your_writes=read_your_writes) as client:
        name = f"writer-{writer}-{read_your_writes}"
        for turn in range(pairs):
            text = f"{SCENES[writer]}, take {turn}"
            (added,) = client.add([NewDocument(id=name, text=text)])
            assert added.error is None
            found = {
                each.id: each.text for each in client.search(SCENES[writer], modalities=["text"], limit=50).results
            }
            stale_searches += found.get(name) != text
            if read_your_writes:
                stale_reads += client.get(name).text != text
    return stale_searches, stale_reads


def stale(url: str, pairs: int, *, read_your_writes: bool) -> tuple[int, int]:
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [
            pool.submit(write_and_search, url, writer, pairs, read_your_writes=read_your_writes)
            for writer in range(WRITERS)
        ]
        counts = [each.result() for each in running]
    return sum(searches for searches, _ in counts), sum(reads for _, reads in counts)


def test_of_a_thousand_writes_each_is_found_by_the_search_after_it(graph: LocalGraph) -> None:
    enough = threading.Event()

    def look() -> None:
        with Client(graph.url) as others:
            while not enough.is_set():
                others.search("boats at night")

    with ThreadPoolExecutor(2) as load:
        looking = [load.submit(look) for _ in range(2)]
        try:
            assert stale(graph.url, PAIRS_PER_WRITER, read_your_writes=True) == (0, 0)
        finally:
            enough.set()
        for each in looking:
            each.result()
    assert len(pids_of(graph, "Retriever")) == RETRIEVERS


def test_without_it_the_same_searches_are_stale(graph: LocalGraph) -> None:
    searches, _ = stale(graph.url, 5, read_your_writes=False)
    assert searches > 0
