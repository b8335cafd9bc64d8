"""The plain path that everything is compared with: OpenCLIP's own loading, transform, tokeniser and towers, in one loop."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image

from serve_app.types import FloatMatrix

PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class PlainOpenClip:
    """A checkpoint folder by `open_clip.create_model_from_pretrained`, with its transform and tokeniser."""

    def __init__(self, folder: Path, precision: str = "float32", device: str = "cpu") -> None:
        name = f"local-dir:{folder.resolve()}"
        self.model, self.transform = open_clip.create_model_from_pretrained(
            name, precision=PRECISIONS[precision], device=device
        )
        self.model.eval()
        self.tokenise = open_clip.get_tokenizer(name)
        self._device = device
        self._dtype = open_clip.get_input_dtype(PRECISIONS[precision])

    def transformed(self, file: bytes) -> Any:
        """The float32 tensor [3, height, width] of a picture file."""
        return self.transform(Image.open(io.BytesIO(file)))

    @torch.inference_mode()
    def encode_transformed(self, pictures: Sequence[Any]) -> FloatMatrix:
        """Unit vectors [n, dimension] of transformed pictures, normalised in float32."""
        batch = torch.stack(list(pictures)).to(self._device, self._dtype)
        return _unit(self.model.encode_image(batch))

    def encode_files(self, files: Sequence[bytes]) -> FloatMatrix:
        """Decode, transform and encode: unit vectors [n, dimension] of one batch."""
        return self.encode_transformed([self.transformed(file) for file in files])

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> FloatMatrix:
        """Unit vectors [n, dimension] of texts, each padded to the context length as `encode_text` is called by everyone."""
        return _unit(self.model.encode_text(self.tokenise(list(texts)).to(self._device)))


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Full batches over the items, again and again."""
    start = 0
    while True:
        yield [items[(start + offset) % len(items)] for offset in range(size)]
        start += size


def _unit(features: Any) -> FloatMatrix:
    vectors: FloatMatrix = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return vectors
