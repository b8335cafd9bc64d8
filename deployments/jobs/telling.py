"""What a job that moves rows says while it runs: a line every few seconds. Knows no job."""

import time

from serve_app.cli.common import stderr

EVERY_S = 5.0


class Teller:
    """`what`: "exported" of "12,000 rows exported"."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began

    def __call__(self, rows: int) -> None:
        if time.monotonic() - self._told >= EVERY_S:
            self._told = time.monotonic()
            self._say(rows)

    def _say(self, rows: int) -> None:
        rate = rows / max(self.seconds, 1e-9)
        stderr().print(f"{rows:,} rows {self._what}, {rate:,.0f} rows/s", markup=False, soft_wrap=True)
