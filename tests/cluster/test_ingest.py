"""The job `ingest` on a real Ray: pictures, texts and broken items in; once again; and onto another writer's rows."""

import asyncio
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import yaml
from PIL import Image

from deployments.jobs.ingest import configuration
from deployments.jobs.ledger import Ledger
from deployments.jobs.orders import JobOrder
from deployments.writing import open_for_writing
from serve_app.adapters.sources import SourceSpec, open_source
from serve_app.cli.ingest import IngestArguments
from serve_app.demo.corpus import demo_pictures
from serve_app.errors import JobFailed
from serve_app.types import JobState, JobStatus, Modality

pytestmark = pytest.mark.cluster

GOOD = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a list of texts, and a list of what is broken."""
    folder = tmp_path_factory.mktemp("ingest")
    pictures = folder / "sources" / "pictures"
    pictures.mkdir(parents=True)
    for picture in demo_pictures(seed=5, count=GOOD):
        (pictures / picture.file_name).write_bytes(picture.encoded())
    good = next(iter(pictures.iterdir())).read_bytes()
    (pictures / "z-truncated.jpg").write_bytes(good[: len(good) // 2])
    (pictures / "z-words.png").write_bytes(b"these are no pixels")
    (pictures / "z-empty.png").write_bytes(b"")
    (pictures / "z-long.png").write_bytes(_png(3000, 2))
    lines = [f"t{number},red boat {number}" for number in range(GOOD)]
    (folder / "sources" / "texts.csv").write_text(
        "\n".join(["id,text", *lines, "too,many,cells", "b\x00d,a\x00b", "e,", f"{'x' * 600},long id"]),
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def order(folder: Path) -> Iterator[JobOrder]:
    file = folder / "serve.yaml"
    overrides = {"table": {"uri": str(folder / "table")}, "storage": {"uri": str(folder / "kept")}}
    application = {"import_path": "deployments.graph:build", "args": {"profile": "demo", "overrides": overrides}}
    file.write_text(yaml.safe_dump({"applications": [{"name": "a", **application}]}), encoding="utf-8")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="WARNING")
    try:
        config = configuration(IngestArguments((), config=file))
        yield JobOrder(
            kind="ingest",
            job_id="first",
            config=config,
            share=1.0,
            beside=None,
            copies=True,
            roots=(str(folder / "sources"),),
            max_failures=None,
            commit_rows=16,
            encoders=1,
            preparers=1,
        )
    finally:
        ray.shutdown()


def run(order: JobOrder, *sources: Path, **changes: object) -> JobState:
    # After Ray: LanceDB, once loaded, warns of every process that is started after it.
    from deployments.jobs.pipeline import run_job

    return run_job(open_source(SourceSpec(tuple(map(str, sources)))), replace(order, **changes), lambda state: None)


def counts(order: JobOrder) -> dict[Modality, int]:
    table = open_for_writing(order.config.table, order.config.full_text)
    return dict(asyncio.run(table.info()).counts)


def _png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_what_is_good_is_stored_and_what_is_broken_is_told(order: JobOrder, folder: Path) -> None:
    state = run(order, folder / "sources" / "pictures")
    assert (state.status, state.stored, state.failed) == (JobStatus.FINISHED, GOOD, 4)
    failures = Ledger(order.config.table, "first").failures(1).to_pylist()
    codes = {each["key"].rpartition("/")[2]: each["code"] for each in failures}
    assert codes == {
        "z-truncated.jpg": "picture_truncated",
        "z-words.png": "not_a_picture",
        "z-empty.png": "not_a_picture",
        "z-long.png": "picture_too_elongated",
    }
    assert counts(order)[Modality.IMAGE] == GOOD


def test_the_same_again_is_unchanged_and_a_finished_job_stays_as_it_was(order: JobOrder, folder: Path) -> None:
    again = run(order, folder / "sources" / "pictures", job_id="second")
    assert (again.status, again.stored, again.unchanged, again.encoded) == (JobStatus.FINISHED, 0, GOOD, 0)
    assert run(order, folder / "sources" / "pictures").attempt == 1
    assert counts(order)[Modality.IMAGE] == GOOD


def test_too_many_failures_stop_a_job_that_goes_on_when_they_are_allowed(order: JobOrder, folder: Path) -> None:
    texts = folder / "sources" / "texts.csv"
    with pytest.raises(JobFailed, match="--max-failures allows 0"):
        run(order, texts, job_id="texts", max_failures=0)
    failed = Ledger(order.config.table, "texts").state()
    assert failed is not None
    assert failed.status is JobStatus.FAILED
    state = run(order, texts, job_id="texts")
    assert (state.status, state.attempt, state.failed) == (JobStatus.FINISHED, 2, 4)
    assert counts(order)[Modality.TEXT] == GOOD
