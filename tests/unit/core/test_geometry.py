"""The geometry is OpenCLIP's own, and too large or too long pictures are refused from their size alone."""

import pytest

from serve_app.core.geometry import Geometry, check_size, fit_to_encoder, fit_within
from serve_app.errors import InvalidConfig, PictureTooElongated, PictureTooLarge
from serve_app.types import ImagePreprocessing


def wanted(resize_mode: str, width: int = 224, height: int = 224, fill: int = 0) -> ImagePreprocessing:
    return ImagePreprocessing(
        height=height,
        width=width,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bilinear",
        resize_mode=resize_mode,
        fill_color=fill,
    )


def padded_size(plan: Geometry) -> tuple[int, int]:
    left, top, right, bottom = plan.padding
    return plan.resized[0] + left + right, plan.resized[1] + top + bottom


def test_the_long_side_of_a_shortest_edge_resize_is_cut_not_rounded() -> None:
    plan = fit_to_encoder(500, 333, wanted("shortest"))
    assert plan.resized == (336, 224)  # 336.336...
    assert fit_to_encoder(333, 499, wanted("shortest")).resized == (224, 335)  # 335.66...


def test_the_corner_of_a_crop_is_rounded_half_to_even() -> None:
    assert fit_to_encoder(225, 224, wanted("shortest")).crop[0] == 0  # 0.5
    assert fit_to_encoder(227, 224, wanted("shortest")).crop[0] == 2  # 1.5
    assert fit_to_encoder(229, 224, wanted("shortest")).crop[0] == 2  # 2.5


def test_squash_ignores_the_shape() -> None:
    plan = fit_to_encoder(1000, 50, wanted("squash"))
    assert plan.resized == (224, 224)
    assert not plan.is_padded
    assert not plan.is_cropped


def test_longest_pads_the_odd_pixel_after_the_picture() -> None:
    plan = fit_to_encoder(224, 101, wanted("longest", fill=7))
    assert plan.resized == (224, 101)
    assert plan.padding == (0, 61, 0, 62)
    assert plan.fill == 7
    assert not plan.is_cropped


def test_a_target_that_is_not_square_is_covered_and_cropped_with_bicubic() -> None:
    plan = fit_to_encoder(300, 300, wanted("shortest", width=100, height=50))
    assert plan.resized == (100, 100)
    assert plan.crop == (0, 25, 100, 75)
    assert plan.interpolation == "bicubic"


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (4000, 81), (223, 225), (224, 224), (31, 1999)])
@pytest.mark.parametrize("target", [(224, 224), (64, 48), (33, 77)])
def test_the_crop_has_the_encoders_size_and_lies_inside(
    resize_mode: str, size: tuple[int, int], target: tuple[int, int]
) -> None:
    plan = fit_to_encoder(*size, wanted(resize_mode, *target))
    left, top, right, bottom = plan.crop
    assert (right - left, bottom - top) == target
    assert min(plan.resized) >= 1
    assert min(left, top) >= 0
    assert right <= padded_size(plan)[0]
    assert bottom <= padded_size(plan)[1]


def test_an_unknown_resize_mode_is_an_error_of_the_configuration() -> None:
    with pytest.raises(InvalidConfig, match="stretch"):
        fit_to_encoder(10, 10, wanted("stretch"))


def test_a_thumbnail_keeps_the_shape_and_never_grows() -> None:
    assert fit_within(4000, 3000, 256) == (256, 192)
    assert fit_within(100, 40, 256) == (100, 40)
    assert fit_within(5000, 3, 100) == (100, 1)


def test_sizes_at_the_limits_are_taken() -> None:
    check_size(100, 100, max_pixels=10_000, max_aspect_ratio=1)
    check_size(500, 10, max_pixels=5_000, max_aspect_ratio=50)


def test_too_many_pixels_are_refused_before_the_shape_is_looked_at() -> None:
    with pytest.raises(PictureTooLarge, match="60000 x 60000"):
        check_size(60_000, 60_000, max_pixels=50_000_000, max_aspect_ratio=50)


@pytest.mark.parametrize("size", [(30_000, 2), (2, 30_000)])
def test_a_ribbon_is_refused_in_either_direction(size: tuple[int, int]) -> None:
    with pytest.raises(PictureTooElongated):
        check_size(*size, max_pixels=50_000_000, max_aspect_ratio=50)
