"""Resize, pad and crop by a plan, in whatever mode the picture is: step for step what torchvision does to a PIL image."""

from PIL import Image, ImageOps
from PIL.Image import Resampling

from serve_app.core.geometry import Geometry

INTERPOLATIONS = {
    "bicubic": Resampling.BICUBIC,
    "bilinear": Resampling.BILINEAR,
    "nearest": Resampling.NEAREST,
}


def fit(picture: Image.Image, plan: Geometry) -> Image.Image:
    """The picture at the encoder's size."""
    if picture.size != plan.resized:
        picture = picture.resize(plan.resized, INTERPOLATIONS[plan.interpolation])
    if plan.is_padded:
        picture = _padded(picture, plan.padding, plan.fill)
    return picture.crop(plan.crop) if plan.is_cropped else picture


def _padded(picture: Image.Image, padding: tuple[int, int, int, int], fill: int) -> Image.Image:
    channels = len(picture.getbands())
    padded = ImageOps.expand(picture, padding, fill if channels == 1 else (fill,) * channels)
    if picture.mode == "P":
        # As torchvision does: the fill is an index into this palette.
        padded.putpalette(picture.getpalette() or [])
    return padded
