"""Moving in from clip-retrieval: its files as its own writer makes them, whose vectors they are, and what is broken in them."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from configs.schema import AppConfig
from deployments.jobs.evaluated_locally import LocalPictures
from deployments.jobs.stated_model import StatedModel, spelt_out
from serve_app.adapters.exchange.clip_retrieval import ClipLayout, ClipRetrieval
from serve_app.adapters.object_writing import ObjectWriting
from serve_app.core.ids import content_sha256, document_id
from serve_app.core.vectors import fuse, unit
from serve_app.demo.corpus import demo_pictures
from serve_app.errors import FingerprintMismatch, InvalidRequest, InvalidSource
from serve_app.types import FloatMatrix, ItemFailure, Modality, PictureTask, PictureUri, StoredDocument
from tests.contract.rows import DIMENSION, ENCODER
from tests.emulators import Bucket
from tests.moving.conftest import opened, run_import, unit_rows

Configs = Callable[..., AppConfig]


def write_shard(
    folder: Path,
    number: str,
    metadata: dict[str, Sequence[Any]],
    images: FloatMatrix | None = None,
    texts: FloatMatrix | None = None,
) -> None:
    """As clip_inference/writer.py of clip-retrieval does: half precision, pandas, a number with zeros before it."""
    for kind, vectors in (("img_emb", images), ("text_emb", texts)):
        if vectors is not None:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            np.save(folder / kind / f"{kind}_{number}.npy", vectors.astype(np.float16))
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(metadata).to_parquet(folder / "metadata" / f"metadata_{number}.parquet")


def captions(count: int, first: int = 0) -> list[str]:
    return [f"caption {at}" for at in range(first, first + count)]


@pytest.fixture
def prepared(config_of: Configs) -> AppConfig:
    """A configuration whose table is there, so that --unchecked needs no model."""
    config = config_of("moved")
    table = opened(config)
    asyncio.run(table.create(ENCODER))
    return config


def take(config: AppConfig, folder: Path | str, **arguments: Any) -> Any:
    return run_import(config, folder, **{"model": "demo", "unchecked": True, **arguments})


def documents(config: AppConfig) -> dict[str, StoredDocument]:
    return {row.document.id: row for row in asyncio.run(opened(config).find(None, 1000))}


def test_pictures_come_with_their_vectors_addresses_and_captions(prepared: AppConfig, tmp_path: Path) -> None:
    images = unit_rows(5)
    for number, part in (("00", slice(0, 3)), ("01", slice(3, 5))):
        metadata = {
            "image_path": [f"{at:09}" for at in range(5)][part],
            "caption": captions(5)[part],
            "url": [f"https://example.org/{at}.jpg" for at in range(5)][part],
            "similarity": [0.25 * at for at in range(5)][part],
            "price": [float(at) for at in range(5)][part],
        }
        write_shard(tmp_path / "clip", number, metadata, images[part], unit_rows(5, seed=1)[part])
    arrival = take(prepared, tmp_path / "clip")
    assert arrival.stored == {Modality.IMAGE: 5}
    found = {row.document.metadata["caption"]: row for row in documents(prepared).values()}
    row = found["caption 3"]
    assert (row.document.uri, row.document.text) == ("https://example.org/3.jpg", None)
    assert row.document.metadata == {"caption": "caption 3", "image_path": "000000003", "similarity": 0.75}
    assert row.document.fields == {"price": 3.0}
    assert row.vector.tolist() == unit(images[3].astype(np.float16).astype(np.float32)).tolist()
    again = take(prepared, tmp_path / "clip", commit_rows=2)
    assert (again.stored.total(), again.unchanged) == (0, 5)


def test_relative_paths_begin_where_it_is_said_and_ids_do_not_depend_on_it(prepared: AppConfig, tmp_path: Path) -> None:
    write_shard(tmp_path / "clip", "0", {"image_path": ["a/b.jpg", "/abs/c d.jpg"]}, unit_rows(2))
    take(prepared, tmp_path / "clip")
    before = documents(prepared)
    assert sorted((row.document.uri or "", row.document.metadata.get("image_path")) for row in before.values()) == [
        ("", "a/b.jpg"),
        ("file:///abs/c%20d.jpg", None),
    ]
    arrival = take(prepared, tmp_path / "clip", base_uri="s3://bucket/pictures")
    assert (arrival.stored.total(), arrival.replaced, arrival.unchanged) == (1, 1, 1)
    after = documents(prepared)
    assert before.keys() == after.keys()
    assert "s3://bucket/pictures/a/b.jpg" in {row.document.uri for row in after.values()}


def test_texts_get_the_ids_that_they_get_everywhere(prepared: AppConfig, tmp_path: Path) -> None:
    texts = unit_rows(3)
    write_shard(tmp_path / "clip", "0", {"caption": captions(3)}, texts=texts)
    assert take(prepared, tmp_path / "clip").stored == {Modality.TEXT: 3}
    wanted = {document_id(content_sha256(each, None)): content_sha256(each, None) for each in captions(3)}
    assert {key: row.document.content_sha256 for key, row in documents(prepared).items()} == wanted


def test_a_picture_and_its_caption_become_one_vector(prepared: AppConfig, tmp_path: Path) -> None:
    images, texts = unit_rows(2, seed=1), unit_rows(2, seed=2)
    metadata = {"image_path": ["/a.jpg", "/b.jpg"], "caption": captions(2), "key": ["k-a", "k-b"]}
    write_shard(tmp_path / "clip", "0", metadata, images, texts)
    take(prepared, tmp_path / "clip", take="image_text", column=("id=key",))
    found = documents(prepared)
    assert {key: row.document.text for key, row in found.items()} == {"k-a": "caption 0", "k-b": "caption 1"}
    halves = [unit(each[0].astype(np.float16).astype(np.float32)) for each in (images, texts)]
    assert found["k-a"].vector.tolist() == fuse(*halves, 0.5).tolist()


def test_broken_rows_and_shards_are_reported_and_the_rest_is_stored(prepared: AppConfig, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    vectors = unit_rows(6)
    vectors[1] = np.nan
    vectors[2] = 0
    metadata = {"image_path": [f"/{at}.jpg" for at in (0, 1, 2, 3, 4, 4)], "caption": captions(6)}
    write_shard(folder, "0", metadata, vectors)
    write_shard(folder, "1", {"image_path": ["/10.jpg", "/11.jpg"]}, unit_rows(3))
    write_shard(folder, "2", {"image_path": ["/20.jpg"]}, unit_rows(1, dimension=DIMENSION + 1))
    write_shard(folder, "3", {"image_path": ["/30.jpg"]})
    write_shard(folder, "4", {"image_path": ["/40.jpg", "/41.jpg"]}, unit_rows(2))
    damaged = folder / "img_emb" / "img_emb_4.npy"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    write_shard(folder, "5", {"image_path": ["/50.jpg"]}, unit_rows(1))
    (folder / "metadata" / "metadata_5.parquet").write_bytes(b"no parquet")
    write_shard(folder, "6", {"image_path": ["/61.jpg"]}, unit_rows(1))
    take(prepared, folder, failures=tmp_path / "failures.jsonl")
    assert {row.document.uri for row in documents(prepared).values()} == {
        *(f"file:///{at}.jpg" for at in (0, 3, 4, 61)),
    }
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert [(line["place"], line["code"]) for line in lines] == [
        ("metadata_0.parquet#1", "invalid_vector"),
        ("metadata_0.parquet#2", "invalid_vector"),
        ("metadata_0.parquet#5", "invalid_row"),
        ("metadata_1.parquet#0", "unreadable_source"),
        ("metadata_2.parquet#0", "invalid_source"),
        ("metadata_3.parquet#0", "unreadable_source"),
        ("metadata_4.parquet#0", "unreadable_source"),
        ("metadata_5.parquet#0", "unreadable_source"),
    ]


def test_what_does_not_fit_is_refused_before_anything_is_written(prepared: AppConfig, tmp_path: Path) -> None:
    write_shard(tmp_path / "clip", "0", {"image_path": ["/a.jpg"]}, unit_rows(1, dimension=DIMENSION * 2))
    with pytest.raises(InvalidSource, match=r"have 16 numbers, those of demo .* have 8"):
        take(prepared, tmp_path / "clip")
    with pytest.raises(InvalidSource, match="'text' cannot be taken"):
        take(prepared, tmp_path / "clip", take="text")
    with pytest.raises(InvalidRequest, match="--model demo"):
        take(prepared, tmp_path / "clip", model=None)
    with pytest.raises(InvalidRequest, match="of ViT-B-32 openai, and the encoder of this profile is --model demo"):
        take(prepared, tmp_path / "clip", model="ViT-B/32")
    assert not documents(prepared)


def test_shards_are_read_from_a_bucket(config_of: Configs, prepared: AppConfig, tmp_path: Path, s3: Bucket) -> None:
    write_shard(tmp_path / "clip", "0", {"image_path": [f"/{at}.jpg" for at in range(50)]}, unit_rows(50))
    writing = ObjectWriting(f"{s3.uri}/clip", s3.options)
    for file in (tmp_path / "clip").rglob("*.*"):
        writing.put(str(file.relative_to(tmp_path / "clip")), file.read_bytes())
    storage = {"uri": f"{s3.uri}/pictures", "options": s3.options}
    config = AppConfig.model_validate({**prepared.model_dump(), "storage": storage})
    assert take(config, f"{s3.uri}/clip").stored.total() == 50


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (("ViT-B-32", "openai"), ("ViT-B-32", "openai")),
        (("ViT-B/32", None), ("ViT-B-32", "openai")),
        (("ViT-L/14@336px", None), ("ViT-L-14-336", "openai")),
        (("open_clip:ViT-B-32/laion2b_s34b_b79k", None), ("ViT-B-32", "laion2b_s34b_b79k")),
        (("demo", None), ("demo", None)),
    ],
)
def test_models_are_named_as_either_program_does(said: Any, meant: Any) -> None:
    assert spelt_out(*said) == meant


# --- with the model itself --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> StatedModel:
    return StatedModel(AppConfig())


@pytest.fixture(scope="module")
def encoded(model: StatedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the demo and their captions, encoded by the demo model, as clip-retrieval would have left them."""
    folder = tmp_path_factory.mktemp("encoded")
    drawn = list(demo_pictures(seed=3, count=12))
    for picture in drawn:
        (folder / picture.file_name).write_bytes(picture.encoded())
    paths = [folder / picture.file_name for picture in drawn]
    words = [picture.caption for picture in drawn]
    pictures = LocalPictures(AppConfig(), model.encoder, folder / "kept")

    async def encode() -> tuple[FloatMatrix, FloatMatrix]:
        seen = await pictures.embed_pictures([PictureTask(PictureUri(path.as_uri())) for path in paths])
        texts = await model.encoder.encode_texts(words)
        images = [each.embedding.vector for each in seen if not isinstance(each, ItemFailure)]
        return np.stack(images), np.stack([each.vector for each in texts if not isinstance(each, ItemFailure)])

    images, texts = asyncio.run(encode())
    metadata = {"image_path": [str(path) for path in paths], "caption": words}
    write_shard(folder / "both", "0", metadata, images, texts)
    write_shard(folder / "pictures", "0", metadata, images)
    write_shard(folder / "swapped", "0", metadata, np.roll(images, 1, axis=1), np.roll(texts, 1, axis=1))
    write_shard(folder / "swapped-pictures", "0", metadata, np.roll(images, 1, axis=1))
    write_shard(folder / "unreachable", "0", {"image_path": ["elsewhere.jpg"] * 12}, images)
    return folder


def check(model: StatedModel, folder: Path) -> None:
    asyncio.run(model.check(ClipRetrieval(ClipLayout(str(folder))).samples(Modality.IMAGE, 16)))


def test_the_model_is_asked_whether_the_vectors_are_its_own(
    config_of: Configs, model: StatedModel, encoded: Path
) -> None:
    check(model, encoded / "both")
    config = config_of("moved")
    assert run_import(config, encoded / "pictures", model="demo").stored == {Modality.IMAGE: 12}
    info = asyncio.run(opened(config).info())
    assert info.fingerprint == model.identity.fingerprint
    assert info.calibration_version == 1


@pytest.mark.parametrize("swapped", ["swapped", "swapped-pictures"])
def test_vectors_of_another_model_are_told_by_making_a_few_again(
    model: StatedModel, encoded: Path, swapped: str
) -> None:
    with pytest.raises(FingerprintMismatch, match=r"not those of demo.* 12 of the same .* a cosine of -?0\.[0-8]"):
        check(model, encoded / swapped)


def test_where_nothing_can_be_compared_the_user_has_to_vouch_for_it(
    config_of: Configs, model: StatedModel, encoded: Path
) -> None:
    with pytest.raises(InvalidRequest, match="nothing shows that this encoder made the vectors"):
        check(model, encoded / "unreachable")
    with pytest.raises(InvalidRequest, match="--unchecked needs a table"):
        run_import(config_of("moved"), encoded / "unreachable", model="demo", unchecked=True)
