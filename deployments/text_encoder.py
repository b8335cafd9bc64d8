"""TextEncoder: the tokeniser and the text tower of the model, batched. Knows no table and no HTTP."""

from collections.abc import Sequence

from configs.schema import EncoderConfig, TextConfig
from deployments.checkpoints import tower_arguments
from deployments.replica import batch_metrics, whole_cpus
from serve_app.services.encoding import EncodingService, encoder_thread
from serve_app.types import Embedding, EncoderCard, ItemFailure


class TextEncoder:
    def __init__(self, encoder: EncoderConfig, text: TextConfig) -> None:
        # Here and not above: the builder and the other deployments import this file, and must stay without torch.
        from serve_app.adapters.open_clip import load_text_tower, trim_heap

        thread = encoder_thread()
        tower = thread.submit(
            load_text_tower,
            **tower_arguments(encoder),
            threads=encoder.threads or whole_cpus(),
            max_tokenised_characters=text.max_tokenised_characters,
            max_word_characters=text.max_word_characters,
        ).result()
        thread.submit(tower.warm_up, encoder.max_batch_texts, encoder.compile).result()
        self._card = tower.card
        self._service = EncodingService[str].of_tower(
            tower,
            thread=thread,
            when_idle=trim_heap,
            max_batch_size=encoder.max_batch_texts,
            max_queued_items=encoder.max_queued_items,
            max_wait_s=encoder.max_wait_s,
            observe=batch_metrics("text_encoder"),
        )

    async def encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        return await self._service.encode(texts)

    async def describe(self) -> EncoderCard:
        return self._card

    def check_health(self) -> None:
        self._service.check_health()
