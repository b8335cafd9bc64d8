"""What a picture looks like in RGB, where OpenCLIP is wrong about it: docs/pictures.md. Knows no file and no encoder.

EXIF turns the picture, transparency lies on white, and every mode becomes RGB of 8 bits before the resize.
"""

import numpy as np
from PIL import Image, TiffImagePlugin
from PIL.Image import Transpose

from serve_app.adapters.picture_decoder.formats import DAMAGE
from serve_app.errors import UnsupportedPicture

EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
SWAPS_SIDES = (5, 6, 7, 8)
TIFF_BITS_PER_SAMPLE = 258
TIFF_PHOTOMETRIC = 262
TIFF_WHITE_IS_ZERO = 0


def upright_rgb(picture: Image.Image) -> Image.Image:
    """The loaded picture as somebody sees it. Raises UnsupportedPicture."""
    return _to_rgb(_turned(picture))


def orientation_of(picture: Image.Image) -> int:
    """1 (upright) to 8 by the EXIF block. A PNG may carry it behind the pixels: ask after load()."""
    try:
        orientation = picture.getexif().get(EXIF_ORIENTATION, 1)
    except DAMAGE:
        return 1  # a broken EXIF block is no reason to refuse a sound picture
    return orientation if orientation in TURNS else 1


def _turned(picture: Image.Image) -> Image.Image:
    turn = TURNS.get(orientation_of(picture))
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _eight_bit_grey(picture).convert("RGB")
    if picture.mode in ("I", "F"):
        raise UnsupportedPicture("pictures with signed, 32-bit or real values are not supported: they name no white")
    if picture.mode == "La":  # premultiplied greys, for which PIL has one conversion only
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    # PIL would copy what is RGB already: a third of the time of a picture of two megapixels.
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bit_grey(picture: Image.Image) -> Image.Image:
    """The high byte, which is also what PIL takes of 16-bit RGB: the same picture gives the same pixels in either form."""
    values = np.asarray(picture).astype(np.uint16)
    bits, white_is_zero = _grey_scale_of(picture)
    greys = (values >> (bits - 8)).astype(np.uint8)
    if white_is_zero:
        greys = 255 - greys
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        greys[values == transparent] = 255
    return Image.fromarray(greys)


def _grey_scale_of(picture: Image.Image) -> tuple[int, bool]:
    """Bits of a value, and whether 0 is white. PIL puts the 12-bit greys of a TIFF into 16 bits as they are."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 16, False
    (bits,) = picture.tag_v2[TIFF_BITS_PER_SAMPLE]
    return bits, picture.tag_v2.get(TIFF_PHOTOMETRIC) == TIFF_WHITE_IS_ZERO
