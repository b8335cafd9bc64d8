"""The job `evaluate` on the demo corpus, in process and through HTTP: real model, real table, real sockets, no Ray."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from configs.load import PROFILES, load_config
from deployments.jobs.evaluate import Options, run
from deployments.jobs.evaluated_locally import LocalSystem
from serve_app.cli import app
from serve_app.client import Client, NewDocument
from serve_app.demo.corpus import write_captioned, write_classes
from serve_app.errors import InvalidRequest
from serve_app.http.app import create_app
from serve_app.http.limits import HttpLimits
from serve_app.services.evaluation_report import Evaluation, as_json
from serve_app.services.jobs import JobService
from serve_app.services.keeping import KeepingService
from serve_app.services.status import StatusService
from tests.fakes.jobs import MemoryJobs

PICTURES = 30


@dataclass(frozen=True)
class Served:
    """A service over the demo's model, in a thread of this process."""

    url: str
    system: LocalSystem


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_captioned(folder / "book", pictures=PICTURES)
    write_classes(folder / "classes", pictures=PICTURES)
    return folder


@pytest.fixture(scope="module")
def profile(folder: Path) -> str:
    """The demo in float32: in bfloat16 a vector depends on what it was encoded with, by 1e-3, and so do places."""
    demo = yaml.safe_load((PROFILES / "demo.yaml").read_text(encoding="utf-8"))
    demo["encoder"]["precision"] = "float32"
    exact = folder / "exact.yaml"
    exact.write_text(yaml.safe_dump(demo), encoding="utf-8")
    return str(exact)


@pytest.fixture(scope="module")
def served(folder: Path, profile: str) -> Iterator[Served]:
    system = LocalSystem(load_config(profile, environment={}), folder / "service")
    status = StatusService(system.encoder, system.pictures, system.retrieval, system.indexing, cache_s=1)
    keeping = KeepingService(system.table.keeping, system.indexing.writing)
    asgi = create_app(
        system.searching,
        system.documents,
        system.embeddings,
        system.classification,
        status,
        keeping,
        JobService(MemoryJobs()),
        HttpLimits(),
    )
    server = uvicorn.Server(uvicorn.Config(asgi, port=0, lifespan="off", log_level="warning"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve(),))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Served(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", system)
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def in_process(folder: Path, profile: str) -> tuple[Result, Path]:
    """What the command prints and writes."""
    out = folder / "report"
    arguments = ["evaluate", folder / "book", "--profile", profile, "--index", "--out", out, "--json"]
    return CliRunner().invoke(app, [str(each) for each in arguments]), out


def evaluated(**options: Any) -> Evaluation:
    return run(Options(**options), lambda what, done, of: None)


def figures(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Without what names documents, whose scores differ in the last digits."""
    return [{name: value for name, value in each.items() if name != "worst"} for each in report["results"]]


def ids_of(client: Client) -> list[str]:
    return [each.id for each in client.documents()]


def test_the_figures_are_the_same_in_process_and_through_http(
    in_process: tuple[Result, Path], served: Served, folder: Path
) -> None:
    there = as_json(evaluated(corpus=folder / "book", url=served.url))
    here = json.loads(in_process[0].stdout)
    asked = [(each["direction"], each["ranking"], each["queries"]) for each in here["results"]]
    assert asked == [
        ("text-to-image", "cosine", 2 * PICTURES),
        ("image-to-text", "cosine", PICTURES),
        *(("mixed", ranking, 3 * PICTURES) for ranking in ("cosine", "calibrated", "hybrid")),
    ]
    assert figures(here) == figures(there)
    assert here["results"][0]["recall@5"]["value"] > 0.9
    assert (here["fingerprint"], here["model"]) == (there["fingerprint"], there["model"])


def test_what_is_added_to_a_service_is_its_own_and_taken_away_again(served: Served, folder: Path) -> None:
    with Client(served.url) as client:
        assert {each.status for each in client.add([NewDocument("a stranger", id="mine")])} == {"stored"}
        options = {"corpus": folder / "book", "url": served.url, "directions": ("image-to-text",), "most_queries": 20}
        once = evaluated(**options)
        assert ids_of(client) == ["mine"]
        kept = evaluated(**options, keep=True)
        assert len(ids_of(client)) == 1 + 3 * PICTURES
        client.delete_many(everything=True)
    assert once.asked[0].figures == kept.asked[0].figures
    prefix = kept.remarks[-1].rpartition(" ")[2]
    assert prefix.startswith("evaluate-")
    assert "20 of 90 queries were asked" in once.remarks[0]


def test_a_run_that_is_broken_off_takes_away_what_it_added(served: Served, folder: Path) -> None:
    def stop(what: str, done: int, of: int) -> None:
        if what.startswith("asking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Options(corpus=folder / "book", url=served.url), stop)
    with Client(served.url) as client:
        assert ids_of(client) == []


def test_files_and_plots_are_written_and_the_index_is_measured(in_process: tuple[Result, Path]) -> None:
    result, out = in_process
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report == json.loads(result.stdout)
    assert "| recall@1 |" in (out / "report.md").read_text()
    exact, *others = report["index"]["points"]
    assert (exact["nprobes"], exact["nearest"]) == (None, 1.0)
    assert max(each["nearest"] for each in others) > 0.99
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert {"recall.png", "index.png"} <= set(pictures)
    for name in pictures:
        with Image.open(out / name) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 10


def test_classes_are_told_the_same_in_process_and_through_http(served: Served, folder: Path) -> None:
    here, there = (
        evaluated(corpus=folder / "classes", templates=("a {}", "{} at night"), url=url, out=folder / "classified")
        for url in (None, served.url)
    )
    assert here.classified == there.classified
    assert here.classified is not None
    assert here.classified.pictures == len(list((folder / "classes").rglob("*.jpg")))
    assert here.classified.accuracy.top1.value > 1 / here.classified.classes
    assert (folder / "classified" / "classes.png").is_file()


def test_a_broken_picture_among_good_ones_fails_alone_everywhere(served: Served, tmp_path: Path) -> None:
    write_captioned(tmp_path, pictures=3)
    broken = next((tmp_path / "pictures").iterdir())
    broken.write_bytes(b"these are no pixels")
    for url in (None, served.url):
        found = evaluated(corpus=tmp_path, url=url, directions=("image-to-text",))
        assert found.remarks[0].startswith("1 of 9 documents could not be stored and count as not found")
        assert [each.code for each in found.asked[0].failures] == ["not_a_picture"]
        assert found.asked[0].figures["recall@1"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"index": True, "url": "http://127.0.0.1:1"}, "--index builds an index of its own"),
        ({"stored": True}, "--stored speaks of a service"),
        ({"kind": "judged"}, r"has no corpus\.jsonl"),
    ],
)
def test_what_does_not_go_together_is_told(folder: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        run(replace(Options(corpus=folder / "book"), **options), lambda what, done, of: None)
