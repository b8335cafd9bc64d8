"""The corpus: pictures and texts about different scenes, the same bytes each time."""

import io
import itertools
import json
from pathlib import Path

import pytest
from PIL import Image

from serve_app.demo.corpus import PICTURES, TEXTS, contact_sheet, demo_pictures, demo_texts, showcase, write_corpus
from serve_app.demo.scenes import KINDS, is_held_out


def test_no_scene_is_both_drawn_and_told() -> None:
    specs = [each.scene.spec for each in itertools.chain(demo_pictures(), demo_texts())]
    assert len(specs) == len(set(specs)) == PICTURES + TEXTS


def test_the_model_has_never_met_the_corpus() -> None:
    assert all(is_held_out(each.scene) for each in itertools.chain(demo_pictures(), demo_texts()))


def test_ids_and_file_names_are_unique() -> None:
    pictures = list(demo_pictures())
    assert len({each.id for each in (*pictures, *demo_texts())}) == PICTURES + TEXTS
    assert pictures[42].file_name == "picture-0042.jpg"


def test_a_picture_is_a_file_of_its_format() -> None:
    for file_format, name in (("jpg", "JPEG"), ("png", "PNG")):
        picture = next(demo_pictures(file_format=file_format))  # type: ignore[arg-type]
        assert Image.open(io.BytesIO(picture.encoded())).format == name
        assert picture.encoded() == picture.encoded()


def test_a_larger_corpus_begins_with_the_smaller() -> None:
    assert list(demo_pictures(count=20))[:5] == list(demo_pictures(count=5))


def test_more_texts_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="300 texts"):
        list(demo_texts(count=301))


def test_a_written_corpus_does_not_give_the_captions_away(tmp_path: Path) -> None:
    write_corpus(tmp_path, pictures=3, texts=4)
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == [
        f"picture-000{i}.jpg" for i in range(3)
    ]
    texts = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    assert [set(text) for text in texts] == [{"id", "text"}] * 4
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(picture.caption.encode() in written for picture in demo_pictures(count=3))


def test_the_contact_sheet_shows_every_kind() -> None:
    scenes = showcase()
    assert {scene.thing.kind for scene in scenes} == set(KINDS)
    assert contact_sheet(scenes[:5], columns=3, size=32, gap=2).size == (100, 66)
