"""Another model for a running service: built beside, caught up with, taken into service under traffic, and back again."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from deployments.jobs.configured import service_configuration
from serve_app.cli.reindex import ReindexArguments
from serve_app.client import Client, NewDocument
from serve_app.demo.corpus import demo_pictures, demo_texts
from serve_app.errors import CrossmodalError
from serve_app.local_graph import LocalGraph, default_serve_file, free_port, read_serve_file, serve_command
from serve_app.types import JobState, JobStatus
from serve_app.ways_in import HAPROXY, way_in
from tests.cluster.conftest import ready
from tests.unit.adapters.tiny_checkpoints import save_checkpoint

pytestmark = pytest.mark.cluster

PICTURES = list(demo_pictures(seed=3, count=40))
TEXTS = list(demo_texts(count=30))


class Traffic:
    """People who search, write, delete and embed all the time. `failures`: what any of them was answered instead."""

    def __init__(self, url: str) -> None:
        self.failures: list[str] = []
        self.calls = 0
        self.written: dict[str, str] = {}
        self.deleted: list[str] = []
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._use, args=(url, work)) for work in (self._search, self._write)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _use(self, url: str, work: object) -> None:
        with Client(url, retries=0) as client:
            while not self._enough.is_set():
                try:
                    work(client)  # type: ignore[operator]
                except CrossmodalError as error:
                    self.failures.append(f"{error.code}: {error.message}")
                self.calls += 1
                time.sleep(0.3)

    def _search(self, client: Client) -> None:
        assert client.search("two red boats at night").results
        assert client.search(image=PICTURES[self.calls % 40].encoded()).results
        assert client.search(all_of=[{"text": "a cat"}, {"document_id": TEXTS[0].id, "weight": 0.5}]).results
        assert len(client.embed(["a cat"], images=[PICTURES[0].encoded()]).vectors) == 2

    def _write(self, client: Client) -> None:
        name, words = f"new-{len(self.written)}", f"a red boat, number {len(self.written)}"
        (added,) = client.add([NewDocument(id=name, text=words)])
        if added.error is not None:
            raise added.error
        self.written[name] = words
        # What was written is found at once, on either side of the switch.
        assert client.get(name).text == words
        if len(self.deleted) < 5 and name.endswith("5"):
            client.delete(TEXTS[-1 - len(self.deleted)].id)
            self.deleted.append(TEXTS[-1 - len(self.deleted)].id)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reindex")


@pytest.fixture(scope="module")
def other_model(folder: Path) -> str:
    """With other dimensions, and other sizes of pictures."""
    return f"local-dir:{save_checkpoint(folder / 'model')}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with way_in(HAPROXY) as settings, pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(scope="module")
def serve_file(folder: Path) -> Path:
    file = read_serve_file(default_serve_file(), port=free_port())
    overrides = {"table": {"uri": str(folder / "table")}, "storage": {"uri": str(folder / "pictures")}}
    file.content["applications"][0]["args"]["overrides"] = overrides
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(dict(file.content)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def graph(folder: Path, serve_file: Path, cluster: str) -> Iterator[LocalGraph]:
    command = [*serve_command(own_ray=False), "--address", cluster]
    with LocalGraph(read_serve_file(serve_file), folder / "run", {}, command) as running:
        yield ready(running)


@pytest.fixture(scope="module")
def client(graph: LocalGraph) -> Iterator[Client]:
    with Client(graph.url) as client:
        documents = [NewDocument(id=picture.id, image=picture.encoded()) for picture in PICTURES]
        documents += [NewDocument(id=text.id, text=text.text, metadata={"n": 1}) for text in TEXTS]
        documents.append(NewDocument(id="both", text=PICTURES[1].caption, image=PICTURES[1].encoded()))
        assert {added.status for added in client.add(documents)} == {"stored"}
        yield client


def reindexed(arguments: ReindexArguments) -> tuple[JobState, Any]:
    """As the job does it, on the Ray that the graph runs on."""
    from deployments.jobs.reindex import order_of
    from deployments.jobs.reindexing import reindex
    from deployments.jobs.switching import RunningService

    order = order_of(arguments, service_configuration(arguments.config, None))
    with Client(str(arguments.url)) as client:
        return reindex(order, RunningService(client), lambda _: None)


def test_a_service_goes_over_to_another_model_and_back_without_a_failed_request(
    client: Client, serve_file: Path, other_model: str
) -> None:
    own = client.models()["data"][0]["fingerprint"]
    times = {text.id: client.get(text.id).created_at for text in TEXTS[:5]}
    forth = ReindexArguments(model=other_model, config=serve_file, url=client.url, encoders=1, readers=1)
    with Traffic(client.url) as traffic:
        state, report = reindexed(forth)
        time.sleep(1)
    assert not traffic.failures, traffic.failures[:3]
    assert (state.status, report.lost) == (JobStatus.FINISHED, 0)
    assert 0 <= report.comparison.overlap <= 1
    assert report.held_s < 10
    other = client.models()["data"][0]["fingerprint"]
    assert other != own
    assert len(client.embed(["a cat"]).vectors[0]) == 32
    check_rows(client, traffic)
    assert {each: client.get(each).created_at for each in times} == times
    back = ReindexArguments(rollback=True, config=serve_file, url=client.url, encoders=1, readers=1)
    with Traffic(client.url) as later:
        later.written.update(traffic.written)
        later.deleted.extend(traffic.deleted)
        state, report = reindexed(back)
        time.sleep(1)
    assert (state.status, report.new) == (JobStatus.FINISHED, "documents")
    assert not later.failures, later.failures[:3]
    assert client.models()["data"][0]["fingerprint"] == own
    check_rows(client, later)
    assert client.search(PICTURES[0].caption, modalities=["image"], limit=5).results


def check_rows(client: Client, traffic: Traffic) -> None:
    """All that was acknowledged is there, once, and what was deleted is not."""
    assert len(traffic.written) > 5
    stored = {document.id: document for document in client.documents()}
    assert not [name for name, words in traffic.written.items() if stored[name].text != words]
    assert not set(traffic.deleted) & set(stored)
    assert {picture.id for picture in PICTURES} | {"both"} <= set(stored)
    assert sum(client.table().counts.values()) == len(stored)
