"""For all tests."""

import gc


def pytest_collection_finish() -> None:
    """Loading a tower collects garbage. What the imports made is none; looking through it each time takes half a second."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Libraries that look for what they left behind see it as ever."""
    gc.unfreeze()
