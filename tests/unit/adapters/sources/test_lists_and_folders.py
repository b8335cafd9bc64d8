"""Folders, JSONL and CSV as sources: everything is read once, what is broken is told, and wrong wishes are refused at once."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.adapters.sources import SourceSpec, column_mapping, open_source
from serve_app.adapters.sources import lists as lists_module
from serve_app.adapters.sources.places import spelt_out
from serve_app.core.source_items import SourceItem
from serve_app.errors import InvalidSource, SourceNotFound
from serve_app.types import FieldType
from tests.unit.adapters.sources.reading import codes, read


def write(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_a_folder_gives_its_pictures_by_path_and_leaves_out_what_is_hidden_or_no_picture(tmp_path: Path) -> None:
    write(tmp_path, b_dot_JPG=b"", a__z_dot_png=b"", a_dot_png=b"", README_dot_md=b"", _dot_hidden__x_dot_png=b"")
    items, failures = read(tmp_path)
    assert [item.key for item in items] == [(tmp_path / name).as_uri() for name in ("a.png", "a/z.png", "b.JPG")]
    assert [item.uri for item in items] == [item.key for item in items]
    assert failures == []


def test_a_caption_beside_a_picture_is_its_text_where_asked(tmp_path: Path) -> None:
    write(
        tmp_path, a_dot_png=b"", a_dot_txt=b"\xef\xbb\xbfa red boat\n", b_dot_png=b"", c_dot_png=b"", c_dot_txt=b"\xff"
    )
    assert [item.text for item in read(tmp_path)[0]] == [None, None, None]
    items, failures = read(tmp_path, captions=True)
    assert [item.text for item in items] == ["a red boat", None]
    assert codes(failures) == {(tmp_path / "c.png").as_uri(): "invalid_row"}


def test_a_file_that_is_added_changes_one_part_of_a_folder_and_not_all_after_it(tmp_path: Path) -> None:
    for number in range(5000):
        (tmp_path / f"{number:05}.png").touch()
    source = open_source(SourceSpec((str(tmp_path),)))
    before = [part.key for part in source.parts()]
    (tmp_path / "00000a.png").touch()
    assert len(before) > 5
    assert len({part.key for part in source.parts()} - set(before)) == 1
    assert all(len(part.content) <= 1000 for part in source.parts())


def test_columns_are_mapped_and_the_rest_becomes_metadata(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text('image_id,file,caption,price,tags,shop\n7,a b.png,"two\nlines",2.5,sea; night,\n')
    said = {"id": "image_id", "uri": "file", "text": "caption"}
    fields = {"price": FieldType.FLOAT, "tags": FieldType.STRINGS}
    items, _ = read(path, columns=said, fields=fields)
    assert items == [
        SourceItem(
            "captions.csv#3",
            "7",
            (tmp_path / "a b.png").as_uri(),
            None,
            "two\nlines",
            {},
            {"price": 2.5, "tags": ["sea", "night"]},
        )
    ]
    (item,), _ = read(path, columns={"text": "caption"}, metadata=("image_id",), base_uri="s3://bucket/x")
    assert item.metadata == {"image_id": "7"}


def test_relative_uris_begin_at_the_manifest_or_at_the_base(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "x/a.png"}\n{"uri": "https://h/b.png"}\n')
    assert [each.uri for each in read(tmp_path / "a.jsonl")[0]] == [(tmp_path / "x/a.png").as_uri(), "https://h/b.png"]
    items, _ = read(tmp_path / "a.jsonl", base_uri="s3://bucket/set/")
    assert [each.uri for each in items] == ["s3://bucket/set/x/a.png", "https://h/b.png"]


def test_every_broken_line_is_told_by_its_number_and_the_others_are_read(tmp_path: Path) -> None:
    lines = [
        b'{"text": "a"}',
        b"{nonsense",
        b"[1]",
        b'{"text": "\xff"}',
        b'{"text": 3}',
        b"{}",
        b'{"id": 1.5, "text": "x"}',
    ]
    lines += [b'{"text": "b", "metadata": 3}', b"", b'{"text": "c", "n": NaN}', b'{"text": "\\ud800"}', b"[" * 100_000]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    items, failures = read(tmp_path / "a.jsonl")
    assert [item.text for item in items] == ["a", "c"]
    assert codes(failures) == {f"a.jsonl#{number}": "invalid_row" for number in (2, 3, 4, 5, 6, 7, 8, 11, 12)}
    assert all(each.message for each in failures)


def test_every_broken_row_of_a_csv_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,a\n2\n3,b,c\n4,"x"y\n5,\xff\n6,\n7,b\n')
    items, failures = read(tmp_path / "a.csv")
    assert [item.id for item in items] == ["1", "7"]
    assert list(codes(failures)) == [f"a.csv#{number}" for number in (3, 4, 5, 6, 7)]


def test_a_line_longer_than_any_document_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists_module, "MAX_LINE_BYTES", 64)
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "' + "x" * 200 + '"}\n{"text": "b"}\n')
    items, failures = read(tmp_path / "a.jsonl")
    assert [item.text for item in items] == ["a", "b"]
    assert codes(failures) == {"a.jsonl#2": "invalid_row"}


def test_a_compressed_manifest_that_ends_too_early_gives_what_came_before(tmp_path: Path) -> None:
    whole = b"".join(json.dumps({"text": f"{number:0200}"}).encode() + b"\n" for number in range(5000))
    packed = gzip.compress(whole)
    (tmp_path / "whole.jsonl.gz").write_bytes(packed)
    (tmp_path / "half.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    assert len(read(tmp_path / "whole.jsonl.gz")[0]) == 5000
    items, failures = read(tmp_path / "half.jsonl.gz")
    assert 0 < len(items) < 5000
    assert list(codes(failures).values()) == ["unreadable_source"]


def test_many_files_are_one_source_and_one_without_the_columns_fails_alone(tmp_path: Path) -> None:
    write(tmp_path, a_dot_csv=b"text\nx\n", b_dot_csv=b"other\ny\n", c_dot_csv=b"text\nz\n")
    items, failures = read(tmp_path)
    assert [item.key for item in items] == ["a.csv#2", "c.csv#2"]
    assert codes(failures) == {"b.csv": "invalid_source"}
    items, failures = read(tmp_path / "a.csv", tmp_path / "c.csv")
    assert [item.key for item in items] == [f"{(tmp_path / name).as_uri()}#2" for name in ("a.csv", "c.csv")]


@pytest.mark.parametrize(
    ("locations", "said", "error", "sentence"),
    [
        (["nowhere"], {}, SourceNotFound, "nothing lies under"),
        (["a.csv"], {"columns": {"text": "caption"}}, InvalidSource, "no column 'caption'; there are: id, text"),
        (["a.csv"], {"metadata": ("album",)}, InvalidSource, "no column 'album'"),
        (["b.csv"], {}, InvalidSource, "no column is known to hold a picture or a text"),
        (["a.csv"], {"columns": {"colour": "id"}}, InvalidSource, "cannot be 'colour'"),
        (["a.csv"], {"kind": "excel"}, InvalidSource, "no kind of source 'excel'"),
        (["."], {}, InvalidSource, r"several kinds \(csv, folder\)"),
        (["empty"], {}, SourceNotFound, "nothing lies under"),
        (["x"], {}, InvalidSource, "holds nothing that is known"),
        (["x"], {"kind": "csv"}, InvalidSource, "there is no CSV"),
        ([], {}, InvalidSource, "needs a path"),
    ],
)
def test_what_cannot_be_read_at_all_is_refused_at_once(
    tmp_path: Path, locations: list[str], said: dict[str, object], error: type[Exception], sentence: str
) -> None:
    write(tmp_path, a_dot_csv=b"id,text\n1,x\n", b_dot_csv=b"n\n1\n", a_dot_png=b"", x__y_dot_doc=b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=sentence):
        read(*(tmp_path / location for location in locations), **said)


def test_columns_are_named_as_role_is_column() -> None:
    assert column_mapping(["id=image_id", "text=a=b"]) == {"id": "image_id", "text": "a=b"}
    for wrong in (["id"], ["=x"], ["id="], ["id=a", "id=b"]):
        with pytest.raises(InvalidSource):
            column_mapping(wrong)


def test_braces_are_spelt_out() -> None:
    assert list(spelt_out("s3://b/{08..10}-{a,b}.tar")) == [
        f"s3://b/{number}-{letter}.tar" for number in ("08", "09", "10") for letter in "ab"
    ]
    with pytest.raises(InvalidSource):
        list(spelt_out("{5..1}.tar"))


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=60), part_rows=st.integers(1, 20))
def test_whatever_a_csv_or_jsonl_holds_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], part_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("lists")
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("text", "more"), *rows])
    (folder / "a.csv").write_bytes(text.getvalue().encode())
    (folder / "a.jsonl").write_text(
        "".join(json.dumps({"text": one, "more": two}) + "\n" for one, two in rows), encoding="utf-8"
    )
    before, lists_module.PART_ROWS = lists_module.PART_ROWS, part_rows
    try:
        for name in ("a.csv", "a.jsonl"):
            items, failures = read(folder / name)
            assert [(item.text, item.metadata["more"]) for item in items] == rows
            assert failures == []
    finally:
        lists_module.PART_ROWS = before
