"""How many workers a job gets, and what each takes of Ray's resources. Pure: knows numbers, no cluster.

Ray counts what a worker asks for and bounds nothing; threads and processes are what really takes cores. So the workers are
counted by the cores that the job may use, and what they ask Ray for is made to fit into what is free, however little that is:
a job beside a service must start, and never wait for a resource that the service holds for good.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# A core is enough for many readers of small pictures, and one thread each is what small models use best.
FEW_CORES = 4
THREADS_ON_MANY = 4
WRITER_SHARE = 0.1  # of a core
LEAST_CPUS = 0.01


@dataclass(frozen=True, slots=True)
class JobResources:
    """Workers of each stage. `*_cpus`, `encoder_gpus`: what one of them asks Ray for. `threads`: of one encoder.

    `encoders_prepare`: encoders fetch and decode what they encode, and readers only say what there is.
    """

    encoders: int
    threads: int
    encoder_cpus: float
    encoder_gpus: float
    preparers: int
    preparer_cpus: float
    writers: int
    writer_cpus: float
    steps_back: bool
    encoders_prepare: bool


def lasting_cpus(free_cpus: float, nodes: Sequence[float]) -> float:
    """What is still free, as far as can be told, when the largest of the nodes is lost. `nodes`: the CPUs of each.

    Workers that ask for no more find a place on other nodes. Otherwise they would wait for a new node, and the job for them:
    Ray lets what they were doing wait as long as that takes.
    """
    with_cpus = [cpus for cpus in nodes if cpus > 0]
    return free_cpus if len(with_cpus) < 2 else free_cpus * (1 - max(with_cpus) / sum(with_cpus))


def plan_resources(
    *,
    cpus: float,
    gpus: float,
    free_cpus: float,
    free_gpus: float,
    share: float,
    threads: int | None = None,
    encoders: int | None = None,
    preparers: int | None = None,
) -> JobResources:
    """The plan for a cluster with so many CPUs and GPUs, of which so many are free. `share`: of all that the job may take.

    `threads`, `encoders`, `preparers`: as the user wants them, instead of what is worked out.
    """
    cores = max(1.0, cpus * share)
    on_gpu = gpus > 0 and free_gpus > 0
    threads = threads or (1 if on_gpu or cores <= FEW_CORES else THREADS_ON_MANY)
    if on_gpu:
        # One encoder a GPU, on the part of it that is free and that the job may take.
        encoders = encoders or max(1, round(gpus))
        encoder_gpus = max(0.01, round(min(gpus * share, free_gpus) / encoders, 3))
        preparers = preparers or max(1, int(cores) - encoders)
    else:
        encoders, encoder_gpus = encoders or max(1, int(cores) // threads), 0.0
        # Encoding is what takes time: half as many readers keep the encoders busy, and wait while they do.
        preparers = preparers or max(1, int(cores) // 2)
    wanted = encoders * threads + preparers + WRITER_SHARE
    # A tenth is left for Ray Data's own tasks.
    scale = min(1.0, 0.9 * min(free_cpus, cores) / wanted)

    def asked(amount: float) -> float:
        return max(LEAST_CPUS, int(100 * scale * amount) / 100)

    return JobResources(
        encoders=encoders,
        threads=threads,
        encoder_cpus=asked(threads),
        encoder_gpus=encoder_gpus,
        preparers=preparers,
        preparer_cpus=asked(1),
        writers=1,
        writer_cpus=asked(WRITER_SHARE),
        steps_back=share < 1,
        # An encoder of one thread keeps its core busy with either; others would let cores rest while one decodes.
        encoders_prepare=not on_gpu and threads == 1,
    )
