"""The job `ingest` on a real Ray: pictures, texts and broken items in; once again; and onto another writer's rows."""

import asyncio
import io
import json
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import yaml
from PIL import Image
from ray.cluster_utils import Cluster

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
from serve_app.local_graph import free_port
from serve_app.types import JobState, JobStatus, Modality
from tests.drawn_video import film

pytestmark = pytest.mark.cluster

GOOD = 24
FRAMES = 12  # one every two seconds of the film
TEXTS = 320
# The line of each, and what is to be said of it: 3 % of the list, broken in ten ways.
BROKEN: dict[str, tuple[object, str]] = {
    "no JSON": ('{"id": "a", "text": ', "invalid_row"),
    "a text without a word": ({"id": "b", "text": "  "}, "empty_text"),
    "a text without an end": ({"id": "c", "text": "word " * 30_000}, "text_too_long"),
    "an id without an end": ({"id": "d" * 600, "text": "a red boat"}, "invalid_document_id"),
    "nothing at all": ({"id": "e"}, "invalid_row"),
    "a picture that is not there": ({"id": "f", "uri": "gone.png"}, "picture_not_found"),
    "a picture of others": ({"id": "g", "uri": "file:///etc/hostname"}, "uri_not_allowed"),
    "half a picture": ({"id": "h", "uri": "pictures/z-truncated.jpg"}, "picture_truncated"),
    "words for a picture": ({"id": "i", "uri": "pictures/z-words.png"}, "not_a_picture"),
    "a picture of ten thousand million pixels": ({"id": "j", "uri": "bomb.png"}, "picture_too_large"),
}


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
    _write_list(folder / "sources")
    return folder


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """The address of a Ray cluster that takes jobs, to which this process is connected."""
    port = free_port()
    # Paths of its sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="cm-", ignore_cleanup_errors=True) as short:
        # There may be other clusters on this machine: with the usual port, only one of them has an agent that takes jobs.
        node = {"num_cpus": 2, "include_dashboard": True, "dashboard_port": port, "temp_dir": short}
        cluster = Cluster(
            initialize_head=True,
            head_node_args={**node, "dashboard_agent_listen_port": free_port(), "gcs_server_port": 0},
        )
        # As `ray start` does: a job is to find this one.
        (Path(short) / "ray_current_cluster").write_text(cluster.address, encoding="utf-8")
        ray.init(address=cluster.address, log_to_driver=False, logging_level="WARNING", _temp_dir=short)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            ray.shutdown()
            cluster.shutdown()


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


def _write_list(folder: Path) -> None:
    """Good lines, and a broken one after each thirty of them."""
    bomb = bytearray(_png(8, 8))
    bomb[16:24] = struct.pack(">II", 100_000, 100_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    (folder / "bomb.png").write_bytes(bomb)
    lines = [json.dumps({"id": f"t{number}", "text": f"red boat {number}"}) for number in range(TEXTS)]
    for place, (line, _) in enumerate(BROKEN.values()):
        lines.insert(31 * place, line if isinstance(line, str) else json.dumps(line))
    (folder / "list.jsonl").write_text("\n".join(lines), encoding="utf-8")


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


def test_three_percent_broken_in_ten_ways_are_told_and_stop_the_job_only_where_told_to(
    order: JobOrder, folder: Path
) -> None:
    listed = folder / "sources" / "list.jsonl"
    with pytest.raises(JobFailed, match="--max-failures allows 0"):
        run(order, listed, job_id="texts", max_failures=0)
    failed = Ledger(order.config.table, "texts").state()
    assert failed is not None
    assert failed.status is JobStatus.FAILED
    state = run(order, listed, job_id="texts")
    assert (state.status, state.attempt, state.failed) == (JobStatus.FINISHED, 2, len(BROKEN))
    failures = Ledger(order.config.table, "texts").failures(2).to_pylist()
    said = {int(each["key"].rpartition("#")[2]): each["code"] for each in failures}
    assert [said[line] for line in sorted(said)] == [code for _, code in BROKEN.values()]
    assert counts(order)[Modality.TEXT] == TEXTS


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
