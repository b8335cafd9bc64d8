"""A tower in a replica: loaded, warmed up and fed in batches, all by the one thread that computes. Knows no request."""

import logging
from collections.abc import Callable
from typing import Any

from configs.schema import EncoderConfig
from deployments.checkpoints import tower_arguments
from deployments.replica import batch_metrics, whole_cpus
from serve_app.services.encoding import EncodingService, encoder_thread
from serve_app.types import EncoderCard

log = logging.getLogger(__name__)


def tower_in_service(
    load: Callable[..., Any], encoder: EncoderConfig, *, part: str, max_batch_size: int, **bounds: int
) -> tuple[EncoderCard, EncodingService[Any]]:
    """What describes the tower, and what feeds it.

    `load`: a loader of serve_app.adapters.open_clip, `bounds` its arguments for texts. `part`: its name in the metrics. Raises
    ModelUnavailable, StorageUnavailable.
    """
    # Here and not above, as the loaders are: see ImageEncoder.
    from serve_app.adapters.open_clip import trim_heap

    thread = encoder_thread()
    threads = encoder.threads or whole_cpus()
    tower = thread.submit(load, **tower_arguments(encoder), threads=threads, **bounds).result()
    thread.submit(tower.warm_up, max_batch_size, encoder.compile).result()
    service = EncodingService[Any].of_tower(
        tower,
        thread=thread,
        when_idle=trim_heap,
        max_batch_size=max_batch_size,
        max_queued_items=encoder.max_queued_items,
        max_wait_s=encoder.max_wait_s,
        observe=batch_metrics(part),
    )
    card: EncoderCard = tower.card
    log.info(
        "%s: %s in %s on %s, threads: %d, batches of up to %d",
        part,
        card.model,
        card.precision,
        card.device,
        threads,
        max_batch_size,
    )
    return card, service
