"""Handles dressed as ports, over a handle that a test can hold: what is coalesced, given up, repeated."""

import asyncio
from collections.abc import Generator
from typing import Any, cast

import numpy as np
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from configs.schema import CallConfig
from deployments.remote import RemotePreprocessor, RemoteTextEncoder
from deployments.replica_count import ReplicaCount
from serve_app.errors import InternalError, Overloaded, Unavailable
from serve_app.types import Embedding, InlinePicture, PictureTask, PictureUri
from tests.fakes.parts import until

VECTOR = np.array([1.0], np.float32)


class Response:
    """A call under way: answered, or failed, when the test says so."""

    def __init__(self, texts: list[Any], urgent: bool, by_reference: bool = False) -> None:
        self.texts = texts
        self.urgent = urgent
        self.by_reference = by_reference
        self.given_up = False
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[Any, None, Any]:
        return self.future.__await__()

    def cancel(self) -> None:
        self.given_up = True

    def answer(self) -> None:
        self.future.set_result([Embedding(VECTOR, text) for text in self.texts])


class Broadcast:
    """What all replicas answer."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = answers

    async def results_async(self, *, timeout_s: float, return_exceptions: bool) -> list[Any]:
        assert timeout_s > 0
        assert return_exceptions
        if not self._answers:
            raise DeploymentUnavailableError(cast(Any, "TextEncoder"))
        return self._answers


class Handle:
    """What of a DeploymentHandle is used."""

    deployment_name = "TextEncoder"

    def __init__(self, method: str = "encode_texts") -> None:
        self.method = method
        self.calls: list[Response] = []
        self.by_reference = False
        self.replicas: list[Any] = ["a card"]  # what each answers when they are counted
        self.counted = 0

    def options(self, method_name: str | None = None, _by_reference: bool = False) -> "Handle":
        assert method_name == self.method if method_name else _by_reference
        self.by_reference = _by_reference
        return self

    def remote(self, texts: list[Any], *, urgent: bool = False) -> Response:
        self.calls.append(Response(texts, urgent, self.by_reference))
        return self.calls[-1]

    def broadcast(self, method: str) -> Broadcast:
        assert method == "describe"
        self.counted += 1
        return Broadcast(self.replicas)


def encoder(handle: Handle, **calls: Any) -> RemoteTextEncoder:
    return RemoteTextEncoder(cast(DeploymentHandle[Any], handle), CallConfig(**calls))


async def test_what_gathers_while_calls_are_under_way_travels_as_one() -> None:
    handle = Handle()
    texts = encoder(handle, max_in_flight=1)
    tasks = [asyncio.create_task(texts.encode_texts(["first"]))]
    await until(lambda: handle.calls)
    tasks += [asyncio.create_task(texts.encode_texts([str(at)])) for at in range(5)]
    await asyncio.sleep(0.01)
    handle.calls[0].answer()
    await until(lambda: len(handle.calls) == 2)
    assert handle.calls[1].texts == ["0", "1", "2", "3", "4"]
    handle.calls[1].answer()
    results = [cast(Embedding, result).fingerprint for (result,) in await asyncio.gather(*tasks)]
    assert results == ["first", "0", "1", "2", "3", "4"]


async def test_a_call_waits_at_the_text_encoder_only_if_it_is_full() -> None:
    handle = Handle()
    texts = RemoteTextEncoder(cast(DeploymentHandle[Any], handle), CallConfig(max_in_flight=2), max_batch_texts=3)
    tasks = [asyncio.create_task(texts.encode_texts(["first"]))]
    await until(lambda: handle.calls)
    tasks += [asyncio.create_task(texts.encode_texts([each])) for each in "ab"]
    await asyncio.sleep(0.01)
    assert len(handle.calls) == 1, "what comes meanwhile would miss it"
    tasks += [asyncio.create_task(texts.encode_texts([each])) for each in "cd"]
    await until(lambda: len(handle.calls) == 2)
    assert handle.calls[1].texts == ["a", "b", "c"]
    for task in tasks:
        task.cancel()


async def test_every_replica_of_the_text_encoder_gets_calls() -> None:
    handle = Handle()
    handle.replicas = ["a card", RayActorError(), ValueError("there, but not well")]
    texts = encoder(handle)
    tasks = [asyncio.create_task(texts.encode_texts(["first"]))]
    await until(lambda: handle.calls and handle.counted)
    tasks += [asyncio.create_task(texts.encode_texts([each])) for each in "ab"]
    await until(lambda: len(handle.calls) == 2)
    tasks.append(asyncio.create_task(texts.encode_texts(["c"])))
    await asyncio.sleep(0.01)
    assert [call.texts for call in handle.calls] == [["first"], ["a", "b"]], "one of three is dead"
    for task in tasks:
        task.cancel()


async def test_replicas_are_counted_every_few_seconds_and_none_at_the_moment_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = Handle()
    handle.replicas = ["a card"] * 3
    seldom = ReplicaCount(cast(DeploymentHandle[Any], handle), "describe")
    assert seldom() == 1, "not known yet"
    await until(lambda: seldom() == 3)
    assert handle.counted == 1
    monkeypatch.setattr("deployments.replica_count.ASK_EVERY_S", 0.001)
    count = ReplicaCount(cast(DeploymentHandle[Any], handle), "describe")
    await until(lambda: count() == 3)
    handle.replicas = []
    asked = handle.counted
    await until(lambda: count() == 3 and handle.counted > asked + 1)
    handle.replicas = [RayActorError()]
    await until(lambda: count() == 1)


async def test_a_few_texts_do_not_wait_behind_many() -> None:
    handle = Handle()
    texts = encoder(handle, max_in_flight=1, max_batch_size=16)
    stored = [f"document {at}" for at in range(2 * 16)]
    tasks = [asyncio.create_task(texts.encode_texts(stored))]
    await until(lambda: handle.calls)
    tasks.append(asyncio.create_task(texts.encode_texts(["asked"])))
    await until(lambda: len(handle.calls) == 2)
    assert [(call.texts, call.urgent) for call in handle.calls] == [(stored[:16], False), (["asked"], True)]
    for task in tasks:
        task.cancel()


async def test_pictures_that_come_with_a_question_wait_for_nobodys_file() -> None:
    handle = Handle("embed_pictures")
    pictures = RemotePreprocessor(
        cast(DeploymentHandle[Any], handle), CallConfig(max_picture_calls=1, max_pictures_per_call=2)
    )
    fetched = PictureTask(PictureUri("https://slow.test/picture.jpg"))
    stored = PictureTask(fetched.picture, keep=True)
    kept, asked = PictureTask(InlinePicture(b"kept"), keep=True), PictureTask(InlinePicture(b"asked"))
    task = asyncio.create_task(pictures.embed_pictures([fetched, asked, kept, stored]))
    await until(lambda: len(handle.calls) == 3)
    assert [call.texts for call in handle.calls] == [[fetched], [asked], [kept, stored]]
    for call, results in zip(handle.calls, (["of fetched"], ["of asked"], ["of kept", "of stored"]), strict=True):
        call.future.set_result(results)
    assert await task == ["of fetched", "of asked", "of kept", "of stored"]


async def test_pictures_at_hand_gather_until_they_fill_a_call() -> None:
    handle = Handle("embed_pictures")
    calls = CallConfig(max_partial_picture_calls=1, max_pictures_per_call=3)
    pictures = RemotePreprocessor(cast(DeploymentHandle[Any], handle), calls)
    tasks = [PictureTask(InlinePicture(bytes([at]))) for at in range(5)]
    under_way = [asyncio.create_task(pictures.embed_pictures([tasks[0]]))]
    await until(lambda: handle.calls)
    under_way += [asyncio.create_task(pictures.embed_pictures([task])) for task in tasks[1:]]
    await until(lambda: len(handle.calls) == 2)
    assert [call.texts for call in handle.calls] == [tasks[:1], tasks[1:4]]
    for call in handle.calls:
        call.future.set_result(call.texts)
    await until(lambda: len(handle.calls) == 3)
    handle.calls[2].future.set_result(handle.calls[2].texts)
    assert [found for (found,) in await asyncio.gather(*under_way)] == tasks


async def test_a_call_is_given_up_when_the_last_of_its_callers_has_gone() -> None:
    handle = Handle()
    texts = encoder(handle)
    gone, staying = (asyncio.create_task(texts.encode_texts([text])) for text in ("gone", "staying"))
    await until(lambda: handle.calls)
    gone.cancel()
    await asyncio.sleep(0.01)
    assert not handle.calls[0].given_up
    staying.cancel()
    await until(lambda: handle.calls[0].given_up)


async def test_a_call_to_a_replica_that_died_is_made_again() -> None:
    handle = Handle()
    task = asyncio.create_task(encoder(handle).encode_texts(["text"]))
    await until(lambda: handle.calls)
    handle.calls[0].future.set_exception(RayActorError())
    await until(lambda: len(handle.calls) == 2)
    handle.calls[1].answer()
    assert [cast(Embedding, each).fingerprint for each in await task] == ["text"]


def refused_by_grpc(code: StatusCode) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), details="Received message larger than max (9000000 vs. 4194304)")


async def test_a_call_that_is_too_large_for_grpc_travels_by_reference() -> None:
    handle = Handle()
    task = asyncio.create_task(encoder(handle).encode_texts(["text"]))
    await until(lambda: handle.calls)
    assert not handle.calls[0].by_reference
    handle.calls[0].future.set_exception(refused_by_grpc(StatusCode.RESOURCE_EXHAUSTED))
    await until(lambda: len(handle.calls) == 2)
    assert handle.calls[1].by_reference
    handle.calls[1].answer()
    assert [cast(Embedding, each).fingerprint for each in await task] == ["text"]


async def test_what_else_grpc_says_is_an_error_of_ours_and_says_nothing_of_its_insides() -> None:
    handle = Handle()
    task = asyncio.create_task(encoder(handle).encode_texts(["text"]))
    await until(lambda: handle.calls)
    handle.calls[0].future.set_exception(refused_by_grpc(StatusCode.INTERNAL))
    with pytest.raises(InternalError) as caught:
        await task
    assert "4194304" not in caught.value.message


async def test_a_replica_that_stays_away_is_said_to_be_away() -> None:
    handle = Handle()
    task = asyncio.create_task(encoder(handle, retry_for_s=0).encode_texts(["text"]))
    await until(lambda: handle.calls)
    handle.calls[0].future.set_exception(RayActorError())
    with pytest.raises(Unavailable):
        await task


async def test_a_long_queue_at_the_caller_is_refused_at_once() -> None:
    handle = Handle()
    texts = encoder(handle, max_in_flight=1, max_queued_items=1)
    tasks = [asyncio.create_task(texts.encode_texts(["first"]))]
    await until(lambda: handle.calls)
    tasks.append(asyncio.create_task(texts.encode_texts(["second"])))
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded):
        await texts.encode_texts(["third"])
    for task in tasks:
        task.cancel()
