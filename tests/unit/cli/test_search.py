"""crossmodal search: what is asked, and the three forms of its answer."""

import json

from PIL import Image

from serve_app.contact_sheet import sheet_size


def stored(service, run, picture, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"id": "t-1", "text": "a [red] boat"}\n')
    (tmp_path / "pictures.jsonl").write_text('{"id": "p-1", "image": "a.png"}\n')
    picture("a.png")
    assert run("add", tmp_path / "texts.jsonl", tmp_path / "pictures.jsonl").exit_code == 0


def test_a_table_shows_score_confidence_modality_what_and_id(service, run, picture, tmp_path):
    stored(service, run, picture, tmp_path)
    result = run("search", "red", "boat", "--limit", 5, "--modality", "text", "--modality", "image")
    assert result.exit_code == 0, result.output
    assert service.searches == [{"query": {"text": "red boat"}, "modalities": ["text", "image"], "limit": 5}]
    (line,) = [line for line in result.output.splitlines() if "t-1" in line]
    assert all(part in line for part in ("0.500", "0.88", "text", "a [red] boat"))
    assert "calibrated, table version 7" in result.output


def test_a_picture_travels_as_its_own_bytes(service, run, picture):
    path = picture("asked.png")
    assert run("search", "--image", path, "--ranking", "cosine").exit_code == 0
    assert service.searches == [{"limit": 10, "ranking": "cosine", "picture_bytes": path.stat().st_size}]


def test_more_like_a_document_is_asked_by_its_id(service, run):
    assert run("search", "--like", "p-1").exit_code == 0
    assert service.searches[0]["query"] == {"document_id": "p-1"}


def test_json_is_the_whole_answer(service, run, picture, tmp_path):
    stored(service, run, picture, tmp_path)
    answer = json.loads(run("search", "boat", "--json").stdout)
    assert [each["id"] for each in answer["results"]] == ["t-1", "p-1"]
    assert answer["results"][0]["confidence"] == 0.875


def test_a_sheet_is_a_picture_of_the_size_that_its_cells_need(service, run, picture, tmp_path):
    stored(service, run, picture, tmp_path)
    path = tmp_path / "sheet.png"
    assert run("search", "boat", "--sheet", path).exit_code == 0
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == sheet_size(2)
        colours = {colour for _, colour in sheet.getcolors(1 << 20)}
    assert (255, 0, 0) in colours  # the red picture is really on it


def test_a_picture_that_is_gone_leaves_a_note_on_the_sheet(service, run, picture, tmp_path):
    stored(service, run, picture, tmp_path)
    service.pictures.clear()
    assert run("search", "boat", "--sheet", tmp_path / "sheet.png").exit_code == 0


def test_a_sheet_of_an_unknown_format_is_one_sentence(service, run, tmp_path):
    result = run("search", "boat", "--sheet", tmp_path / "sheet.nonsense")
    assert result.exit_code == 1
    assert "cannot be saved" in result.output


def test_a_search_for_nothing_says_what_it_takes(service, run):
    result = run("search")
    assert result.exit_code == 1
    assert "exactly one of words, a picture" in result.output


def test_an_empty_table_is_said_to_be_empty(service, run):
    assert "nothing found" in run("search", "boat").output


def test_a_filter_travels_as_it_was_typed(service, run):
    where = {"and": [{"field": "price", "lt": 20}, {"not": {"field": "tags", "any": ["sea"]}}]}
    assert run("search", "boats", "--filter", json.dumps(where)).exit_code == 0
    assert service.searches[0]["filter"] == where


def test_several_things_at_once_are_one_composed_query(service, run):
    assert run("search", "boat", "--like", "p-1", "--less", "night", "--less", "rain").exit_code == 0
    assert service.searches[0]["query"] == {
        "all_of": [
            {"text": "boat"},
            {"document_id": "p-1"},
            {"text": "night", "weight": -0.5},
            {"text": "rain", "weight": -0.5},
        ]
    }


def test_a_picture_among_several_things_travels_in_the_query(service, run, picture):
    assert run("search", "at", "night", "--image", picture("asked.png")).exit_code == 0
    words, image = service.searches[0]["query"]["all_of"]
    assert words == {"text": "at night"}
    assert image["image"]["base64"].startswith("iVBOR")


def test_options_travel_by_their_names_and_only_where_given(service, run):
    options = ("--offset", 20, "--confidence", 0.9, "--diversity", 0.3, "--as-of", "monday")
    assert run("search", "boat", *options).exit_code == 0
    expected = {"limit": 10, "offset": 20, "min_confidence": 0.9, "diversity": 0.3, "as_of": "monday"}
    assert service.searches == [{"query": {"text": "boat"}, **expected}]
