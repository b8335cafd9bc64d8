"""A checkpoint in object storage is on this machine, and is the right one, before a loader is asked for it."""

from pathlib import Path

import pytest

from configs.schema import EncoderConfig
from deployments.checkpoints import tower_arguments
from serve_app.errors import ModelUnavailable


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket" / "model"
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def config(tmp_path: Path, **values: str) -> EncoderConfig:
    return EncoderConfig(cache_dir=str(tmp_path / "cache"), **values)  # type: ignore[arg-type]


def test_a_file_of_a_bucket_becomes_a_path_with_its_config_beside_it(tmp_path: Path, bucket: Path) -> None:
    uri = (bucket / "model.safetensors").as_uri()
    arguments = tower_arguments(config(tmp_path, model="ViT-B-32", pretrained=uri))
    file = Path(str(arguments["pretrained"]))
    assert arguments["model"] == "ViT-B-32"
    assert file.read_bytes() == b"weights"
    assert file.with_name("open_clip_config.json").is_file()


def test_a_checkpoint_with_another_sha256_is_not_kept(tmp_path: Path, bucket: Path) -> None:
    for values in (
        {"model": bucket.as_uri()},
        {"model": "ViT-B-32", "pretrained": (bucket / "model.safetensors").as_uri()},
    ):
        with pytest.raises(ModelUnavailable, match="SHA-256"):
            tower_arguments(config(tmp_path, sha256="0" * 64, **values))
    assert list((tmp_path / "cache").iterdir()) == []


def test_names_that_need_no_fetching_stay(tmp_path: Path) -> None:
    arguments = tower_arguments(config(tmp_path, model="ViT-B-32", pretrained="openai"))
    assert (arguments["model"], arguments["pretrained"], arguments["sha256"]) == ("ViT-B-32", "openai", None)
    assert not (tmp_path / "cache").exists()
