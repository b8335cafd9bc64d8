"""Vectors that came without a fingerprint: whose they are said to be, and whether this encoder makes the same ones.

Knows no file: it is given rows to compare. Loads both towers of the model.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from configs.schema import AppConfig, EncoderConfig
from deployments.jobs.evaluated_locally import LocalEncoder, LocalPictures
from serve_app.adapters.exchange.clip_records import ClipRow
from serve_app.core.records import TableIdentity, table_identity
from serve_app.core.vectors import cosines
from serve_app.errors import FingerprintMismatch, InvalidRequest
from serve_app.types import FloatVector, ItemFailure, PictureTask, PictureUri, TableInfo

# Half precision and other resizing leave 0.99 and more, another model leaves about nothing.
LEAST_COSINE = 0.95


def check_statement(model: str | None, pretrained: str | None, encoder: EncoderConfig) -> None:
    """Raises InvalidRequest unless the model that is named is the encoder's, in OpenCLIP's or clip-retrieval's spelling."""
    ours = f"--model {encoder.model}" + (f" --pretrained {encoder.pretrained}" if encoder.pretrained else "")
    if model is None:
        raise InvalidRequest(
            f"vectors of clip-retrieval do not say which model made them: if it was the encoder of this profile, say {ours}; "
            "else name the profile of the encoder that it was (--profile)"
        )
    if spelt_out(model, pretrained) != (encoder.model, encoder.pretrained):
        said = " ".join(filter(None, spelt_out(model, pretrained)))
        raise InvalidRequest(
            f"the vectors are said to be of {said}, and the encoder of this profile is {ours}: name the profile of that "
            "encoder (--profile), for vectors of two encoders cannot be compared"
        )


def spelt_out(model: str, pretrained: str | None) -> tuple[str, str | None]:
    """As OpenCLIP names it: clip-retrieval says `ViT-B/32` for OpenAI's and `open_clip:ViT-B-32/laion2b_s34b_b79k`."""
    if model.startswith("open_clip:"):
        model, _, tag = model.removeprefix("open_clip:").partition("/")
        return model, pretrained or tag or None
    if model.startswith("ViT-") and "/" in model:
        return model.replace("/", "-").replace("@336px", "-336"), pretrained or "openai"
    return model, pretrained


def taken_for_granted(info: TableInfo) -> TableIdentity:
    """Of a table that is there, without a look at the model. Raises InvalidRequest where there is none."""
    if info.fingerprint is None or info.model is None or info.dimension is None:
        raise InvalidRequest(
            "--unchecked needs a table that is there: without one only the model itself tells its fingerprint"
        )
    return TableIdentity(info.fingerprint, info.model, info.dimension)


class StatedModel:
    """The encoder of the profile, loaded here. Raises ModelUnavailable."""

    def __init__(self, config: AppConfig) -> None:
        self._config = config
        self.encoder = LocalEncoder(config)
        self.identity = table_identity(self.encoder.card)

    async def check(self, rows: Sequence[ClipRow]) -> None:
        """Make the vectors of these rows once more. Raises FingerprintMismatch where they are others.

        InvalidRequest where nothing could be compared, since no caption came and no picture could be read.
        """
        words = [row for row in rows if row.text is not None and row.item.text]
        compared = await self._texts(words) if words else await self._pictures(rows)
        if not compared:
            raise InvalidRequest(
                "nothing shows that this encoder made the vectors: there are no vectors of captions, and no picture could be "
                "read (see --base-uri and pictures.allowed_roots); --unchecked takes your word for it"
            )
        cosine = float(np.median(compared))
        if cosine < LEAST_COSINE:
            raise FingerprintMismatch(
                f"the vectors are not those of {self.identity.model}: what it makes of {len(compared)} of the same texts or "
                f"pictures has a cosine of {cosine:.3f} with them, at the median"
            )

    async def _texts(self, rows: Sequence[ClipRow]) -> list[float]:
        made = await self.encoder.encode_texts([row.item.text or "" for row in rows])
        return [
            _cosine(row.text, each.vector)
            for row, each in zip(rows, made, strict=True)
            if row.text is not None and not isinstance(each, ItemFailure)
        ]

    async def _pictures(self, rows: Sequence[ClipRow]) -> list[float]:
        seen = [row for row in rows if row.image is not None and row.item.uri is not None]
        with TemporaryDirectory() as folder:
            pictures = LocalPictures(self._config, self.encoder, Path(folder))
            made = await pictures.embed_pictures([PictureTask(PictureUri(row.item.uri or "")) for row in seen])
        return [
            _cosine(row.image, each.embedding.vector)
            for row, each in zip(seen, made, strict=True)
            if row.image is not None and not isinstance(each, ItemFailure)
        ]


def _cosine(found: FloatVector, made: FloatVector) -> float:
    """0 for vectors that are none."""
    return float(cosines(made, np.nan_to_num(found, posinf=0.0, neginf=0.0)[np.newaxis])[0])
