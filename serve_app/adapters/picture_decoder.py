"""Bytes of a picture file to pixels, with PIL. Knows nothing of models, storage or torch; every limit is checked before decoding.

The uint8 pixels are, bit for bit, those that OpenCLIP's own transform has before it normalises, except where OpenCLIP is wrong:
EXIF turns the picture, transparency lies on white, palettes and other modes become RGB before the resize, and 16-bit greys
are scaled to 8 (PIL alone saturates them). Of an animation the first frame counts. Colour profiles are ignored, as in OpenCLIP.
"""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.Image import Resampling, Transpose
from PIL.ImageFile import ImageFile

from serve_app.core.geometry import check_size, fit_to_encoder, fit_within
from serve_app.errors import (
    InvalidConfig,
    InvalidPicture,
    NotAPicture,
    PictureTooLarge,
    PictureTruncated,
    UnsupportedPicture,
)
from serve_app.types import ImagePreprocessing, Pixels

# The classes are called by themselves, not through Image.open: that would try every format PIL knows, and check sizes
# against a limit that is global to the process.
OPENERS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "image/jpeg": JpegImagePlugin.JpegImageFile,
    "image/png": PngImagePlugin.PngImageFile,
    "image/webp": WebPImagePlugin.WebPImageFile,
    "image/gif": GifImagePlugin.GifImageFile,
    "image/bmp": BmpImagePlugin.BmpImageFile,
    "image/tiff": TiffImagePlugin.TiffImageFile,
    "image/avif": AvifImagePlugin.AvifImageFile,
}
INTERPOLATIONS = {
    "bicubic": Resampling.BICUBIC,
    "bilinear": Resampling.BILINEAR,
    "nearest": Resampling.NEAREST,
}
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
EXIF_ORIENTATION = 0x0112
# What PIL raises for damaged files, found by mutating files of every format. RuntimeError is AVIF's way; a MemoryError here comes
# from a length that the file names: the pixels themselves were bounded before.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
THUMBNAIL_QUALITY = 85


class PictureDecoder:
    """Implements ports.PictureDecoding. Holds limits only, so one decoder may serve several threads."""

    def __init__(self, max_bytes: int, max_pixels: int, max_aspect_ratio: float) -> None:
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._max_aspect_ratio = max_aspect_ratio

    def to_pixels(self, data: bytes, preprocessing: ImagePreprocessing) -> Pixels:
        """uint8 [height, width, 3] of the encoder's size, RGB. Raises InvalidPicture and its children."""
        if preprocessing.interpolation not in INTERPOLATIONS:
            raise InvalidConfig(f"the encoder asks for the unknown interpolation {preprocessing.interpolation!r}")
        picture = self._decode(data)
        plan = fit_to_encoder(*picture.size, preprocessing)
        if picture.size != plan.resized:
            picture = picture.resize(plan.resized, INTERPOLATIONS[plan.interpolation])
        if plan.is_padded:
            left, top, right, bottom = plan.padding
            size = (picture.width + left + right, picture.height + top + bottom)
            padded = Image.new("RGB", size, (plan.fill,) * 3)
            padded.paste(picture, (left, top))
            picture = padded
        if plan.is_cropped:
            picture = picture.crop(plan.crop)
        return np.array(picture, dtype=np.uint8)

    def to_thumbnail(self, data: bytes, size_px: int) -> bytes:
        """A JPEG whose longer side is at most `size_px`. Raises InvalidPicture and its children."""
        picture = self._decode(data, draft_px=size_px)
        picture = picture.resize(fit_within(*picture.size, size_px), Resampling.LANCZOS, reducing_gap=3.0)
        file = BytesIO()
        picture.save(file, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
        return file.getvalue()

    def media_type(self, data: bytes) -> str:
        """Such as "image/png", from the first bytes. Raises NotAPicture, UnsupportedPicture."""
        media_type = sniff(data)
        if media_type is None:
            raise NotAPicture("these bytes are not a picture")
        if media_type not in OPENERS:
            raise UnsupportedPicture(f"pictures of the type {media_type} are not supported")
        return media_type

    def _decode(self, data: bytes, draft_px: int | None = None) -> Image.Image:
        """The first frame, turned, as RGB. `draft_px`: a JPEG may be decoded smaller, but with its longer side no less."""
        if len(data) > self._max_bytes:
            raise PictureTooLarge(f"the picture file has {len(data)} bytes; at most {self._max_bytes} are taken")
        opener = OPENERS[self.media_type(data)]
        try:
            picture = opener(BytesIO(data))
            check_size(*picture.size, max_pixels=self._max_pixels, max_aspect_ratio=self._max_aspect_ratio)
            if draft_px is not None:
                picture.draft("RGB", fit_within(*picture.size, draft_px))
            picture.load()
            return _to_rgb(_turned(picture))
        except Image.DecompressionBombError as error:
            raise PictureTooLarge("a frame of the picture has too many pixels") from error
        except DAMAGE as error:
            if _ends_early(data, error):
                raise PictureTruncated("the picture file ends before the picture does") from error
            raise InvalidPicture("the picture file is damaged and cannot be decoded") from error


def sniff(data: bytes) -> str | None:
    """The media type by the signature of the file; None for what is no picture at all."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"avif", b"avis"):
            return "image/avif"
        return "image/heic" if brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1") else None
    return next((media_type for signature, media_type in SIGNATURES if data.startswith(signature)), None)


SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    # Known, so that the answer can say more than "not a picture".
    (b"\x00\x00\x00\x0cjP  ", "image/jp2"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\xff\x0a", "image/jxl"),
    (b"<svg", "image/svg+xml"),
)


def _ends_early(data: bytes, error: Exception) -> bool:
    """Whether a file that could not be decoded was cut off: PIL says so, or its end mark is missing."""
    if "truncated" in str(error).lower():
        return True
    match sniff(data):
        case "image/jpeg":
            return b"\xff\xd9" not in data[-64:]
        case "image/png":
            return b"IEND" not in data[-64:]
        case "image/webp":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case _:
            return False


def _turned(picture: Image.Image) -> Image.Image:
    try:
        # After load(): a PNG may carry its EXIF behind the pixels, and PIL turns TIFFs by itself while it loads them.
        orientation = picture.getexif().get(EXIF_ORIENTATION, 1)
    except DAMAGE:
        orientation = 1  # a broken EXIF block is no reason to refuse a sound picture
    turn = TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _eight_bit_grey(picture).convert("RGB")
    if picture.mode in ("I", "F"):
        raise UnsupportedPicture("pictures with 32 bits per channel are not supported: their range is not defined")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _eight_bit_grey(picture: Image.Image) -> Image.Image:
    """The high byte, which is also what PIL takes of 16-bit RGB: the same picture gives the same pixels in either form."""
    values = np.asarray(picture).astype(np.uint16)
    greys = (values >> 8).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        greys[values == transparent] = 255
    return Image.fromarray(greys)
