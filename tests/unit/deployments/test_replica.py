"""What a replica sets for its process."""

import gc
import logging
from collections.abc import Iterator

import pytest

from deployments.replica import LOGGERS, ServeLog, collect_garbage_seldom, log_with_serve


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations that are looked through meanwhile, with Python's own thresholds before and after."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)


def test_a_thousand_requests_under_way_are_not_gone_through_for_garbage(collections: list[int]) -> None:
    def hold() -> list[list[int]]:
        return [[number] for number in range(20_000)]

    hold()
    usual = len(collections)
    assert usual > 10
    collect_garbage_seldom()
    hold()
    assert len(collections) - usual <= 1


def test_cyclic_garbage_is_collected_all_the_same(collections: list[int]) -> None:
    collect_garbage_seldom()
    for _ in range(60_000):
        cycle: list[object] = []
        cycle.append(cycle)
    assert collections


@pytest.fixture
def serve_lines() -> Iterator[list[str]]:
    """What Serve's logger writes, at INFO."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    serve, handler = logging.getLogger("ray.serve"), Lines()
    before = serve.level
    serve.addHandler(handler)
    serve.setLevel(logging.INFO)
    yield lines
    serve.removeHandler(handler)
    serve.setLevel(before)
    for logger in map(logging.getLogger, LOGGERS):
        logger.handlers = [each for each in logger.handlers if not isinstance(each, ServeLog)]
        logger.setLevel(logging.NOTSET)


def test_our_lines_are_written_by_serve_from_its_level_on_and_once(serve_lines: list[str]) -> None:
    log_with_serve()
    log_with_serve()
    for name in ("serve_app.services.some", "deployments.some", "crossmodal.http"):
        log = logging.getLogger(name)
        log.debug("a detail of %s", name)
        log.info("from %s", name)
        log.error("trouble in %s", name)
    assert serve_lines == [
        *("INFO from serve_app.services.some", "ERROR trouble in serve_app.services.some"),
        *("INFO from deployments.some", "ERROR trouble in deployments.some"),
        *("INFO from crossmodal.http", "ERROR trouble in crossmodal.http"),
    ]
