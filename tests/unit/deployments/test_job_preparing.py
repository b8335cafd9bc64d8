"""What readers leave to encoders, and what they do not."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from configs.load import load_config
from deployments.jobs.preparing import Handing
from deployments.jobs.resources import plan_resources
from deployments.jobs.settings import JobSettings
from serve_app.core.failures import failure_of
from serve_app.core.source_items import SourceItem
from serve_app.errors import PictureNotFound
from serve_app.types import ItemFailure


async def test_readers_fetch_what_lies_elsewhere_and_hand_on_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("demo", {"storage": {"uri": str(tmp_path)}, "table": {"uri": str(tmp_path / "table")}})
    resources = plan_resources(cpus=2, gpus=0, free_cpus=2, free_gpus=0, share=1)
    seen: list[tuple[str, int, int]] = []
    handing = Handing(
        JobSettings(config, "job", 1, resources), lambda stage, items, size, _: seen.append((stage, items, size))
    )
    gone = failure_of(PictureNotFound("there is nothing"))

    async def fetch_all(uris: Sequence[str]) -> list[bytes | ItemFailure]:
        return [gone if uri.endswith("gone.png") else uri.encode() for uri in uris]

    monkeypatch.setattr(handing._source, "fetch_all", fetch_all)
    here = SourceItem("here", uri="file:///pictures/a.png")
    words = SourceItem("words", text="a red boat")
    inside = SourceItem("inside", data=b"of a tar", uri="s3://b/c.png")
    there, lost = SourceItem("there", uri="s3://b/a.png"), SourceItem("lost", uri="https://host/gone.png")
    found = await handing.steps([here, there, words, lost, inside])
    assert [(step.key, step.uri) for step in found] == [
        (each.key, each.uri) for each in (here, there, words, lost, inside)
    ]
    fetched = SourceItem("there", uri="s3://b/a.png", data=b"s3://b/a.png")
    assert [step.outcome for step in found] == [here, fetched, words, gone, inside]
    assert seen == [("fetch", 2, len(b"s3://b/a.png"))]
    seen.clear()
    await handing.steps([here, words])
    assert not seen
