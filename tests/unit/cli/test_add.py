"""crossmodal add: every kind of source, and what happens to those that are broken."""

import json

from serve_app.cli.reading import Frames, read_paths
from serve_app.client import NewVideo


def test_a_folder_is_added_with_all_pictures_below_it(service, run, picture, tmp_path):
    picture("boats/red.png", "red")
    picture("boats/deep/blue.png", "blue")
    picture("boats/.hidden/green.png", "green")
    (tmp_path / "boats/notes.md").write_text("not for the table")
    result = run("add", tmp_path / "boats")
    assert result.exit_code == 0, result.output
    assert [each["modality"] for each in service.documents.values()] == ["image", "image"]
    assert "stored 2, unchanged 0, failed 0" in result.output


def test_a_text_file_is_one_document_a_line_without_empty_lines(service, run, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("a red boat\n\n  a blue car  \n")
    assert run("add", path).exit_code == 0
    assert [each["text"] for each in service.documents.values()] == ["a red boat", "a blue car"]


def test_a_jsonl_file_gives_ids_texts_pictures_beside_it_and_metadata(service, run, picture, tmp_path):
    picture("red.png")
    lines = [
        {"id": "both", "text": "a boat", "image": "red.png", "metadata": {"year": 1987}},
        {"id": "far", "image": "s3://bucket/boat.png"},
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert run("add", tmp_path / "list.jsonl").exit_code == 0
    assert service.documents["both"]["modality"] == "image_text"
    assert service.documents["both"]["metadata"] == {"year": 1987}
    assert service.documents["far"]["modality"] == "image"
    assert set(service.pictures) == {"both"}


def test_a_csv_file_turns_its_other_columns_into_metadata(service, run, tmp_path):
    (tmp_path / "list.csv").write_text('id,text,price\na,"boat, red",12\n,car,\n')
    assert run("add", tmp_path / "list.csv").exit_code == 0
    assert service.documents["a"] == {"modality": "text", "text": "boat, red", "uri": None, "metadata": {"price": "12"}}
    assert [each["text"] for each in service.documents.values()] == ["boat, red", "car"]


def test_declared_fields_come_from_jsonl_and_from_the_columns_of_a_csv(service, run, tmp_path):
    service.fields = {"price": "float", "year": "integer", "sold": "boolean", "tags": "strings", "pages": "integers"}
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"id": "a", "text": "boat", "fields": {"price": 2, "tags": ["x"]}}) + "\n"
    )
    head, row = "id,text,price,year,sold,tags,pages,album", "b,boat,1.5,1987,True,sea; red;,3;4,holiday"
    (tmp_path / "b.csv").write_text(f"{head}\n{row}\nc,boat,cheap,,maybe,,x;2,\n")
    assert run("add", tmp_path).exit_code == 0
    assert service.documents["a"]["fields"] == {"price": 2, "tags": ["x"]}
    fields = {"price": 1.5, "year": 1987, "sold": True, "tags": ["sea", "red"], "pages": [3, 4]}
    assert (service.documents["b"]["fields"], service.documents["b"]["metadata"]) == (fields, {"album": "holiday"})
    # What is not of the type goes as it is: the service says what is wrong with it.
    assert service.documents["c"]["fields"] == {"price": "cheap", "sold": "maybe", "pages": ["x", 2]}


def test_a_broken_picture_is_reported_and_the_rest_is_stored(service, run, picture, tmp_path):
    picture("all/a.png", "red")
    (tmp_path / "all/b.png").write_bytes(b"no picture at all")
    picture("all/c.png", "blue")
    failures = tmp_path / "failures.jsonl"
    result = run("add", tmp_path / "all", "--failures", failures)
    assert result.exit_code == 1
    assert len(service.documents) == 2
    assert "stored 2, unchanged 0, failed 1" in result.output
    assert result.output.count("b.png") == 2  # as it happened, and in the list at the end
    assert json.loads(failures.read_text()) == {
        "source": str(tmp_path / "all/b.png"),
        "code": "not_a_picture",
        "message": "The file is no picture that can be read.",
    }


def test_a_file_that_is_not_there_is_reported_and_the_rest_is_stored(service, run, picture, tmp_path):
    result = run("add", tmp_path / "nowhere.png", picture("a.png"))
    assert result.exit_code == 1
    assert len(service.documents) == 1
    assert "picture_not_found" in result.output


def test_broken_lines_are_named_by_their_number(service, run, tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"text": "fine"}\n{"text": \n[1]\n{"txt": "typo"}\n{"text": 5}\n')
    result = run("add", path)
    assert result.exit_code == 1
    assert [each["text"] for each in service.documents.values()] == ["fine"]
    assert all(f"list.jsonl:{number}" in result.output for number in (2, 3, 4, 5))
    assert "unknown keys: txt" in result.output


def test_a_csv_without_text_or_image_says_which_columns_it_lacks(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("name,price\nboat,12\n")
    (source,) = read_paths([path])
    assert source.error is not None
    assert "no column `text`, `image` or `video`" in source.error.message


def test_a_list_that_is_not_utf8_is_one_failure(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("größer".encode("latin-1"))
    (source,) = read_paths([path])
    assert source.error is not None
    assert "not UTF-8" in source.error.message


def test_adding_the_same_again_says_unchanged(service, run, picture):
    path = picture("a.png")
    run("add", path)
    assert "stored 0, unchanged 1, failed 0" in run("add", path).output


def test_nothing_is_sent_to_a_service_that_is_not_ready(service, run, picture):
    service.not_ready = "The ImageEncoder is still starting."
    result = run("add", picture("a.png"))
    assert result.exit_code == 1
    assert "not ready: The ImageEncoder is still starting. (not_ready)" in result.output
    assert not service.documents


def test_a_video_goes_by_its_address_and_is_called_like_its_file(tmp_path):
    (tmp_path / "clip.MP4").write_bytes(b"video")
    (tmp_path / "list.jsonl").write_text('{"id": "v", "video": "s3://b/v.webm"}\n{"video": "clip.MP4"}\n')
    found = [source.document for source in read_paths([tmp_path], frames=Frames(every_s=5.0))]
    local = NewVideo((tmp_path / "clip.MP4").as_uri(), every_s=5.0)
    assert [(each.id, each.video) for each in found if each] == [
        ("clip.MP4", local),
        ("v", NewVideo("s3://b/v.webm", every_s=5.0)),
        (None, local),
    ]
