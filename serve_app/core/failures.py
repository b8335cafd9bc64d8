"""Failures as values and as errors, and the way between. Knows nothing of where they happen."""

from typing import TypeVar

from serve_app.errors import CrossmodalError, error_of
from serve_app.types import ItemFailure

T = TypeVar("T")


def failure_of(error: CrossmodalError) -> ItemFailure:
    """The error as a value in a list of results."""
    return ItemFailure(code=error.code, message=error.message)


def value_of(result: T | ItemFailure) -> T:
    """The value, or the failure raised as the error of its code."""
    if isinstance(result, ItemFailure):
        raise error_of(result.code, result.message)
    return result
