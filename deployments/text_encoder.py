"""TextEncoder: the tokeniser and the text tower of the model, batched. Knows no table and no HTTP."""

from collections.abc import Sequence

from configs.schema import EncoderConfig, TextConfig
from deployments.replica import collect_garbage_seldom, log_with_serve
from deployments.towers import tower_in_service
from serve_app.types import Embedding, EncoderCard, ItemFailure


class TextEncoder:
    def __init__(self, encoder: EncoderConfig, text: TextConfig) -> None:
        log_with_serve()
        collect_garbage_seldom()
        # Here and not above: the builder and the other deployments import this file, and must stay without torch.
        from serve_app.adapters.open_clip import load_text_tower

        self._card, self._service = tower_in_service(
            load_text_tower,
            encoder,
            part="text_encoder",
            max_batch_size=encoder.max_batch_texts,
            max_tokenised_characters=text.max_tokenised_characters,
            max_word_characters=text.max_word_characters,
        )

    async def encode_texts(self, texts: Sequence[str], *, urgent: bool = False) -> list[Embedding | ItemFailure]:
        return await self._service.encode(texts, urgent=urgent)

    async def describe(self) -> EncoderCard:
        return self._card

    def check_health(self) -> None:
        self._service.check_health()
