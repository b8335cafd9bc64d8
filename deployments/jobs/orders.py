"""What a job is asked to do."""

from dataclasses import dataclass

from configs.schema import AppConfig


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What is asked for. `share`: of the cluster's cores and GPUs. `beside`, `copies`, `roots`: see JobSettings."""

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
