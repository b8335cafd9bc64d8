"""What OpenCLIP's own transform makes of a picture: the measure of the decoder's tests."""

from io import BytesIO

import numpy as np
from open_clip.transform import image_transform
from PIL import Image
from pillow_heif import HeifImageFile

from serve_app.types import ImagePreprocessing, Pixels


def wanted(
    resize_mode: str = "shortest",
    interpolation: str = "bicubic",
    height: int = 64,
    width: int = 64,
    fill_color: int = 0,
) -> ImagePreprocessing:
    return ImagePreprocessing(
        height=height,
        width=width,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation=interpolation,
        resize_mode=resize_mode,
        fill_color=fill_color,
    )


def opened(data: bytes) -> Image.Image:
    """As Image.open does, with pillow_heif's plugin but without registering it for the whole process."""
    return HeifImageFile(BytesIO(data)) if data[8:12] == b"heic" else Image.open(BytesIO(data))


def reference(picture: Image.Image, preprocessing: ImagePreprocessing) -> Pixels:
    """OpenCLIP's transform without its last two steps, ToTensor and Normalize."""
    transform = image_transform(
        (preprocessing.height, preprocessing.width),
        is_train=False,
        resize_mode=preprocessing.resize_mode,
        interpolation=preprocessing.interpolation,
        fill_color=preprocessing.fill_color,
    )
    for step in transform.transforms[:-2]:
        picture = step(picture)
    return np.asarray(picture)
