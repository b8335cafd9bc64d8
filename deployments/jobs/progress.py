"""Figures of a running job: counted by its workers, gathered in one actor, made a JobState of by the driver. Knows no Ray."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, TypeAlias

ProgressHandle: TypeAlias = Any
"""A handle on an actor that is a Progress; Ray gives its methods types of their own."""


@dataclass(slots=True)
class Figures:
    """Sums over all workers. `stages`: items, bytes, seconds of work."""

    stages: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    stored: int = 0
    unchanged: int = 0
    failed: int = 0
    skipped: int = 0
    encoded: int = 0
    commits: int = 0
    encoding_since: float | None = None
    last_commit_at: float | None = None
    modalities: dict[str, int] = field(default_factory=dict)  # rows stored
    touched: bool = False  # whether rows that were there were changed


class Progress:
    """What the actor beside the driver (meeting.Meeting) counts."""

    def __init__(self) -> None:
        self._figures = Figures()
        self._failed: set[str] = set()

    def stages(
        self,
        stages: dict[str, tuple[int, int, float]],
        skipped: int = 0,
        encoded: int = 0,
        began_at: float | None = None,
    ) -> None:
        """`began_at`: when the batch began to be encoded."""
        for name, (items, size, seconds) in stages.items():
            before = self._figures.stages.get(name, (0, 0, 0.0))
            self._figures.stages[name] = (before[0] + items, before[1] + size, before[2] + seconds)
        self._figures.skipped += skipped
        self._figures.encoded += encoded
        if began_at is not None:
            self._figures.encoding_since = min(began_at, self._figures.encoding_since or began_at)

    def wrote(self, stored: dict[str, int], unchanged: int, touched: bool, failed: list[str]) -> int:
        """A commit was made. Returns how many items have failed so far."""
        figures = self._figures
        for modality, rows in stored.items():
            figures.modalities[modality] = figures.modalities.get(modality, 0) + rows
        figures.stored += sum(stored.values())
        figures.unchanged += unchanged
        figures.touched |= touched
        figures.commits += 1
        figures.last_commit_at = time.time()
        # By key: a writer that is run again says it again.
        self._failed.update(failed)
        figures.failed = len(self._failed)
        return figures.failed

    def figures(self) -> Figures:
        return self._figures


class Meter:
    """Counts in one worker and tells the actor once a batch. Implements services.bulk.Observe."""

    def __init__(self, progress: ProgressHandle) -> None:
        self._progress = progress
        self._stages: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0])

    def __call__(self, stage: str, items: int, size: int, seconds: float) -> None:
        sums = self._stages[stage]
        for at, value in enumerate((items, size, seconds)):
            sums[at] += value

    def flush(self, skipped: int = 0, encoded: int = 0, began_at: float | None = None) -> None:
        stages = {name: (int(items), int(size), seconds) for name, (items, size, seconds) in self._stages.items()}
        self._progress.stages.remote(stages, skipped, encoded, began_at)
        self._stages.clear()
