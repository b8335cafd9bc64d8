"""Bytes of a picture file to pixels, with PIL. Knows nothing of models, storage or torch; every limit is checked before decoding.

The uint8 pixels are, bit for bit, those that OpenCLIP's own transform has before it normalises, except where OpenCLIP is wrong:
there they follow `policy`, unless the decoder is told to be exact to OpenCLIP. docs/pictures.md has the table of both.
"""

from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image
from PIL.Image import Resampling
from PIL.ImageFile import ImageFile

from serve_app.adapters.picture_decoder.drafting import draft
from serve_app.adapters.picture_decoder.fitting import INTERPOLATIONS, fit
from serve_app.adapters.picture_decoder.formats import damage_translated, media_type_of, open_picture
from serve_app.adapters.picture_decoder.policy import upright_rgb
from serve_app.core.geometry import check_size, fit_to_encoder, fit_within
from serve_app.errors import InvalidConfig, PictureTooLarge, UnsupportedPicture
from serve_app.types import ImagePreprocessing, Pixels

THUMBNAIL_QUALITY = 85
FRAME_QUALITY = 90


class PictureDecoder:
    """Implements ports.PictureDecoding. Holds limits and choices only, so one decoder may serve several threads.

    `exact`: "policy", or "openclip" for the reference's pixels, right or wrong. `decode`: "fast" decodes a JPEG that is much
    larger than the encoder wants at a half, a quarter or an eighth of its size; its pixels are near the policy's, not equal.
    """

    def __init__(
        self,
        max_bytes: int,
        max_pixels: int,
        max_aspect_ratio: float,
        *,
        exact: Literal["policy", "openclip"] = "policy",
        decode: Literal["exact", "fast"] = "exact",
    ) -> None:
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._max_aspect_ratio = max_aspect_ratio
        self._follows_policy = exact == "policy"
        self._is_fast = decode == "fast" and self._follows_policy

    def to_pixels(self, data: bytes, preprocessing: ImagePreprocessing) -> Pixels:
        """uint8 [height, width, 3] of the encoder's size, RGB. Raises InvalidPicture and its children."""
        if preprocessing.interpolation not in INTERPOLATIONS:
            raise InvalidConfig(f"the encoder asks for the unknown interpolation {preprocessing.interpolation!r}")
        self._check_bytes(data)
        with damage_translated(data):
            file = self._opened(data)
            drafted = draft(file, preprocessing) if self._is_fast else None
            picture, plan = drafted or (self._loaded(file), None)
            if self._follows_policy:
                picture = upright_rgb(picture)
            elif picture.mode == "La":
                raise UnsupportedPicture("OpenCLIP cannot convert pictures of premultiplied greys with transparency")
        fitted = fit(picture, plan or fit_to_encoder(*picture.size, preprocessing))
        return np.array(fitted.convert("RGB"), dtype=np.uint8)

    def to_thumbnail(self, data: bytes, size_px: int) -> bytes:
        """A JPEG whose longer side is at most `size_px`. Raises InvalidPicture and its children."""
        self._check_bytes(data)
        with damage_translated(data):
            file = self._opened(data)
            # A JPEG may be decoded smaller, but with its longer side no less.
            file.draft("RGB", fit_within(*file.size, size_px))
            picture = upright_rgb(self._loaded(file))
        picture = picture.resize(fit_within(*picture.size, size_px), Resampling.LANCZOS, reducing_gap=3.0)
        thumbnail = BytesIO()
        picture.save(thumbnail, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
        return thumbnail.getvalue()

    def to_jpeg(self, pixels: Pixels) -> bytes:
        """A JPEG of the same size, for a frame of a video: uint8 [height, width, 3], RGB."""
        frame = BytesIO()
        Image.fromarray(pixels).save(frame, "JPEG", quality=FRAME_QUALITY, optimize=True)
        return frame.getvalue()

    def media_type(self, data: bytes) -> str:
        """Such as "image/png", from the first bytes. Raises NotAPicture, UnsupportedPicture."""
        return media_type_of(data)

    def _check_bytes(self, data: bytes) -> None:
        if len(data) > self._max_bytes:
            raise PictureTooLarge(f"the picture file has {len(data)} bytes; at most {self._max_bytes} are taken")

    def _opened(self, data: bytes) -> ImageFile:
        file = open_picture(data)
        check_size(*file.size, max_pixels=self._max_pixels, max_aspect_ratio=self._max_aspect_ratio)
        return file

    def _loaded(self, file: ImageFile) -> Image.Image:
        """The first frame. The size is checked once more: that of a HEIC may prove another while it is decoded."""
        file.load()
        check_size(*file.size, max_pixels=self._max_pixels, max_aspect_ratio=self._max_aspect_ratio)
        return file
