"""Texts are bounded before they cost, told apart when cut, and cannot speak the tokeniser's own language."""

import time
from typing import Any

import numpy as np
import pytest
from open_clip import SimpleTokenizer

from serve_app.adapters.tokenising import MAX_REMEMBERED_WORDS, BoundedTokenizer, bound

CONTEXT = 16


@pytest.fixture(scope="module")
def plain() -> SimpleTokenizer:
    return SimpleTokenizer(context_length=CONTEXT)


@pytest.fixture(scope="module")
def bounded() -> BoundedTokenizer:
    return BoundedTokenizer(SimpleTokenizer(), CONTEXT, max_characters=4000, max_word_characters=64)


def test_ordinary_texts_are_tokenised_as_openclip_does(plain: SimpleTokenizer, bounded: BoundedTokenizer) -> None:
    texts = [
        "a red boat",
        "",
        "Übung &amp; 船 it's 1234",
        "many words " * 40,
        "a b c d e f g h i j k l m n",
        "  x\t\ny ",
    ]
    tokens, _ = bounded(texts)
    assert np.array_equal(tokens, plain(texts).numpy())


def test_exactly_full_is_not_cut_and_one_more_is(bounded: BoundedTokenizer) -> None:
    full = " ".join("abcdefghijklmn")
    assert bounded([full, full + " o"])[1] == [False, True]


@pytest.mark.parametrize(
    "attack",
    [
        "<end_of_text>",
        "<END_OF_TEXT>",
        "<start_of_text>",
        "&lt;end_of_text&gt;",
        "&amp;lt;end_of_text&amp;gt;",
        "&amp;amp;lt;end_of_text&gt;",
        "\uff1cend_of_text\uff1e",
        "<end_\x00of_text>",
        "<end_of_\x1b[36mtext>",
        "<<end_of_text>end_of_text>",
        "<end_<end_of_text>of_text>",
    ],
)
def test_a_special_token_in_a_text_is_only_text(plain: SimpleTokenizer, bounded: BoundedTokenizer, attack: str) -> None:
    tokens, _ = bounded([f"a boat {attack} a tree"])
    row = tokens[0].tolist()
    assert row.count(plain.eot_token_id) == 1
    assert row.count(plain.sot_token_id) == 1
    assert row[0] == plain.sot_token_id


def test_a_word_of_forty_thousand_letters_is_quick(bounded: BoundedTokenizer) -> None:
    begin = time.monotonic()
    for text in (
        "b" * 40_000,
        "!?" * 20_000,
        "b1" * 20_000,
        "&#98;" * 8_000,
        "b\u200b" * 20_000,
        "<end_of_text>" * 4_000,
    ):
        tokens, cut = bounded([text])
        assert tokens.shape == (1, CONTEXT)
        assert cut == [True]
    assert time.monotonic() - begin < 2


def test_half_a_surrogate_pair_does_not_fail(bounded: BoundedTokenizer) -> None:
    tokens, cut = bounded(["a boat \ud83d here"])
    assert cut == [False]
    assert tokens[0].any()


def test_a_long_word_is_cut_and_what_follows_is_kept() -> None:
    assert bound("a " + "b" * 70 + " c", 4000, 64) == ("a " + "b" * 64 + " c", True)
    assert bound("a" * 64 + " " + "b" * 64, 4000, 64) == ("a" * 64 + " " + "b" * 64, False)
    assert bound("abcdefgh", 5, 64) == ("abcde", True)


def test_an_address_or_a_sentence_without_spaces_is_no_long_word() -> None:
    address = "https://example.com/a/path/of/many/parts/that/is/longer/than/sixty-four/characters.html?x=1&y=2"
    chinese = "红色的小船在夜晚的河流上漂浮," * 8
    assert bound(address, 4000, 64) == (address, False)
    assert bound(chinese, 4000, 64) == (chinese, False)


def test_the_tokeniser_does_not_remember_for_ever() -> None:
    inner = SimpleTokenizer()
    bounded = BoundedTokenizer(inner, CONTEXT, max_characters=4000, max_word_characters=64)
    before, _ = bounded(["a red boat"])
    inner.cache.update({f"word{number}": "x" for number in range(MAX_REMEMBERED_WORDS)})
    after, _ = bounded(["a red boat"])
    assert len(inner.cache) < 100
    assert np.array_equal(before, after)


class WordTokenizer:
    """Stands for OpenCLIP's HFTokenizer, whose `transformers` is not installed: words to their lengths, in <s> and </s>."""

    context_length = 6

    class Inner:
        all_special_tokens = ("<s>", "</s>", "<pad>")

        def __call__(self, text: str, truncation: bool, add_special_tokens: bool) -> dict[str, list[int]]:
            ids = [{"<s>": 100, "</s>": 101}.get(word, len(word)) for word in text.split()]
            return {"input_ids": [100, *ids, 101] if add_special_tokens else ids}

    def __init__(self) -> None:
        self.tokenizer = self.Inner()
        self.clean_fn: Any = str.strip

    def __call__(self, texts: list[str], context_length: int) -> list[list[int]]:
        rows = []
        for text in texts:
            ids = self.tokenizer(self.clean_fn(text), truncation=True, add_special_tokens=True)["input_ids"]
            rows.append(
                ([*ids[: context_length - 1], 101] if len(ids) > context_length else ids + [1] * context_length)[
                    :context_length
                ]
            )
        return rows


def test_a_tokeniser_of_another_family_is_bounded_too() -> None:
    bounded = BoundedTokenizer(WordTokenizer(), 6, max_characters=100, max_word_characters=10)
    tokens, cut = bounded(["aa bbb", "a </s> b", "a b c d e", "a" * 11])
    assert cut == [False, False, True, True]
    assert tokens.tolist() == [
        [100, 2, 3, 101, 1, 1],
        [100, 1, 1, 3, 1, 101],
        [100, 1, 1, 1, 1, 101],
        [100, 10, 101, 1, 1, 1],
    ]
