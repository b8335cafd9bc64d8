import base64
import json
from urllib.parse import quote

import httpx
import pytest

from serve_app.types import PictureContent
from tests.http.conftest import error_of
from tests.unit.services.conftest import System

BOAT = b"picture: red boat"
BOAT_64 = base64.b64encode(BOAT).decode()


async def add(client: httpx.AsyncClient, *documents: dict[str, object]) -> httpx.Response:
    return await client.post("/v1/documents", json={"documents": documents})


async def test_texts_and_pictures_are_stored_in_order_and_again_unchanged(client: httpx.AsyncClient) -> None:
    documents = [
        {"id": "words", "text": "a red boat", "metadata": {"page": 3, "tags": ["a", None]}},
        {"id": "seen", "image": {"base64": BOAT_64}},
        {"id": "both", "text": "red boat", "image": {"base64": BOAT_64}},
    ]
    first = (await add(client, *documents)).json()
    assert [(item["id"], item["status"]) for item in first["items"]] == [
        ("words", "stored"),
        ("seen", "stored"),
        ("both", "stored"),
    ]
    assert first["table_version"] >= 1
    again = (await add(client, *documents)).json()
    assert [item["status"] for item in again["items"]] == ["unchanged"] * 3
    kept = (await client.get("/v1/documents/words")).json()
    assert (kept["modality"], kept["text"], kept["metadata"]) == ("text", "a red boat", documents[0]["metadata"])
    assert kept["content_url"] is None
    assert (await client.get("/v1/documents/both")).json()["modality"] == "image_text"


async def test_a_text_that_the_encoder_cuts_says_so(client: httpx.AsyncClient) -> None:
    answer = await add(client, {"text": "red " * 20})
    assert answer.json()["items"][0]["truncated"] is True


async def test_a_bad_document_fails_alone(client: httpx.AsyncClient) -> None:
    answer = await add(
        client,
        {"id": "broken", "image": {"base64": "@@@"}},
        {"id": "fine", "text": "a cat"},
        {"text": "  "},
        {"image": {"base64": base64.b64encode(b"no picture").decode()}},
    )
    assert answer.status_code == 200
    broken, fine, empty, unknown = answer.json()["items"]
    assert broken["error"]["code"] == "invalid_picture"
    assert fine == {"id": "fine", "status": "stored", "truncated": False, "frames": None}
    assert empty["error"]["code"] == "empty_text"
    assert unknown["error"]["code"] == "not_a_picture"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"image": {"base64": "data:image/png;base64,AAAA"}}, "invalid_picture"),
        ({"image": {"base64": base64.b64encode(BOAT + b"." * 1_000).decode()}}, "picture_too_large"),
        ({"image": {"base64": base64.b64encode(b"no picture").decode()}}, "not_a_picture"),
        ({"text": ""}, "empty_text"),
        ({"text": "x" * 201}, "text_too_long"),
        ({"id": "with\nbreak", "text": "a cat"}, "invalid_document_id"),
        ({"metadata": {"a": 1}}, "invalid_request"),
    ],
)
async def test_one_document_that_fails_answers_with_its_own_status(
    client: httpx.AsyncClient, document: dict[str, object], code: str
) -> None:
    status, given, message = error_of(await add(client, document))
    assert (status, given) == (422, code)
    assert len(message) < 200


async def test_one_document_whose_picture_is_missing_answers_404(client: httpx.AsyncClient) -> None:
    answer = await add(client, {"image": {"uri": "memory://nowhere"}})
    assert error_of(answer)[:2] == (404, "picture_not_found")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"text": "a bare document"}, "documents: this field is required"),
        ({"documents": []}, "documents: expected at least 1 items"),
        ({"documents": [{"text": "a"}] * 5}, "documents: expected at most 4 items"),
        ({"documents": [{"text": 3}]}, "documents[0].text: expected a valid string"),
        ({"documents": [{"text": "a", "price": 3}]}, "documents[0].price: there is no such field"),
        ({"documents": [{"image": {}}]}, "documents[0].image: expected an object with exactly one of uri or base64"),
        ({"documents": [{"image": {"uri": "a", "base64": "b"}}]}, "exactly one of uri or base64"),
        ({"documents": [{"image": {"part": "boat"}}]}, "exactly one of uri or base64"),
        ({"documents": [{"image": {"uri": 1}}]}, "documents[0].image.uri: expected a valid string"),
        ({"documents": [{"text": "a", "metadata": []}]}, "documents[0].metadata: expected"),
        ({"documents": "x" * 5_000}, "documents: expected a list"),
        ([], "The body: expected an object"),
    ],
)
async def test_a_request_of_the_wrong_shape_is_refused_as_a_whole_by_the_name_of_the_field(
    client: httpx.AsyncClient, body: object, says: str
) -> None:
    status, code, message = error_of(await client.post("/v1/documents", json=body))
    assert (status, code) == (422, "invalid_request")
    assert says in message
    assert len(message) < 250


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"documents": [{"text": "a", "metadata": {"n": [NaN]}}]}', "NaN and Infinity are not JSON"),
        (b'{"documents": [{"text": "a", "metadata": {"n": 1e999}}]}', "NaN and Infinity are not JSON"),
        (b'{"documents": [{"text": "\\ud800"}]}', "not valid JSON"),
        (b'{"documents": [{"text": "\xff"}]}', "not valid JSON"),
        (b"[" * 50_000, "recursion limit"),
        (b"", "not valid JSON"),
        (b'{"documents": [', "not valid JSON"),
    ],
)
async def test_what_is_not_json_is_refused(client: httpx.AsyncClient, body: bytes, says: str) -> None:
    answer = await client.post("/v1/documents", content=body, headers={"Content-Type": "application/json"})
    status, code, message = error_of(answer)
    assert (status, code) == (422, "invalid_request")
    assert says in message


async def test_json_of_more_values_than_memory_should_hold_is_refused_before_it_is_parsed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.http.bodies.MAX_JSON_VALUES", 100)
    answer = await add(client, {"text": "a", "metadata": {"many": list(range(200))}})
    assert error_of(answer)[2] == "The JSON may hold at most 100 values."


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_another_media_type_is_refused_by_the_name_of_the_header(
    client: httpx.AsyncClient, media_type: str
) -> None:
    answer = await client.post("/v1/documents", content=b"{}", headers={"Content-Type": media_type})
    status, code, message = error_of(answer)
    assert (status, code) == (422, "invalid_request")
    assert "Content-Type" in message


# --- forms ----------------------------------------------------------------------------------------------------------


async def test_files_of_a_form_become_documents_with_ids_from_their_content(client: httpx.AsyncClient) -> None:
    files = [("file", ("a.png", BOAT)), ("file", ("b.png", b"no picture")), ("file", ("c.png", b"picture: cat"))]
    boat, broken, cat = (await client.post("/v1/documents", files=files)).json()["items"]
    assert boat["status"] == cat["status"] == "stored"
    assert broken["error"]["code"] == "not_a_picture"
    assert (await client.get(f"/v1/documents/{boat['id']}")).json()["modality"] == "image"


async def test_documents_of_a_form_name_its_files(client: httpx.AsyncClient) -> None:
    listed = [
        {"id": "boat", "text": "red boat", "image": {"part": "one"}, "metadata": {"a": 1}},
        {"id": "cat", "text": "a cat"},
    ]
    answer = await client.post("/v1/documents", data={"documents": json.dumps(listed)}, files={"one": ("x", BOAT)})
    assert [item["id"] for item in answer.json()["items"]] == ["boat", "cat"]
    assert (await client.get("/v1/documents/boat/content")).content == BOAT


@pytest.mark.parametrize(
    ("data", "files", "says"),
    [
        ({"documents": '[{"image": {"part": "one"}}]'}, [("two", BOAT)], "'one'"),
        ({"documents": '[{"text": "a"}]'}, [("two", BOAT)], "two: no document"),
        ({"documents": '[{"image": {"part": "one"}}]'}, [("one", BOAT), ("one", BOAT)], "one: two files"),
        ({"documents": '{"text": "a"}'}, [("one", BOAT)], "documents: expected"),
        ({"documents": '[{"txt": "a"}]'}, [("one", BOAT)], "documents[0].txt: there is no such field"),
        ({"document": "[]"}, [("one", BOAT)], "document: there is no such part"),
        ({"documents": "[]", "more": "[]"}, [("one", BOAT)], "Too many fields"),
        ({}, [("picture", BOAT)], "picture: without a part `documents`"),
        ({}, [("file", BOAT)] * 5, "Too many files"),
    ],
)
async def test_a_form_of_the_wrong_shape_is_refused(
    client: httpx.AsyncClient, data: dict[str, str], files: list[tuple[str, bytes]], says: str
) -> None:
    answer = await client.post("/v1/documents", data=data, files=[(name, ("f", content)) for name, content in files])
    status, code, message = error_of(answer)
    assert (status, code) == (422, "invalid_request")
    assert says in message


@pytest.mark.parametrize("content", [b"", b"no form", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"])
async def test_a_form_that_is_none_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await client.post("/v1/documents", content=content, headers=headers)
    assert error_of(answer)[:2] == (422, "invalid_request")


async def test_a_file_over_the_limit_fails_alone(client: httpx.AsyncClient) -> None:
    files = [("file", ("a", BOAT + b"." * 1_000)), ("file", ("b", BOAT))]
    large, fine = (await client.post("/v1/documents", files=files)).json()["items"]
    assert large["error"]["code"] == "picture_too_large"
    assert fine["status"] == "stored"


# --- one document ---------------------------------------------------------------------------------------------------

ODD_IDS = ["a/b", "a/content", "content", "x/thumbnail", "50% & more?#", "mit Ümläut", "日本", "a+b", "..", "%2F"]


@pytest.mark.parametrize("document_id", ODD_IDS)
async def test_an_id_of_any_letters_is_found_fetched_and_removed_by_its_encoded_path(
    client: httpx.AsyncClient, document_id: str
) -> None:
    await add(client, {"id": document_id, "image": {"base64": BOAT_64}})
    path = "/v1/documents/" + quote(document_id, safe="").replace("..", "%2E%2E")
    found = (await client.get(path)).json()
    assert found["id"] == document_id
    assert (await client.get(path + "/content")).content == BOAT
    if ".." not in document_id:  # httpx folds `..` even where it is encoded twice over
        assert (await client.get(found["content_url"])).content == BOAT
    assert (await client.delete(path)).json()["deleted"] is True
    assert error_of(await client.get(path))[:2] == (404, "document_not_found")


async def test_a_plain_slash_in_an_id_is_taken_too(client: httpx.AsyncClient) -> None:
    await add(client, {"id": "folder/boat.png", "image": {"base64": BOAT_64}})
    assert (await client.get("/v1/documents/folder/boat.png")).json()["id"] == "folder/boat.png"
    assert (await client.get("/v1/documents/folder/boat.png/content")).content == BOAT


async def test_removing_a_picture_of_a_document_is_not_taken_for_removing_a_document(
    client: httpx.AsyncClient,
) -> None:
    await add(client, {"id": "a/content", "text": "a cat"})
    assert error_of(await client.delete("/v1/documents/a/content"))[:2] == (405, "method_not_allowed")
    assert (await client.get("/v1/documents/a%2Fcontent")).status_code == 200


@pytest.mark.parametrize("path", ["", "/content", "/thumbnail"])
async def test_a_document_that_is_not_there_answers_404(client: httpx.AsyncClient, path: str) -> None:
    assert error_of(await client.get("/v1/documents/nobody" + path))[:2] == (404, "document_not_found")


async def test_removing_twice_answers_404_the_second_time(client: httpx.AsyncClient) -> None:
    await add(client, {"id": "cat", "text": "a cat"})
    assert (await client.delete("/v1/documents/cat")).status_code == 200
    assert error_of(await client.delete("/v1/documents/cat"))[:2] == (404, "document_not_found")


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["content", "thumbnail"])
async def test_a_text_has_no_picture_even_for_who_claims_to_know_it(client: httpx.AsyncClient, view: str) -> None:
    await add(client, {"id": "cat", "text": "a cat"})
    answer = await client.get(f"/v1/documents/cat/{view}", headers={"If-None-Match": "*"})
    assert error_of(answer)[:2] == (404, "picture_not_found")


async def test_a_picture_is_shown_but_never_run(client: httpx.AsyncClient) -> None:
    await add(client, {"id": "boat", "image": {"base64": BOAT_64}})
    answer = await client.get("/v1/documents/boat/content")
    assert (answer.content, answer.headers["content-type"]) == (BOAT, "image/png")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("view", ["content", "thumbnail?size=64"])
async def test_a_picture_that_the_client_knows_is_not_touched_again(
    client: httpx.AsyncClient, system: System, view: str
) -> None:
    await add(client, {"id": "boat", "image": {"base64": BOAT_64}})
    etag = (await client.get(f"/v1/documents/boat/{view}")).headers["etag"]
    system.pictures.files.clear()  # whoever reads the picture now, fails
    answer = await client.get(f"/v1/documents/boat/{view}", headers={"If-None-Match": f'"other", W/{etag}'})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


async def test_thumbnails_of_two_sizes_have_two_etags(client: httpx.AsyncClient) -> None:
    await add(client, {"id": "boat", "image": {"base64": BOAT_64}})
    small, large = [await client.get(f"/v1/documents/boat/thumbnail?size={size}") for size in (16, 512)]
    assert small.headers["content-type"] == "image/jpeg"
    assert small.headers["etag"] != large.headers["etag"]
    assert len(small.content) == 16


async def test_only_an_address_that_names_the_content_is_cached_for_good(client: httpx.AsyncClient) -> None:
    await add(client, {"id": "boat", "image": {"base64": BOAT_64}})
    found = (await client.get("/v1/documents/boat")).json()
    for address in (found["content_url"], found["thumbnail_url"]):
        assert "immutable" in (await client.get(address)).headers["cache-control"]
        assert "no-cache" in (await client.get(address.split("v=")[0] + "v=0")).headers["cache-control"]


@pytest.mark.parametrize("size", ["15", "513", "0", "-1", "1e2", "", "٣٢", "9" * 5_000])
async def test_a_thumbnail_has_a_sane_size(client: httpx.AsyncClient, size: str) -> None:
    status, code, message = error_of(await client.get("/v1/documents/boat/thumbnail", params={"size": size}))
    assert (status, code) == (422, "invalid_request")
    assert message == "size: expected a whole number of pixels from 16 to 512."


async def test_a_picture_at_a_signed_address_is_a_redirect_that_nobody_keeps(
    client: httpx.AsyncClient, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def signed(uri: str) -> PictureContent:
        return PictureContent("image/png", url="https://bucket.example/boat?signature=1")

    await add(client, {"id": "boat", "image": {"base64": BOAT_64}})
    monkeypatch.setattr(system.pictures, "read_picture", signed)
    answer = await client.get("/v1/documents/boat/content")
    assert (answer.status_code, answer.headers["location"]) == (307, "https://bucket.example/boat?signature=1")
    assert "no-store" in answer.headers["cache-control"]
