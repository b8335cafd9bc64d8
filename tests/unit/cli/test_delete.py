"""crossmodal delete: by ids, by a filter, or everything, and never by mistake."""

import json

import pytest


def test_ids_are_deleted_without_a_question(service, run):
    result = run("delete", "a", "b/c")
    assert result.exit_code == 0, result.output
    assert service.deletions == [{"ids": ["a", "b/c"]}]
    assert "deleted 2, table version 8" in result.output


def test_many_ids_travel_in_several_requests(service, run):
    assert "deleted 4" in run("delete", *(f"id-{n}" for n in range(1001))).output
    assert [len(each["ids"]) for each in service.deletions] == [1000, 1]


def test_a_filter_asks_first(service, run):
    where = {"field": "price", "lt": 20}
    result = run("delete", "--filter", json.dumps(where))  # nobody answers
    assert (result.exit_code, service.deletions) == (1, [])
    assert "every document that" in result.output
    assert run("delete", "--filter", json.dumps(where), "--yes").exit_code == 0
    assert service.deletions == [{"filter": where}]


def test_everything_is_deleted_only_with_its_own_option(service, run):
    assert run("delete").exit_code == 2
    assert run("delete", "--all").exit_code == 1
    assert service.deletions == []
    assert run("delete", "--all", "--yes").exit_code == 0
    assert service.deletions == [{"all": True}]


@pytest.mark.parametrize("arguments", [("a", "--all"), ("a", "--filter", "{}"), ("--filter", "{}", "--all")])
def test_only_one_of_the_three_is_taken(service, run, arguments):
    assert run("delete", *arguments, "--yes").exit_code == 2
    assert service.deletions == []


@pytest.mark.parametrize(("text", "said"), [("price < 1", "not JSON"), ("[1]", "is a JSON object, such as")])
def test_a_filter_that_is_no_json_object_is_said(service, run, text, said):
    for command in (("delete", "--yes"), ("search", "boats")):
        result = run(*command, "--filter", text)
        assert result.exit_code == 1
        assert said in result.output
    assert (service.deletions, service.searches) == ([], [])
