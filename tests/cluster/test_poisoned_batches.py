"""One bad item of a batch fails alone, and the parts that met it go on as before; over a real graph with the demo model."""

import base64
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
import pytest
from PIL import Image

from serve_app.demo.corpus import demo_pictures

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


def test_a_caller_who_leaves_takes_nothing_from_the_others(http: httpx.Client) -> None:
    with pytest.raises(httpx.TimeoutException):
        http.post("/v1/embeddings", json={"input": [f"text {at}" for at in range(64)]}, timeout=0.001)
    assert http.post("/v1/embeddings", json={"input": "somebody who stays"}).status_code == 200
