"""The job `ingest` on a real Ray: pictures, texts and broken items in; once again; and onto another writer's rows."""

import asyncio
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import yaml
from PIL import Image

from deployments.jobs.imports import take_in
from deployments.jobs.ingest import configuration
from deployments.jobs.ledger import Ledger
from deployments.jobs.orders import JobOrder
from deployments.jobs.telling import Teller
from deployments.writing import open_for_writing
from serve_app.adapters.sources import SourceSpec, open_source
from serve_app.cli.importing import ImportArguments
from serve_app.cli.ingest import IngestArguments
from serve_app.demo.corpus import demo_pictures
from serve_app.errors import JobFailed
from serve_app.types import JobState, JobStatus, Modality
from tests.cluster.conftest import free_port
from tests.drawn_video import film

pytestmark = pytest.mark.cluster

GOOD = 24
FRAMES = 12  # one every two seconds of the film


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
    (pictures / "film.mp4").write_bytes(film())
    lines = [f"t{number},red boat {number}" for number in range(GOOD)]
    (folder / "sources" / "texts.csv").write_text(
        "\n".join(["id,text", *lines, "too,many,cells", "b\x00d,a\x00b", "e,", f"{'x' * 600},long id"]),
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """The address of a Ray cluster that takes jobs, to which this process is connected."""
    port = free_port()
    # Paths of its sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="cm-", ignore_cleanup_errors=True) as short:
        context = ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=True,
            dashboard_port=port,
            log_to_driver=False,
            logging_level="WARNING",
            _temp_dir=short,
        )
        # As `ray start` does: there may be other clusters on this machine, and a job is to find this one.
        (Path(short) / "ray_current_cluster").write_text(context.address_info["gcs_address"], encoding="utf-8")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            ray.shutdown()


@pytest.fixture(scope="module")
def order(folder: Path, dashboard: str) -> JobOrder:
    file = folder / "serve.yaml"
    overrides = {"table": {"uri": str(folder / "table")}, "storage": {"uri": str(folder / "kept")}}
    application = {"import_path": "deployments.graph:build", "args": {"profile": "demo", "overrides": overrides}}
    file.write_text(yaml.safe_dump({"applications": [{"name": "a", **application}]}), encoding="utf-8")
    config = configuration(IngestArguments((), config=file))
    return JobOrder(
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
    assert (state.status, state.stored, state.failed) == (JobStatus.FINISHED, GOOD + FRAMES, 4)
    failures = Ledger(order.config.table, "first").failures(1).to_pylist()
    codes = {each["key"].rpartition("/")[2]: each["code"] for each in failures}
    assert codes == {
        "z-truncated.jpg": "picture_truncated",
        "z-words.png": "not_a_picture",
        "z-empty.png": "not_a_picture",
        "z-long.png": "picture_too_elongated",
    }
    assert counts(order)[Modality.IMAGE] == GOOD
    assert counts(order)[Modality.VIDEO_FRAME] == FRAMES


def test_the_same_again_submitted_is_followed_to_its_end_and_changes_nothing(
    order: JobOrder, folder: Path, dashboard: str
) -> None:
    command = [
        Path(sys.executable).with_name("crossmodal"),
        "ingest",
        "--address",
        dashboard,
        "--job-id",
        "second",
        "--copy",
    ]
    where = ["--config", str(folder / "serve.yaml"), "--encoders", "1", str(folder / "sources" / "pictures")]
    done = subprocess.run([*command, *where], cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "submitted second-1" in done.stderr
    assert f"stored 0, unchanged {GOOD + FRAMES}, failed 4" in done.stdout
    again = Ledger(order.config.table, "second").state()
    assert again is not None
    assert (again.status, again.stored, again.unchanged, again.encoded) == (JobStatus.FINISHED, 0, GOOD + FRAMES, 0)
    # A job that has finished stays as it was.
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


def test_an_export_is_submitted_as_well_and_comes_back(order: JobOrder, folder: Path, dashboard: str) -> None:
    crossmodal = Path(sys.executable).with_name("crossmodal")
    where = ["--config", str(folder / "serve.yaml"), "--address", dashboard, "--job-id", "leaving"]
    done = subprocess.run(
        [crossmodal, "export", *where, "moved"], cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = sum(counts(order).values())
    assert f"{rows} rows of version" in done.stdout
    state = Ledger(order.config.table, "leaving").state()
    assert state is not None
    assert (state.kind, state.status, state.stored) == ("export", JobStatus.FINISHED, rows)
    arrival = asyncio.run(take_in(ImportArguments(str(folder / "moved")), order.config, Teller("imported")))
    assert (arrival.unchanged, arrival.stored.total(), arrival.failed) == (rows, 0, 0)
