"""Whether everything answers and belongs together, and what it is. Knows nothing of how the parts are run."""

import asyncio
import base64
import time

import numpy as np

from serve_app.core.failures import failure_of, value_of
from serve_app.core.usual_texts import ENOUGH_TEXTS, USUAL_TEXTS
from serve_app.errors import CrossmodalError, FingerprintMismatch
from serve_app.ports import Indexing, PictureWork, Retrieval, TextEncoding
from serve_app.services.encoders import Following, OneSet
from serve_app.types import EncoderCard, FloatMatrix, InlinePicture, Modality, PictureTask, Readiness, TableInfo

PROBE_TEXT = "a picture"
# A grey PNG of 8 x 8 pixels, made by this project's own code.
PROBE_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFUlEQVR42mNsaGhgwAaYGHCAwSkBADAXAZDUexXGAAAAAElFTkSuQmCC"
)


class StatusService:
    """Readiness exercises the models: a text and a picture go all the way through, and the table is opened."""

    def __init__(
        self,
        texts: TextEncoding,
        pictures: PictureWork,
        retrieval: Retrieval,
        indexing: Indexing,
        *,
        cache_s: float,
        encoders: Following | None = None,
    ) -> None:
        self._encoders = encoders or OneSet()
        self._texts = texts
        self._pictures = pictures
        self._retrieval = retrieval
        self._indexing = indexing
        self._cache_s = cache_s
        self._checking = asyncio.Lock()
        self._last: tuple[float, Readiness] | None = None
        self._usual: tuple[str, FloatMatrix] | None = None

    async def readiness(self) -> Readiness:
        """The state, at most `cache_s` seconds old; many askers cause one check."""
        async with self._checking:
            if self._last is None or time.monotonic() - self._last[0] > self._cache_s:
                self._last = (time.monotonic(), await self._check())
            return self._last[1]

    async def table(self) -> TableInfo:
        """The state of the table."""
        return await self._retrieval.table_info()

    async def encoder(self) -> EncoderCard:
        """The encoder that texts and queries go through."""
        return await self._texts.describe()

    async def _check(self) -> Readiness:
        encoder: EncoderCard | None = None
        await self._encoders.look()
        try:
            encoder = await self._texts.describe()
            text, picture = await asyncio.gather(
                self._texts.encode_texts([PROBE_TEXT]),
                self._pictures.embed_pictures([PictureTask(InlinePicture(PROBE_PICTURE))]),
            )
            text_fingerprint = value_of(text[0]).fingerprint
            image_fingerprint = value_of(picture[0]).embedding.fingerprint
            if text_fingerprint != image_fingerprint:
                raise FingerprintMismatch(
                    f"the text encoder ({text_fingerprint[:12]}) and the image encoder ({image_fingerprint[:12]}) are "
                    "of different models: give both the same encoder section"
                )
            info = await self._indexing.prepare_table(encoder)
            if info.counts[Modality.TEXT] < ENOUGH_TEXTS:
                await self._indexing.prepare_table(encoder, await self._usual_vectors(encoder))
            table = await self._retrieval.table_info()
        except CrossmodalError as error:
            return Readiness(failure=failure_of(error), encoder=encoder, table=None)
        return Readiness(failure=None, encoder=encoder, table=table)

    async def _usual_vectors(self, encoder: EncoderCard) -> FloatMatrix:
        """Of USUAL_TEXTS; encoded once, for readiness is asked for every few seconds."""
        if self._usual is None or self._usual[0] != encoder.fingerprint:
            embeddings = await self._texts.encode_texts(USUAL_TEXTS)
            self._usual = encoder.fingerprint, np.stack([value_of(each).vector for each in embeddings])
        return self._usual[1]
