"""ImageEncoder: the vision tower of the model, batched; takes uint8 pixels. Knows no picture formats, no table, no HTTP."""

from collections.abc import Sequence

from configs.schema import EncoderConfig
from deployments.replica import collect_garbage_seldom, log_with_serve
from deployments.towers import tower_in_service
from serve_app.types import Embedding, EncoderCard, ItemFailure, Pixels


class ImageEncoder:
    def __init__(self, encoder: EncoderConfig) -> None:
        log_with_serve()
        collect_garbage_seldom()
        # Here and not above: the builder and the other deployments import this file, and must stay without torch.
        from serve_app.adapters.open_clip import load_image_tower

        self._card, self._service = tower_in_service(
            load_image_tower, encoder, part="image_encoder", max_batch_size=encoder.max_batch_pictures
        )

    async def encode_pixels(self, pictures: Sequence[Pixels], *, urgent: bool = False) -> list[Embedding | ItemFailure]:
        return await self._service.encode(pictures, urgent=urgent)

    async def describe(self) -> EncoderCard:
        return self._card

    def check_health(self) -> None:
        self._service.check_health()
