"""How a picture of any size becomes one of the encoder's size, and which sizes are refused. Pure; knows no pixels, no file.

The numbers are those of OpenCLIP's `image_transform` (open_clip 3.3), which follows torchvision's rounding: the long side of a
resize by the shortest edge is cut with `int()`, every other length and the corner of a crop are rounded half to even.
"""

from dataclasses import dataclass

from serve_app.errors import InvalidConfig, PictureTooElongated, PictureTooLarge
from serve_app.types import ImagePreprocessing

Size = tuple[int, int]
"""(width, height) in pixels, in PIL's order."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Resize, then pad, then crop. All in pixels; `crop` is a box in the padded picture."""

    resized: Size
    interpolation: str
    padding: tuple[int, int, int, int]  # left, top, right, bottom
    fill: int  # grey value 0..255 of the padding
    crop: tuple[int, int, int, int]  # left, top, right, bottom

    @property
    def is_padded(self) -> bool:
        return any(self.padding)

    @property
    def is_cropped(self) -> bool:
        left, top, right, bottom = self.padding
        width, height = self.resized
        return self.crop != (0, 0, width + left + right, height + top + bottom)


def check_size(width: int, height: int, *, max_pixels: int, max_aspect_ratio: float) -> None:
    """Raise PictureTooLarge or PictureTooElongated for a picture that would cost too much; sizes are positive."""
    if width * height > max_pixels:
        raise PictureTooLarge(f"the picture has {width} x {height} pixels; at most {max_pixels} are taken")
    if max(width, height) > max_aspect_ratio * min(width, height):
        raise PictureTooElongated(
            f"the picture has {width} x {height} pixels; its longer side may be at most {max_aspect_ratio:g} times the shorter"
        )


def fit_to_encoder(width: int, height: int, wanted: ImagePreprocessing) -> Geometry:
    """The steps from a picture of this size to exactly the encoder's size."""
    match wanted.resize_mode:
        case "squash":
            size = (wanted.width, wanted.height)
            return _centred(size, wanted, wanted.interpolation, fill=0)
        case "longest":
            ratio = max(height / wanted.height, width / wanted.width)
            return _centred(_scaled(width, height, ratio), wanted, wanted.interpolation, fill=wanted.fill_color)
        case "shortest" if wanted.width == wanted.height:
            return _centred(_shortest_edge(width, height, wanted.width), wanted, wanted.interpolation, fill=0)
        case "shortest":
            ratio = min(height / wanted.height, width / wanted.width)
            # OpenCLIP does not hand its interpolation on when the target is not square: bicubic, whatever is asked.
            return _centred(_scaled(width, height, ratio), wanted, "bicubic", fill=0)
        case unknown:
            raise InvalidConfig(f"the encoder asks for the unknown resize mode {unknown!r}")


def fit_within(width: int, height: int, longest: int) -> Size:
    """The size of a thumbnail whose longer side is at most `longest`; a smaller picture keeps its size."""
    ratio = max(width, height) / longest
    return (width, height) if ratio <= 1 else _scaled(width, height, ratio)


def _shortest_edge(width: int, height: int, edge: int) -> Size:
    if width <= height:
        return edge, int(edge * height / width)
    return int(edge * width / height), edge


def _scaled(width: int, height: int, ratio: float) -> Size:
    # OpenCLIP would ask for a side of 0 pixels here when a picture is very elongated, and fail.
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _centred(resized: Size, wanted: ImagePreprocessing, interpolation: str, *, fill: int) -> Geometry:
    left, right, crop_left = _centred_along(resized[0], wanted.width)
    top, bottom, crop_top = _centred_along(resized[1], wanted.height)
    return Geometry(
        resized=resized,
        interpolation=interpolation,
        padding=(left, top, right, bottom),
        fill=fill,
        crop=(crop_left, crop_top, crop_left + wanted.width, crop_top + wanted.height),
    )


def _centred_along(length: int, wanted: int) -> tuple[int, int, int]:
    """Padding before, padding after, and where the crop begins, along one side."""
    missing = max(0, wanted - length)
    before, after = missing // 2, (missing + 1) // 2
    return before, after, round((length + missing - wanted) / 2.0)
