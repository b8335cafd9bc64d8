"""What a user types becomes a structured query of bounded size."""

import json
from typing import Any

import pytest

from serve_app.adapters.lance_table.texts import MAX_CHARACTERS, MAX_PHRASES, words_query


def parts_of(text: str) -> Any:
    query = words_query(text)
    return None if query is None else json.loads(query.to_json())


def test_words_alone_are_one_match() -> None:
    assert parts_of("red boat AND (blue)")["match"]["terms"] == "red boat AND (blue)"


def test_a_phrase_alone_is_one_phrase() -> None:
    assert parts_of(' "red boat" ')["phrase"]["terms"] == "red boat"


def test_phrases_must_be_there_and_words_may() -> None:
    query = parts_of('"red boat" at night "by the sea"')["boolean"]
    assert [each["phrase"]["terms"] for each in query["must"]] == ["red boat", "by the sea"]
    assert [each["match"]["terms"].split() for each in query["should"]] == [["at", "night"]]


@pytest.mark.parametrize("text", ["", "  ", '""', '"!" -- ?', "🚤", "'"])
def test_without_a_letter_or_digit_there_is_nothing_to_look_for(text: str) -> None:
    assert words_query(text) is None


def test_a_lone_quote_is_no_phrase() -> None:
    assert "match" in parts_of('the 12" disc')


def test_long_texts_and_many_phrases_are_cut() -> None:
    assert len(parts_of("ab " * 5000)["match"]["terms"]) == MAX_CHARACTERS
    query = parts_of('"a b" ' * 300)["boolean"]
    assert len(query["must"]) == MAX_PHRASES
    assert len(query["should"]) == 1
