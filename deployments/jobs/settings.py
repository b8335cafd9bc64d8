"""What every worker of a job is told."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from configs.schema import AppConfig
from deployments.jobs.resources import JobResources
from deployments.writing import open_for_writing
from serve_app.adapters.lance_table import LanceTable
from serve_app.types import FramePolicy


class Parts(Protocol):
    """What is to be done, in pieces. Picklable: they are listed in one process and read in others."""

    def parts(self) -> Iterator[Any]:
        """Small, picklable, bounded pieces, listed lazily."""
        ...


class Source(Parts, Protocol):
    """Where items come from."""

    def read_part(self, part: Any, /) -> Iterator[Any]:
        """Tables of core.source_items.SOURCE_SCHEMA, bounded in rows and bytes, and failures of single items."""
        ...


@dataclass(frozen=True, slots=True)
class JobSettings:
    """`beside`: the table that is written, if not the one in service. `copies`: keep pictures that have a URI, too.

    `roots`: from where pictures may be read besides the allowed roots of the configuration. `frames`: of videos.
    """

    config: AppConfig
    job_id: str
    attempt: int
    resources: JobResources
    beside: str | None = None
    copies: bool = False
    roots: tuple[str, ...] = ()
    max_failures: int | None = None
    commit_rows: int = 1024
    frames: FramePolicy = field(default_factory=FramePolicy)

    def open_table(self) -> LanceTable:
        """The table to be written, opened in this process. One event loop uses it."""
        table = open_for_writing(self.config.table, self.config.full_text)
        return table if self.beside is None else table.named(self.beside)
