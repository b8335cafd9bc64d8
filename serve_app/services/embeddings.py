"""Texts and pictures become vectors, and no more. Knows neither models nor the table."""

from collections.abc import Iterator, Sequence

from serve_app.core.failures import failure_of, value_of
from serve_app.core.texts import check_text
from serve_app.core.together import together
from serve_app.errors import CrossmodalError, FingerprintMismatch, InvalidRequest, ModelNotFound
from serve_app.ports import PictureWork, TextEncoding
from serve_app.services.encoders import Following, OneSet, across_switches
from serve_app.types import EmbeddedPicture, Embedding, EncoderCard, ItemFailure, Picture, PictureTask


class EmbeddingService:
    """Embeds what it is given, in order; one bad item fails alone."""

    def __init__(
        self, texts: TextEncoding, pictures: PictureWork, *, max_characters: int, encoders: Following | None = None
    ) -> None:
        self._encoders = encoders or OneSet()
        self._texts = texts
        self._pictures = pictures
        self._max_characters = max_characters

    async def encoder(self, model: str | None = None, dimension: int | None = None) -> EncoderCard:
        """The encoder. Raises ModelNotFound if it is not called `model`, InvalidRequest if its vectors have another dimension."""
        card = await self._texts.describe()
        if model is not None and model != card.model:
            raise ModelNotFound(f"there is no model {model[:200]!r} here: this service runs {card.model!r}")
        if dimension is not None and dimension != card.dimension:
            raise InvalidRequest(
                f"dimensions: the vectors of this model have {card.dimension} numbers and cannot be cut to {dimension}"
            )
        return card

    def check(self, items: Sequence[str | Picture | ItemFailure]) -> list[str | Picture | ItemFailure]:
        """The items, those that no encoder would take as failures; costs no encoding."""
        return [self._checked(item) if isinstance(item, str) else item for item in items]

    async def embed(self, items: Sequence[str | Picture | ItemFailure]) -> list[Embedding | ItemFailure]:
        """An embedding or a failure for each item, all of one encoder; what has failed already stays as it is.

        Raises Unavailable, and FingerprintMismatch if the text encoder and the image encoder are of different models.
        """
        return value_of((await across_switches(self._encoders, [self.check(items)], self._embed))[0])

    async def _embed(
        self, lists: Sequence[list[str | Picture | ItemFailure]]
    ) -> list[list[Embedding | ItemFailure] | ItemFailure]:
        try:
            return [await self._embed_list(checked) for checked in lists]
        except FingerprintMismatch as error:
            return [failure_of(error)] * len(lists)

    async def _embed_list(self, checked: Sequence[str | Picture | ItemFailure]) -> list[Embedding | ItemFailure]:
        texts = [item for item in checked if isinstance(item, str)]
        tasks = [PictureTask(item) for item in checked if not isinstance(item, str | ItemFailure)]
        of_texts, of_pictures = await together(
            self._texts.encode_texts(texts) if texts else None,
            self._pictures.embed_pictures(tasks) if tasks else None,
        )
        next_text, next_picture = iter(of_texts or ()), iter(of_pictures or ())
        embedded = [_result_of(item, next_text, next_picture) for item in checked]
        check_one_encoder(embedded)
        return embedded

    def _checked(self, text: str) -> str | ItemFailure:
        try:
            check_text(text, self._max_characters)
        except CrossmodalError as error:
            return failure_of(error)
        return text


def _result_of(
    item: str | Picture | ItemFailure,
    texts: Iterator[Embedding | ItemFailure],
    pictures: Iterator[EmbeddedPicture | ItemFailure],
) -> Embedding | ItemFailure:
    """The result that belongs to this item: the next one of its kind."""
    if isinstance(item, ItemFailure):
        return item
    if isinstance(item, str):
        return next(texts)
    result = next(pictures)
    return result if isinstance(result, ItemFailure) else result.embedding


def check_one_encoder(embedded: Sequence[Embedding | ItemFailure]) -> None:
    """Raises FingerprintMismatch if vectors of different encoders came together."""
    fingerprints = {each.fingerprint[:12] for each in embedded if isinstance(each, Embedding)}
    if len(fingerprints) > 1:
        raise FingerprintMismatch(
            f"the encoders of this service are of different models ({', '.join(sorted(fingerprints))}): give the text encoder "
            "and the image encoder the same encoder section"
        )
