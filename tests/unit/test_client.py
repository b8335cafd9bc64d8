"""The client against a service that is a function: batches, order, retries, errors."""

import json
import threading
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import httpx
import pytest

from serve_app.client import Client, NewDocument
from serve_app.errors import (
    BodyTooLarge,
    DocumentNotFound,
    FingerprintMismatch,
    InternalError,
    InvalidRequest,
    NotReady,
    Overloaded,
    PictureNotFound,
    Unavailable,
)


def refusal(status, code, headers=None):
    body = {"error": {"code": code, "message": f"this is {code}", "request_id": "r-1"}}
    return httpx.Response(status, json=body, headers=headers)


def parts_of(request):
    """The parts of a multipart request, by name; the JSON part as its value."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.content)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    return {
        name: json.loads(part.get_content()) if part.get_content_type() == "application/json" else part.get_content()
        for name, part in parts.items()
    }


class Service:
    """Answers by a list of answers given for each request, and after them as a service that stores everything."""

    def __init__(self, *answers, max_documents=256):
        self.answers = list(answers)
        self.batches = []
        self.requests = []
        self.pauses = []
        self.max_documents = max_documents
        self._lock = threading.Lock()

    def __call__(self, request):
        with self._lock:
            self.requests.append(request)
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer
            return self.store(request)

    def store(self, request):
        documents = parts_of(request)["documents"]
        if len(documents) > self.max_documents or (
            len(documents) > 1 and any(d.get("id") == "poison" for d in documents)
        ):
            return refusal(422, "invalid_request")
        if any(d.get("id") == "poison" for d in documents):
            return refusal(422, "invalid_document_id")
        self.batches.append(documents)
        items = [{"id": d.get("id", d.get("text")), "status": "stored", "truncated": False} for d in documents]
        return httpx.Response(200, json={"items": items, "table_version": 3})

    def client(self, **options):
        return Client("http://service", transport=httpx.MockTransport(self), sleep=self.pauses.append, **options)


def texts(count):
    return [NewDocument(id=f"t-{index}", text="a boat") for index in range(count)]


def test_batches_hold_no_more_documents_than_said_and_outcomes_keep_their_order():
    service = Service()
    with service.client(max_documents=4) as client:
        added = list(client.add(texts(10)))
    assert sorted(map(len, service.batches)) == [2, 4, 4]
    assert [each.id for each in added] == [f"t-{index}" for index in range(10)]
    assert [each.index for each in added] == list(range(10))
    assert {each.table_version for each in added} == {3}


def test_batches_hold_no_more_bytes_than_said():
    service = Service()
    with service.client(max_bytes=10_000) as client:
        added = list(client.add(NewDocument(id=str(index), image=b"x" * 4_000) for index in range(5)))
    assert all(each.error is None for each in added)
    assert sorted(map(len, service.batches)) == [1, 2, 2]
    assert max(len(request.content) for request in service.requests) < 10_000


def test_a_document_larger_than_a_request_fails_alone_and_is_not_sent():
    service = Service()
    with service.client(max_bytes=10_000) as client:
        added = list(client.add([NewDocument(image=b"x" * 20_000, id="large"), NewDocument(text="small")]))
    assert isinstance(added[0].error, BodyTooLarge)
    assert added[1].status == "stored"
    assert len(service.requests) == 1


def test_documents_are_taken_only_as_they_are_needed():
    taken = []

    def endless():
        for index in range(10_000):
            taken.append(index)
            yield NewDocument(text=f"text {index}")

    with Service().client(max_documents=2, in_flight=2) as client:
        stream = client.add(endless())
        assert next(stream).id == "text 0"
        stream.close()
    assert len(taken) < 20


def test_a_picture_travels_as_a_part_of_its_own_bytes(tmp_path):
    path = tmp_path / "boat.png"
    path.write_bytes(b"\x89PNG \x00 bytes")
    service = Service()
    with service.client() as client:
        list(
            client.add(
                [NewDocument(image=path, text="a boat"), NewDocument(image="s3://bucket/a.png", metadata={"n": 1})]
            )
        )
    parts = parts_of(service.requests[0])
    first, second = parts["documents"]
    assert first == {"text": "a boat", "image": {"part": "picture-0"}}
    assert second == {"metadata": {"n": 1}, "image": {"uri": "s3://bucket/a.png"}}
    assert parts["picture-0"] == b"\x89PNG \x00 bytes"


def test_a_file_that_cannot_be_read_fails_alone():
    service = Service()
    with service.client() as client:
        missing, stored = client.add([NewDocument(image=Path("/nowhere/boat.png")), NewDocument(text="a boat")])
    assert isinstance(missing.error, PictureNotFound)
    assert stored.status == "stored"


def test_metadata_that_is_not_json_fails_alone():
    with Service().client() as client:
        wrong, stored = client.add([NewDocument(text="a", metadata={"n": float("nan")}), NewDocument(text="b")])
    assert isinstance(wrong.error, InvalidRequest)
    assert stored.status == "stored"


def test_an_item_that_the_service_refuses_fails_alone():
    items = [
        {"error": {"code": "not_a_picture", "message": "no"}},
        {"id": "b", "status": "unchanged", "truncated": True},
    ]
    service = Service(httpx.Response(200, json={"items": items, "table_version": 1}))
    with service.client() as client:
        refused, kept = client.add(texts(2))
    assert refused.error is not None
    assert refused.error.code == "not_a_picture"
    assert (kept.status, kept.truncated) == ("unchanged", True)


def test_a_request_refused_as_a_whole_is_halved_until_the_culprit_is_alone():
    documents = [*texts(5), NewDocument(id="poison", text="x"), *texts(2)]
    service = Service()
    with service.client() as client:
        added = list(client.add(documents))
    assert [each.document for each in added] == documents
    assert [each.error.code if each.error else None for each in added] == [None] * 5 + ["invalid_document_id"] + [
        None
    ] * 2


def test_only_items_refused_by_a_full_queue_are_sent_again():
    overloaded = {"error": {"code": "overloaded", "message": "full"}}
    first = {"items": [{"id": "t-0", "status": "stored"}, overloaded], "table_version": 1}
    service = Service(httpx.Response(200, json=first))
    with service.client() as client:
        added = list(client.add(texts(2)))
    assert [each.status for each in added] == ["stored", "stored"]
    assert [[each["id"] for each in batch] for batch in service.batches] == [["t-1"]]
    assert len(service.pauses) == 1


def test_a_503_is_repeated_after_the_time_that_it_asks_for():
    service = Service(
        refusal(503, "overloaded", {"Retry-After": "3"}), refusal(503, "overloaded", {"Retry-After": "900"})
    )
    with service.client() as client:
        (added,) = client.add(texts(1))
    assert added.status == "stored"
    assert service.pauses == [3.0, 10.0]  # as asked, but never longer than ten seconds


def test_repeats_are_bounded():
    service = Service(*[refusal(503, "overloaded")] * 20)
    with service.client(retries=2) as client, pytest.raises(Overloaded, match="this is overloaded"):
        client.table()
    assert len(service.requests) == 3


def test_a_connection_that_is_refused_is_tried_again():
    service = Service(httpx.ConnectError("refused"), httpx.ReadError("reset"))
    with service.client() as client:
        (added,) = client.add(texts(1))
    assert added.status == "stored"


def test_a_service_that_is_gone_ends_the_adding():
    service = Service(*[httpx.ConnectError("refused")] * 20)
    with service.client(retries=1) as client, pytest.raises(Unavailable, match="no service answers at http://service"):
        list(client.add(texts(3)))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "document_not_found", DocumentNotFound),
        (422, "invalid_request", InvalidRequest),
        (503, "fingerprint_mismatch", FingerprintMismatch),
        (500, "internal", InternalError),
        (500, "a_code_of_the_future", InternalError),
    ],
)
def test_an_error_is_raised_as_its_class_with_its_request_id_and_not_repeated(status, code, kind):
    service = Service(refusal(status, code))
    with service.client() as client, pytest.raises(kind, match=f"this is {code}") as raised:
        client.get("x")
    assert raised.value.__notes__ == ["request r-1"]
    assert len(service.requests) == 1


def test_an_answer_of_somebody_else_says_so():
    service = Service(httpx.Response(404, text="Path '/v1/table' not found."))
    with service.client() as client, pytest.raises(NotReady, match="no crossmodal service"):
        client.table()


def test_waiting_ends_when_the_service_is_ready():
    service = Service(httpx.ConnectError("refused"), refusal(503, "not_ready"), httpx.Response(200, json={}))
    with service.client() as client:
        client.wait_until_ready(timeout_s=60)
    assert len(service.requests) == 3


def test_waiting_in_vain_tells_the_last_reason():
    service = Service(*[refusal(503, "fingerprint_mismatch")] * 3)
    with service.client() as client, pytest.raises(NotReady, match="this is fingerprint_mismatch"):
        client.wait_until_ready(timeout_s=0)


def test_an_answer_without_what_must_be_there_is_an_error():
    service = Service(httpx.Response(200, json={"counts": {}}))
    with service.client() as client, pytest.raises(InternalError, match="lacks version"):
        client.table()


def test_a_newer_service_may_say_more():
    service = Service(httpx.Response(200, json={"version": 1, "counts": {}, "mood": "good"}))
    with service.client() as client:
        assert client.table().version == 1


def test_an_id_with_a_slash_is_one_segment_of_the_path():
    service = Service(httpx.Response(200, content=b"jpeg"))
    with service.client() as client:
        assert client.thumbnail("boats/red?1", 64) == b"jpeg"
    assert service.requests[0].url.raw_path == b"/v1/documents/boats%2Fred%3F1/thumbnail?size=64"


def test_a_search_by_picture_sends_its_options_beside_it():
    answer = {"results": [], "ranking": "cosine", "table_version": 1}
    service = Service(httpx.Response(200, json=answer))
    with service.client() as client:
        assert client.search(image=b"png", modalities=["text"], limit=3).results == ()
    assert parts_of(service.requests[0]) == {"request": {"limit": 3, "modalities": ["text"]}, "image": b"png"}


def test_a_search_takes_exactly_one_question():
    with Service().client() as client, pytest.raises(InvalidRequest, match="exactly one"):
        client.search("boat", like="b-1")


def test_fields_travel_in_json_and_moments_in_iso_8601():
    service = Service()
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    with service.client() as client:
        list(client.add([NewDocument(text="boat", fields={"price": 1.5, "taken_at": noon, "tags": ["a"]})]))
    (sent,) = parts_of(service.requests[0])["documents"]
    assert sent["fields"] == {"price": 1.5, "taken_at": "2026-11-24T12:00:00+00:00", "tags": ["a"]}


def test_all_documents_of_a_filter_are_listed_page_by_page():
    document = {"modality": "text", "fields": {"price": 1.0}}
    pages = [
        {"documents": [{"id": "a", **document}, {"id": "b", **document}], "next_after": "b"},
        {"documents": [{"id": "c", **document}], "next_after": None},
    ]
    service = Service(*(httpx.Response(200, json=page) for page in pages))
    where = {"field": "price", "lt": 20}
    with service.client() as client:
        found = list(client.documents(where, page_size=2))
    assert [(each.id, each.fields) for each in found] == [(each, {"price": 1.0}) for each in "abc"]
    asked = [dict(request.url.params) for request in service.requests]
    assert asked == [
        {"limit": "2", "filter": json.dumps(where)},
        {"limit": "2", "filter": json.dumps(where), "after": "b"},
    ]


def test_many_documents_are_deleted_by_one_of_three_ways():
    service = Service(*(httpx.Response(200, json={"deleted": 3, "table_version": 9}) for _ in range(3)))
    with service.client() as client:
        assert client.delete_many(where={"field": "price", "lt": 20}).deleted == 3
        assert client.delete_many(ids=["a", "b"]).table_version == 9
        client.delete_many(everything=True)
    asked = [json.loads(request.content) for request in service.requests]
    assert asked == [{"filter": {"field": "price", "lt": 20}}, {"ids": ["a", "b"]}, {"all": True}]
