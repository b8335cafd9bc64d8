"""`decode: fast`: a large JPEG is decoded at a half, a quarter or an eighth of its size, which skips most of the work."""

from PIL import Image, JpegImagePlugin
from PIL.ImageFile import ImageFile

from serve_app.adapters.picture_decoder.fitting import INTERPOLATIONS
from serve_app.adapters.picture_decoder.policy import SWAPS_SIDES, orientation_of
from serve_app.core.geometry import Geometry, fit_to_encoder
from serve_app.types import ImagePreprocessing

# Decoded pixels that are left along each side for one of the encoder's. With 1 the resize itself would have hardly anything to
# average, and the pixels stray two to three times as far (docs/pictures.md).
OVERSAMPLING = 2


def draft(file: ImageFile, preprocessing: ImagePreprocessing) -> tuple[Image.Image, Geometry] | None:
    """A JPEG decoded small and resized, not yet turned, and the plan of its full upright size; None where nothing is won.

    The picture is resized before it is turned, because the part of the last decoded row and column that lies beyond the picture
    must be left out (`box`): with it, pictures whose sides are no multiples of 8 stray four times as far.
    """
    if not isinstance(file, JpegImagePlugin.JpegImageFile):
        return None
    full_size = width, height = file.size
    swaps_sides = orientation_of(file) in SWAPS_SIDES
    plan = fit_to_encoder(height, width, preprocessing) if swaps_sides else fit_to_encoder(width, height, preprocessing)
    resized = (plan.resized[1], plan.resized[0]) if swaps_sides else plan.resized
    drafted = file.draft("RGB", (OVERSAMPLING * resized[0], OVERSAMPLING * resized[1]))
    if drafted is None or file.size == full_size:
        return None
    _, box = drafted
    return file.resize(resized, INTERPOLATIONS[plan.interpolation], box=box), plan
