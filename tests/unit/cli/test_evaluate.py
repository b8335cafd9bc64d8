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
    rows = json.loads(result.stdout)["results"]
    assert [row["ranking"] for row in rows] == ["cosine", "calibrated", "hybrid"]
    second = 1 / math.log2(3)
    assert {name: rows[1][name]["value"] for name in ("recall@1", "recall@10", "median_rank", "mrr")} == {
        "recall@1": 0.5,
        "recall@10": 1.0,
        "median_rank": 1.5,
        "mrr": 0.75,
    }
    assert rows[1]["ndcg@10"]["value"] == pytest.approx((second + 1 / (1 + second)) / 2)
    assert rows[1]["capped_recall@10"]["value"] == pytest.approx((1 + 0.5) / 2)
    assert rows[1]["pictures"] == pytest.approx(1 / 3)
    assert rows[1]["pictures_relevant"] == pytest.approx(1 / 2)
    assert (rows[1]["unanswerable"], rows[1]["refused_precision"], rows[1]["refused_recall"]) == (2, 1.0, 0.5)
    assert {each["ranking"] for each in filled.searches} == {"cosine", "calibrated", "hybrid"}


def test_a_table_shows_a_column_for_each_ranking(filled, run, tmp_path):
    output = run("evaluate", written(tmp_path, {"text": "cat", "relevant": ["t-2"]})).output
    assert all(name in output for name in ("mixed, cosine", "mixed, calibrated", "mixed, hybrid", "ndcg@10"))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{"], "queries.jsonl:1 is not JSON"),
        ([{"text": "cat"}], "queries.jsonl:1: `relevant` has to be there, as a list of ids"),
        (
            [{"text": "cat", "relevant": []}, {"text": "cat", "relevant": "t-2"}],
            "queries.jsonl:2: `relevant` has to be",
        ),
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
