"""crossmodal evaluate: figures that can be worked out by hand."""

import json
import math

import pytest


@pytest.fixture
def filled(service):
    for name, modality, text in (("t-1", "text", "boat one"), ("p-1", "image", "boat two"), ("t-2", "text", "cat")):
        service.documents[name] = {"modality": modality, "text": text, "uri": None, "metadata": {}}
    return service


def written(tmp_path, *lines):
    path = tmp_path / "queries.jsonl"
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines))
    return path


def test_figures_are_those_that_a_hand_works_out(filled, run, tmp_path):
    queries = written(
        tmp_path,
        {"text": "boat", "relevant": ["p-1"]},  # found second, of two
        {"text": "cat", "relevant": ["t-2", "gone"]},  # one of two
        {"text": "house", "relevant": []},  # nothing found: refused, rightly
        {"text": "boat one", "relevant": []},  # found, and sure: not refused
        "",
    )
    result = run("evaluate", queries, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["ranking"] for row in rows] == ["cosine", "calibrated", "hybrid"]
    second = 1 / math.log2(3)
    assert rows[1] == {
        "ranking": "calibrated",
        "ndcg@10": pytest.approx((second + 1 / (1 + second)) / 2),
        "recall@10": pytest.approx((1 + 0.5) / 2),
        "pictures": pytest.approx(1 / 3),
        "pictures_relevant": pytest.approx(1 / 2),
        "refused_precision": 1.0,
        "refused_recall": 0.5,
    }
    assert {each["ranking"] for each in filled.searches} == {"cosine", "calibrated", "hybrid"}


def test_a_table_shows_a_row_for_each_ranking(filled, run, tmp_path):
    output = run("evaluate", written(tmp_path, {"text": "cat", "relevant": ["t-2"]})).output
    assert "1 queries; refused below confidence 0.9" in output
    assert all(name in output for name in ("cosine", "calibrated", "hybrid", "ndcg@10"))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{"], "line 1 is no JSON object with a query and `relevant`"),
        ([{"text": "cat"}], "line 1 is no JSON object with a query and `relevant`"),
        ([{"text": "cat", "relevant": []}, {"text": "cat", "relevant": "t-2"}], "line 2: `relevant` is a list of ids"),
        ([""], "holds no queries"),
        ([{"text": "", "relevant": []}], "The text is empty."),
    ],
)
def test_what_is_wrong_with_the_queries_is_said_in_one_sentence(filled, run, tmp_path, lines, says):
    result = run("evaluate", written(tmp_path, *lines))
    assert result.exit_code == 1
    assert says in result.output


def test_queries_that_are_not_there_are_said_to_be_missing(filled, run, tmp_path):
    assert "cannot be read" in run("evaluate", tmp_path / "nothing.jsonl").output
