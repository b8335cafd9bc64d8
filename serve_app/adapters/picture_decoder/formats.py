"""Which format a file is, how it is opened, and what its damage is called. Knows no pixels and no limits."""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

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
from PIL.ImageFile import ImageFile

from serve_app.errors import InvalidPicture, NotAPicture, PictureTooLarge, PictureTruncated, UnsupportedPicture


def _open_heic(file: BytesIO) -> ImageFile:
    # Imported when the first HEIC comes (5 MB), since most services never see one. Nothing is registered with PIL.
    from pillow_heif import HeifImageFile

    opener: Callable[[BytesIO], ImageFile] = HeifImageFile  # whose own constructor has no types
    return opener(file)


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
    "image/heic": _open_heic,
}
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
AVIF_BRANDS = {b"avif", b"avis"}
HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
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


def media_type_of(data: bytes) -> str:
    """Such as "image/png", from the first bytes. Raises NotAPicture, UnsupportedPicture."""
    media_type = sniff(data)
    if media_type is None:
        raise NotAPicture("these bytes are not a picture")
    if media_type not in OPENERS:
        raise UnsupportedPicture(f"pictures of the type {media_type} are not supported")
    return media_type


def open_picture(data: bytes) -> ImageFile:
    """The file with its header read and no pixel decoded. Raises NotAPicture, UnsupportedPicture, and what PIL raises."""
    return OPENERS[media_type_of(data)](BytesIO(data))


def sniff(data: bytes) -> str | None:
    """The media type by the signature of the file; None for what is no picture at all."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return _sniff_iso_media(data)
    return next((media_type for signature, media_type in SIGNATURES if data.startswith(signature)), None)


def _sniff_iso_media(data: bytes) -> str | None:
    """AVIF and HEIC share a container, whose first box lists brands; the general ones (mif1, msf1) stand before either."""
    brands = data[8 : min(int.from_bytes(data[:4]), 256)]
    known = {brands[at : at + 4] for at in range(0, len(brands), 4) if at != 4}  # bytes 4..8 are a version
    if known & AVIF_BRANDS:
        return "image/avif"
    return "image/heic" if known & HEIC_BRANDS else None


@contextmanager
def damage_translated(data: bytes) -> Iterator[None]:
    """Raises PictureTooLarge, PictureTruncated or InvalidPicture for what PIL raises while it reads `data`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise PictureTooLarge("a frame of the picture has too many pixels") from error
    except DAMAGE as error:
        if _ends_early(data, error):
            raise PictureTruncated("the picture file ends before the picture does") from error
        raise InvalidPicture("the picture file is damaged and cannot be decoded") from error


def _ends_early(data: bytes, error: Exception) -> bool:
    """Whether a file that could not be decoded was cut off: PIL says so, or its end is not there."""
    if "truncated" in str(error).lower():
        return True
    match sniff(data):
        case "image/jpeg":
            return b"\xff\xd9" not in data[-64:]
        case "image/png":
            return b"IEND" not in data[-64:]
        case "image/webp":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "image/avif" | "image/heic":
            return _last_box_is_cut(data)
        case _:
            return False


def _last_box_is_cut(data: bytes) -> bool:
    """Whether the boxes of an ISO media file, each of which begins with its length, reach beyond its end."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        if length < 8:  # 0: up to the end of the file; 1: a length of 64 bits, for files larger than any picture
            return False
        at += length
    return at > len(data)
