import pickle

import pytest

from serve_app.core.failures import failure_of, value_of
from serve_app.errors import CrossmodalError, InternalError, error_of, every_error


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_every_error_takes_one_message_and_survives_pickling(error: type[CrossmodalError]) -> None:
    again = pickle.loads(pickle.dumps(error("what went wrong")))
    assert type(again) is error
    assert (again.message, str(again), again.code) == ("what went wrong", "what went wrong", error.code)


def test_codes_are_stable_and_each_belongs_to_one_error() -> None:
    codes = [error.code for error in every_error()]
    assert len(set(codes)) == len(codes)
    assert {
        "empty_text",
        "invalid_vector",
        "not_a_picture",
        "picture_too_large",
        "overloaded",
        "fingerprint_mismatch",
    } <= set(codes)


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_an_error_travels_as_a_value_and_comes_back_as_itself(error: type[CrossmodalError]) -> None:
    with pytest.raises(error, match="because") as raised:
        value_of(failure_of(error("because")))
    assert type(raised.value) is error


def test_an_unknown_code_becomes_an_internal_error() -> None:
    assert isinstance(error_of("from the future", "?"), InternalError)


def test_the_tree_in_the_docstring_names_every_error() -> None:
    import serve_app.errors as module

    assert module.__doc__ is not None
    assert not [error.__name__ for error in every_error() if error.__name__ not in module.__doc__]
