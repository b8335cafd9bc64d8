"""Failures as values and as errors, and the way between. Knows nothing of where they happen."""

from collections.abc import Awaitable
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


async def as_value(work: Awaitable[T]) -> T | ItemFailure:
    """What the work gives, or the error of ours that it raised as a value."""
    try:
        return await work
    except CrossmodalError as error:
        return failure_of(error)
