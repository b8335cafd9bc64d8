"""What a job is asked to do."""

from dataclasses import dataclass, field

from configs.schema import AppConfig
from serve_app.types import FramePolicy


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What is asked for. `share`: of the cluster's cores and GPUs. `beside`, `copies`, `roots`, `frames`: see JobSettings."""

    kind: str
    job_id: str
    config: AppConfig
    share: float = 1.0
    beside: str | None = None
    copies: bool = False
    roots: tuple[str, ...] = ()
    max_failures: int | None = None
    commit_rows: int = 1024
    encoders: int | None = None
    preparers: int | None = None
    frames: FramePolicy = field(default_factory=FramePolicy)
