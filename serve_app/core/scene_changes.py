"""When a video shows something new, told from small copies of its frames. Pure; knows no codec and no file.

A frame's small copy is GRID x GRID pixels, each the mean of its part of the frame; the difference of two is the mean of the
absolute differences of their values, 0 to 1. A frame begins a scene when it differs by more than CHANGE from the frame last
kept, and by less than SETTLED from the one looked at before it: so a dissolve counts once, when it is over. What does not settle
within PATIENCE_S (a pan, confetti) is kept as it is by then. docs/video.md has what was measured.
"""

import numpy as np

from serve_app.types import Pixels

GRID = 16
LOOK_EVERY_S = 0.2
CHANGE = 0.08
SETTLED = 0.02
PATIENCE_S = 2.0


def difference(one: Pixels, other: Pixels) -> float:
    """0 to 1 between two small copies, uint8 [GRID, GRID, 3]."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean()) / 255.0


class SceneFinder:
    """Shown the small copies of one video in order, says of each whether its frame begins a scene."""

    def __init__(self) -> None:
        self._kept: Pixels | None = None
        self._before: Pixels | None = None
        self._changed_at_s: float | None = None

    def begins(self, offset_s: float, small: Pixels) -> bool:
        """Whether this frame is to be kept; the first one always is."""
        begins = self._kept is None or self._before is None or self._is_new(offset_s, small)
        self._before = small
        if begins:
            self._kept, self._changed_at_s = small, None
        return begins

    def _is_new(self, offset_s: float, small: Pixels) -> bool:
        if self._kept is None or self._before is None or difference(small, self._kept) <= CHANGE:
            self._changed_at_s = None
            return False
        if self._changed_at_s is None:
            self._changed_at_s = offset_s
        return difference(small, self._before) < SETTLED or offset_s - self._changed_at_s >= PATIENCE_S
