"""The arguments of `crossmodal reindex`, on their way to the job, and what the job makes of them."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from configs.schema import EncoderConfig
from deployments.jobs.reindex import new_encoder, read_queries
from serve_app.cli.job_commands import argv
from serve_app.cli.reindex import ReindexArguments, anchored, reindex_command
from serve_app.core.comparison import SampleQuery
from serve_app.errors import InvalidConfig, InvalidSource

OWN = EncoderConfig(model="demo", sha256="a" * 64, threads=3)


@pytest.mark.parametrize(
    "arguments",
    [
        ReindexArguments(rollback=True),
        ReindexArguments(model="ViT-B-32", pretrained="laion2b_s34b_b79k", share=0.5, max_lost=3, json=True),
        ReindexArguments(model="local-dir:/m", queries=Path("/q.jsonl"), no_switch=True, local=True, encoders=2),
    ],
)
def test_a_job_is_told_what_the_user_said(arguments: ReindexArguments) -> None:
    heard: list[ReindexArguments] = []
    app = typer.Typer()
    app.command()(reindex_command(heard.append))
    assert CliRunner().invoke(app, argv(arguments)).exit_code == 0
    assert heard == [arguments]


def test_paths_are_those_of_the_folder_where_they_were_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = anchored(ReindexArguments(model="local-dir:models/mine", queries=Path("q.jsonl")))
    assert said.model == f"local-dir:{tmp_path}/models/mine"
    assert said.queries == tmp_path / "q.jsonl"
    named = anchored(ReindexArguments(model="ViT-B-32", pretrained="laion2b_s34b_b79k"))
    assert (named.model, named.pretrained) == ("ViT-B-32", "laion2b_s34b_b79k")


def test_the_new_encoder_is_the_services_own_with_another_model() -> None:
    new = new_encoder(ReindexArguments(model="ViT-B-32", pretrained="tag"), OWN)
    assert (new.model, new.pretrained, new.sha256, new.threads) == ("ViT-B-32", "tag", None, 3)
    assert new_encoder(ReindexArguments(rollback=True), OWN) == OWN


@pytest.mark.parametrize("arguments", [ReindexArguments(), ReindexArguments(model="demo", rollback=True)])
def test_a_model_or_the_way_back_has_to_be_said(arguments: ReindexArguments) -> None:
    with pytest.raises(InvalidConfig, match="--rollback"):
        new_encoder(arguments, OWN)


def test_queries_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text('{"text": "boats", "relevant": ["b1", "b2"]}\n\n{"text": "cats"}\n', encoding="utf-8")
    assert read_queries(path) == (SampleQuery("boats", ("b1", "b2")), SampleQuery("cats"))
    path.write_text('["boats"]\n', encoding="utf-8")
    with pytest.raises(InvalidSource, match="relevant"):
        read_queries(path)
