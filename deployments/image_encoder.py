"""ImageEncoder: the vision tower of the model, batched; takes uint8 pixels. Knows no picture formats, no table, no HTTP."""

from collections.abc import Sequence

from configs.schema import EncoderConfig
from deployments.checkpoints import tower_arguments
from deployments.replica import batch_metrics, whole_cpus
from serve_app.services.encoding import EncodingService, encoder_thread
from serve_app.types import Embedding, EncoderCard, ItemFailure, Pixels


class ImageEncoder:
    def __init__(self, encoder: EncoderConfig) -> None:
        # Here and not above: the builder and the other deployments import this file, and must stay without torch.
        from serve_app.adapters.open_clip import load_image_tower, trim_heap

        thread = encoder_thread()
        tower = thread.submit(
            load_image_tower, **tower_arguments(encoder), threads=encoder.threads or whole_cpus()
        ).result()
        thread.submit(tower.warm_up, encoder.max_batch_pictures, encoder.compile).result()
        self._card = tower.card
        self._service = EncodingService[Pixels].of_tower(
            tower,
            thread=thread,
            when_idle=trim_heap,
            max_batch_size=encoder.max_batch_pictures,
            max_queued_items=encoder.max_queued_items,
            max_wait_s=encoder.max_wait_s,
            observe=batch_metrics("image_encoder"),
        )

    async def encode_pixels(self, pictures: Sequence[Pixels]) -> list[Embedding | ItemFailure]:
        return await self._service.encode(pictures)

    async def describe(self) -> EncoderCard:
        return self._card

    def check_health(self) -> None:
        self._service.check_health()
