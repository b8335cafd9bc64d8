"""One bad item of a batch fails alone, and the parts that met it go on as before; over a real graph with the demo model."""

import base64
import itertools
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
from PIL import Image

from serve_app.demo.corpus import demo_pictures
from serve_app.local_graph import LocalGraph
from tests.cluster.conftest import until

PICTURES = [picture.encoded() for picture in demo_pictures(count=31)]
WORDS = ("red", "two", "boats", "night", "tree", "near", "house", "snow", "blue", "cat")


def elongated() -> bytes:
    file = BytesIO()
    Image.new("RGB", (30_000, 2)).save(file, "PNG")
    return file.getvalue()


def picture(data: bytes) -> dict[str, object]:
    return {"image": {"base64": base64.b64encode(data).decode()}}


def embed(http: httpx.Client, items: list[dict[str, object]]) -> list[dict[str, object]]:
    answer = http.post("/v1/embeddings", json={"input": items, "on_error": "report"})
    data: list[dict[str, object]] = answer.raise_for_status().json()["data"]
    return data


def test_what_replicas_say_is_on_the_console_at_once(graph: LocalGraph) -> None:
    """A line of ours below a warning, of a replica that is named."""

    def told(part: str, deployment: str) -> bool:
        lines = graph.log_tail(1000).splitlines()
        return any(deployment in line and "INFO" in line and f"{part}: " in line for line in lines)

    until(lambda: told("text_encoder", "TextEncoder") and told("image_encoder", "ImageEncoder"), 10)


def test_a_broken_picture_among_thirty_two_is_one_error_and_a_thousand_requests_later_all_is_well(
    http: httpx.Client,
) -> None:
    broken: dict[str, Callable[[], bytes]] = {
        "picture_truncated": lambda: PICTURES[0][: len(PICTURES[0]) // 2],
        "picture_too_elongated": elongated,
        "not_a_picture": lambda: b"these are words",
    }
    for code, make in broken.items():
        items = [picture(data) for data in PICTURES]
        items.insert(13, picture(make()))
        results = embed(http, items)
        assert [at for at, each in enumerate(results) if each["object"] == "error"] == [13]
        assert results[13]["error"]["code"] == code  # type: ignore[index]
    texts = (" ".join(words) for words in itertools.islice(itertools.permutations(WORDS, 5), 1000))
    with ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(lambda text: http.post("/v1/embeddings", json={"input": text}).status_code, texts))
    assert statuses == [200] * 1000
    assert {each["object"] for each in embed(http, [picture(data) for data in PICTURES])} == {"embedding"}


def test_a_word_of_forty_thousand_letters_is_cut_and_says_so(http: httpx.Client) -> None:
    results = embed(http, [*({"text": f"a red boat {at}"} for at in range(31)), {"text": "a" * 40_000}])
    assert [each["truncated"] for each in results] == [False] * 31 + [True]


def leave(http: httpx.Client, texts: list[str]) -> None:
    """Asks for vectors and hangs up before there can be an answer: a short timeout could still meet one, on a busy machine."""
    request = http.build_request("POST", "/v1/embeddings", json={"input": texts})
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection((request.url.host, request.url.port)) as connection:
        connection.sendall(f"POST {request.url.path} HTTP/1.1\r\n{head}\r\n".encode() + request.read())


def test_a_caller_who_leaves_takes_nothing_from_the_others(http: httpx.Client) -> None:
    def stay(at: int) -> int:
        return http.post("/v1/embeddings", json={"input": f"somebody who stays {at}"}).status_code

    with ThreadPoolExecutor(8) as pool:
        staying = pool.map(stay, range(64))
        for round_ in range(8):
            leave(http, [f"somebody who leaves {round_} {at}" for at in range(64)])
        assert list(staying) == [200] * 64
    assert stay(64) == 200
