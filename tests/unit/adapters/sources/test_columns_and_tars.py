"""Parquet, datasets of Hugging Face and WebDataset tars as sources: all that is whole is read, and damage is told."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from serve_app.adapters.sources import columnar, parts
from serve_app.core.source_items import SourceFailure
from serve_app.errors import InvalidSource
from tests.unit.adapters.sources.reading import codes, read


def picture(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), grey).save(file, "PNG")
    return file.getvalue()


def test_parquet_is_read_by_row_groups_and_in_parts_of_them(tmp_path: Path) -> None:
    rows = pa.table({"id": range(5000), "text": [f"text {number}" for number in range(5000)], "score": [0.5] * 5000})
    pq.write_table(rows, tmp_path / "a.parquet", row_group_size=2200)
    items, failures = read(tmp_path)
    assert [item.key for item in items] == [f"a.parquet#{number}" for number in range(5000)]
    assert [item.text for item in items] == rows.column("text").to_pylist()
    assert (items[7].id, items[7].metadata) == ("7", {"score": 0.5})
    assert failures == []


def test_parquet_with_a_damaged_page_loses_that_row_group_and_says_so(tmp_path: Path) -> None:
    rows = pa.table({"text": [f"text {number}" for number in range(3000)]})
    pq.write_table(rows, tmp_path / "a.parquet", row_group_size=1000, use_dictionary=False, write_page_checksum=True)
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = group.data_page_offset + group.total_compressed_size // 2
    data[middle : middle + 64] = b"\xff" * 64
    (tmp_path / "a.parquet").write_bytes(bytes(data))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing that belongs there PAR1")
    items, failures = read(tmp_path)
    assert len(items) == 2000
    assert codes(failures) == {"a.parquet#1000": "unreadable_source", "b.parquet": "unreadable_source"}


def test_parquet_values_become_json_and_binary_columns_no_metadata(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "text": ["a", None],
            "image": [picture(1), picture(2)],
            "mask": [b"1", b"2"],
            "when": pa.array([0, None], pa.timestamp("s", "UTC")),
            "nan": [float("nan"), 1.0],
            "nested": [{"a": [1]}, {"a": []}],
        }
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    items, _ = read(tmp_path / "a.parquet")
    assert [item.data for item in items] == [picture(1), picture(2)]
    assert items[0].metadata == {"when": "1970-01-01T00:00:00+00:00", "nested": {"a": [1]}}
    assert items[1].metadata == {"nan": 1.0, "nested": {"a": []}}


def test_batches_are_bounded_in_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BATCH_BYTES", 10_000)
    pq.write_table(pa.table({"image": [bytes(3000)] * 10 + [bytes(50_000)]}), tmp_path / "a.parquet")
    source = columnar.Columnar(parts_spec(tmp_path), is_parquet=True)
    sizes = [len(found) for part in source.parts() for found in source.read_part(part)]
    assert sizes == [3, 3, 3, 1, 1]


def parts_spec(folder: Path) -> Any:
    from serve_app.adapters.sources import SourceSpec

    return SourceSpec((str(folder),))


def test_a_picture_larger_than_allowed_fails_alone(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [bytes(3000), bytes(10)]}), tmp_path / "a.parquet")
    items, failures = read(tmp_path, max_item_bytes=1000)
    assert len(items) == 1
    assert codes(failures) == {"a.parquet#0": "picture_too_large"}


@pytest.mark.parametrize("how", ["saved", "saved in splits", "parquet"])
def test_a_dataset_of_hugging_face_is_read_without_its_library(tmp_path: Path, how: str) -> None:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "boat"]),
        }
    )
    content = {
        "image": [{"bytes": picture(number), "path": None} for number in range(6)],
        "caption": [f"caption {number}" for number in range(6)],
        "label": [0, 1, 0, 1, 0, -1],
    }
    made = datasets.Dataset.from_dict(content, features=features)
    if how == "saved":
        made.save_to_disk(tmp_path / "set", num_shards=2)
    elif how == "parquet":
        (tmp_path / "set/data").mkdir(parents=True)
        made.to_parquet(tmp_path / "set/data/train-00000-of-00001.parquet")
    else:
        datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "set")
    items, failures = read(tmp_path / "set", split="train" if how != "saved" else None)
    assert [item.data for item in items] == [picture(number) for number in range(6)]
    assert [item.text for item in items] == content["caption"]
    assert [item.metadata.get("label") for item in items] == ["cat", "boat", "cat", "boat", "cat", None]
    assert failures == []
    with pytest.raises(InvalidSource):
        read(tmp_path / "set", split="validation")


def test_an_arrow_shard_that_ends_too_early_gives_its_whole_batches(tmp_path: Path) -> None:
    rows = pa.table({"text": [f"text {number}" for number in range(300)]})
    with pa.OSFile(str(tmp_path / "data-0.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema) as stream:
        stream.write_table(rows, max_chunksize=100)
    data = (tmp_path / "data-0.arrow").read_bytes()
    (tmp_path / "data-0.arrow").write_bytes(data[: len(data) * 5 // 6])
    items, failures = read(tmp_path)
    assert len(items) == 200
    assert codes(failures) == {"data-0.arrow#200": "unreadable_source"}


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def samples(count: int) -> list[tuple[str, bytes]]:
    return [
        member
        for number in range(count)
        for member in (
            (f"a/{number:03}.json", b'{"url": "http://gone/x.png", "n": %d}' % number),
            (f"a/{number:03}.png", picture(number)),
            (f"a/{number:03}.txt", f"caption {number}".encode()),
            (f"a/{number:03}.cls", b"5"),
            (f"a/{number:03}.npy", b"not for us"),
        )
    ]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_the_files_of_a_sample_become_one_item(tmp_path: Path, name: str) -> None:
    path = tar(tmp_path / name, *samples(3))
    items, failures = read(path)
    assert [item.key for item in items] == [f"{name}#a/00{number}" for number in range(3)]
    assert [item.data for item in items] == [picture(number) for number in range(3)]
    assert [item.text for item in items] == [f"caption {number}" for number in range(3)]
    assert items[1].uri is None
    assert items[1].metadata == {"url": "http://gone/x.png", "n": 1, "cls": 5, "__key__": "a/001"}
    assert failures == []


def test_tars_are_named_by_ranges_and_one_that_is_missing_is_told(tmp_path: Path) -> None:
    for number in (8, 10):
        tar(tmp_path / f"{number:03}.tar", *samples(2))
    items, failures = read(tmp_path / "{008..010}.tar", columns={"id": "__key__", "text": "n"})
    assert items == []
    assert len(failures) == 5  # a number is no text
    items, failures = read(tmp_path / "{008..010}.tar", columns={"id": "__key__"})
    assert [item.id for item in items] == ["a/000", "a/001"] * 2
    assert list(codes(failures).values()) == ["source_not_found"]


def test_a_broken_sample_fails_alone(tmp_path: Path) -> None:
    broken = [("b.json", b"{"), ("b.png", picture(1)), ("c.txt", b"\xff"), ("d.npy", b""), ("e.png", bytes(5000))]
    path = tar(tmp_path / "x.tar", ("a.png", picture(0)), *broken, ("f.txt", b"a text alone"))
    items, failures = read(path, max_item_bytes=4000)
    assert [item.key for item in items] == ["x.tar#a", "x.tar#f"]
    assert codes(failures) == {
        "x.tar#b": "invalid_row",
        "x.tar#c": "invalid_row",
        "x.tar#d": "invalid_row",
        "x.tar#e": "picture_too_large",
    }


@pytest.mark.parametrize("damage", ["truncated", "header", "no tar", "packed"])
def test_a_damaged_tar_gives_what_came_before_and_says_so(tmp_path: Path, damage: str) -> None:
    path = tar(tmp_path / ("x.tgz" if damage == "packed" else "x.tar"), *samples(40))
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[len(data) // 2 // 512 * 512 :][:512] = b"\x01" * 512
        at = data.index(b"a/020.json")
        data[at : at + 512] = b"\x01" * 512
    elif damage == "no tar":
        data[:] = b"\x01" * 4096
    else:
        del data[len(data) // 2 + 700 :]
    path.write_bytes(bytes(data))
    items, failures = read(path)
    assert items == [] if damage == "no tar" else 5 < len(items) < 35
    (failed,) = failures
    assert isinstance(failed, SourceFailure)
    assert (failed.key, failed.code) == (path.name, "unreadable_source")
