"""Videos over HTTP: in by their address, found at their best moment, played from there, and gone with all their frames."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.http.conftest import error_of
from tests.unit.services.conftest import System

CLIP = "s3://b/clip.mp4"
SHOWN = b"video: red boat|red boat|blue cat|green tree|blue cat"


@pytest.fixture
async def filled(client: httpx.AsyncClient, system: System) -> httpx.AsyncClient:
    system.pictures.files[CLIP] = SHOWN
    system.pictures.files["s3://b/other.webm"] = b"video: red house|snow tree"
    documents: list[dict[str, Any]] = [
        {"id": "clip", "video": {"uri": CLIP, "every_s": 4}, "text": "a day out", "fields": {"price": 3.0}},
        {"id": "note", "text": "a blue cat"},
        {"id": "other", "video": {"uri": "s3://b/other.webm"}},
    ]
    answer = await client.post("/v1/documents", json={"documents": documents})
    assert [(item["id"], item["frames"]) for item in answer.json()["items"]] == [
        ("clip", 5),
        ("note", None),
        ("other", 2),
    ]
    await system.indexing.settled()
    return client


async def search(client: httpx.AsyncClient, text: str, **options: Any) -> list[dict[str, Any]]:
    answer = await client.post("/v1/search", json={"query": {"text": text}, **options})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def test_a_video_is_found_at_its_best_moment_and_once(filled: httpx.AsyncClient) -> None:
    results = await search(filled, "green tree")
    assert results[0]["id"] == "clip#t=12.000"
    assert sorted(result["id"] for result in results[1:]) == ["note", "other#t=2.000"]
    best = results[0]
    (note,) = (result for result in results if result["id"] == "note")
    assert (best["modality"], best["video_id"], best["offset_s"], best["uri"]) == ("video_frame", "clip", 12.0, CLIP)
    assert best["text"] == "a day out"
    assert best["moments"][0]["id"] == best["id"]
    assert {moment["offset_s"] for moment in best["moments"]} <= {0.0, 4.0, 8.0, 12.0, 16.0}
    assert note["video_id"] is note["offset_s"] is None
    assert note["moments"] == []


async def test_each_frame_is_a_result_where_nothing_is_grouped(filled: httpx.AsyncClient) -> None:
    results = await search(filled, "blue cat", group_by="none", modalities=["video_frame"], limit=2)
    assert [result["id"] for result in results] == ["clip#t=16.000", "clip#t=8.000"]
    assert results[0]["moments"] == []


async def test_a_filter_chooses_moments(filled: httpx.AsyncClient) -> None:
    late = {"and": [{"field": "offset_s", "gte": 10}, {"field": "price", "eq": 3.0}]}
    (result,) = await search(filled, "blue cat", filter=late)
    assert (result["id"], result["offset_s"]) == ("clip#t=16.000", 16.0)


async def test_the_addresses_of_a_result_lead_to_the_moment_and_its_picture(
    filled: httpx.AsyncClient, system: System
) -> None:
    system.pictures.sign = none_is_signed  # type: ignore[method-assign]
    (best,) = await search(filled, "green tree", limit=1)
    assert best["content_url"].endswith("#t=12.000")
    video = await filled.get(best["content_url"])
    assert (video.status_code, video.content, video.headers["content-type"]) == (200, SHOWN, "video/mp4")
    assert video.headers["accept-ranges"] == "bytes"
    thumbnail = await filled.get(best["thumbnail_url"])
    assert thumbnail.content == b"picture: green tree"
    assert "immutable" in thumbnail.headers["cache-control"]


async def none_is_signed(uris: list[str]) -> list[None]:
    return [None] * len(uris)


@pytest.mark.parametrize(
    ("asked", "part", "told"),
    [
        ("bytes=0-5", SHOWN[:6], "0-5"),
        ("bytes=7-", SHOWN[7:], f"7-{len(SHOWN) - 1}"),
        ("bytes=-3", SHOWN[-3:], f"{len(SHOWN) - 3}-{len(SHOWN) - 1}"),
        ("bytes=0-99999", SHOWN, f"0-{len(SHOWN) - 1}"),
    ],
)
async def test_a_player_gets_the_part_that_it_asks_for(
    filled: httpx.AsyncClient, system: System, asked: str, part: bytes, told: str
) -> None:
    system.pictures.sign = none_is_signed  # type: ignore[method-assign]
    answer = await filled.get("/v1/documents/clip/content", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {told}/{len(SHOWN)}"


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=5-3"])
async def test_a_part_that_is_not_there_is_said(filled: httpx.AsyncClient, system: System, asked: str) -> None:
    system.pictures.sign = none_is_signed  # type: ignore[method-assign]
    answer = await filled.get("/v1/documents/clip/content", headers={"Range": asked})
    assert error_of(answer)[:2] == (416, "invalid_range")


async def test_a_video_that_a_browser_can_fetch_is_fetched_where_it_lies(filled: httpx.AsyncClient) -> None:
    answer = await filled.get("/v1/documents/clip%23t%3D8.000/content")
    assert (answer.status_code, answer.headers["location"]) == (307, "https://signed.test/clip.mp4?by=us#t=8.000")


async def test_the_id_of_a_video_stands_for_its_first_frame(filled: httpx.AsyncClient) -> None:
    document = (await filled.get("/v1/documents/clip")).json()
    assert (document["id"], document["video_id"], document["offset_s"]) == ("clip#t=0.000", "clip", 0.0)


async def test_the_same_video_again_is_unchanged_and_not_decoded(filled: httpx.AsyncClient, system: System) -> None:
    before = len(system.pictures.encoded)
    document = {"id": "clip", "video": {"uri": CLIP, "every_s": 4}, "text": "a day out", "fields": {"price": 3.0}}
    answer = (await filled.post("/v1/documents", json={"documents": [document]})).json()
    assert (answer["items"][0]["status"], answer["items"][0]["frames"]) == ("unchanged", 5)
    renamed = (await filled.post("/v1/documents", json={"documents": [{**document, "text": "a night"}]})).json()
    assert renamed["items"][0]["status"] == "stored"
    assert len(system.pictures.encoded) == before
    assert (await filled.get("/v1/documents/clip")).json()["text"] == "a night"


async def test_frames_that_are_no_more_go_with_the_write_that_brings_the_new(
    filled: httpx.AsyncClient, system: System
) -> None:
    system.pictures.files[CLIP] = b"video: snow tree|red house"
    stored = (await filled.post("/v1/documents", json={"documents": [{"id": "clip", "video": {"uri": CLIP}}]})).json()
    assert stored["items"][0]["frames"] == 2
    listed = (await filled.get("/v1/documents")).json()["documents"]
    assert [document["id"] for document in listed] == [
        *("clip#t=0.000", "clip#t=2.000"),
        *("note", "other#t=0.000", "other#t=2.000"),
    ]


async def test_a_video_without_all_its_frames_is_made_whole(filled: httpx.AsyncClient) -> None:
    assert (await filled.delete("/v1/documents/clip%23t%3D8.000")).status_code == 200
    document = {"id": "clip", "video": {"uri": CLIP, "every_s": 4}, "text": "a day out", "fields": {"price": 3.0}}
    answer = (await filled.post("/v1/documents", json={"documents": [document]})).json()
    assert answer["items"][0]["status"] == "stored"
    assert (await filled.get("/v1/documents/clip%23t%3D8.000")).status_code == 200


async def test_a_video_is_deleted_with_all_its_frames(filled: httpx.AsyncClient) -> None:
    assert (await filled.delete("/v1/documents/clip")).json()["deleted"] is True
    assert error_of(await filled.delete("/v1/documents/clip"))[:2] == (404, "document_not_found")
    deleted = await filled.post("/v1/documents:delete", json={"ids": ["other", "note", "nothing"]})
    assert deleted.json()["deleted"] == 2
    assert (await filled.get("/v1/documents")).json()["documents"] == []


async def test_two_that_store_one_video_at_once_leave_the_frames_of_one_of_them(
    filled: httpx.AsyncClient, system: System
) -> None:
    by_four = {"id": "clip", "video": {"uri": CLIP, "every_s": 4}}
    by_three = {"id": "clip", "video": {"uri": CLIP, "every_s": 3}}
    await asyncio.gather(
        *(filled.post("/v1/documents", json={"documents": [each]}) for each in (by_four, by_three) for _ in range(3))
    )
    listed = (await filled.get("/v1/documents")).json()["documents"]
    frames = [document for document in listed if document["video_id"] == "clip"]
    assert len(frames) == 5
    assert len({document["content_sha256"] for document in frames}) == 1


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"video": {"uri": "s3://b/none.mp4"}}, "picture_not_found"),
        ({"video": {"uri": "s3://b/note.txt"}}, "not_a_video"),
        ({"video": {"uri": CLIP}, "image": {"uri": CLIP}}, "invalid_request"),
        ({"video": {"uri": CLIP, "every_s": 1, "scenes": True}}, "invalid_request"),
        ({"video": {"uri": CLIP, "every_s": 0}}, "invalid_request"),
        ({"id": "a#t=1", "video": {"uri": CLIP}}, "invalid_document_id"),
        ({"video": {"uri": CLIP}, "fields": {"prize": 1}}, "invalid_field"),
        ({"video": {"uri": CLIP}, "text": " "}, "empty_text"),
    ],
)
async def test_a_wrong_video_is_said(
    client: httpx.AsyncClient, system: System, document: dict[str, Any], code: str
) -> None:
    system.pictures.files |= {CLIP: SHOWN, "s3://b/note.txt": b"words"}
    assert error_of(await client.post("/v1/documents", json={"documents": [document]}))[1] == code


async def test_a_video_without_an_id_is_called_by_its_content(client: httpx.AsyncClient, system: System) -> None:
    system.pictures.files |= {CLIP: SHOWN, "s3://b/copy.mp4": SHOWN}
    for uri in (CLIP, "s3://b/copy.mp4"):
        answer = await client.post("/v1/documents", json={"documents": [{"video": {"uri": uri, "scenes": True}}]})
        assert answer.json()["items"][0]["frames"] == 4
    assert len((await client.get("/v1/documents")).json()["documents"]) == 4
