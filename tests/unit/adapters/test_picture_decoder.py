"""Pixels are those of OpenCLIP's own transform, or follow our policy where it is wrong; hostile files cost little."""

import contextlib
import random
import threading
import time
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.adapters.picture_decoder.drafting import draft
from serve_app.adapters.picture_decoder.formats import open_picture
from serve_app.errors import (
    CrossmodalError,
    InvalidPicture,
    NotAPicture,
    PictureTooElongated,
    PictureTooLarge,
    PictureTruncated,
    UnsupportedPicture,
)
from serve_app.types import Pixels
from tests.unit.adapters.openclip_pixels import opened, reference, wanted
from tests.unit.adapters.picture_zoo import heic, png, png_chunk, saved, sixteen_bit_png

DECODER = PictureDecoder(max_bytes=5_000_000, max_pixels=50_000_000, max_aspect_ratio=50)
OPENCLIP = PictureDecoder(max_bytes=5_000_000, max_pixels=50_000_000, max_aspect_ratio=50, exact="openclip")
FAST = PictureDecoder(max_bytes=5_000_000, max_pixels=50_000_000, max_aspect_ratio=50, decode="fast")
SIZES = [(200, 133), (133, 200), (64, 64), (40, 63), (31, 30), (1, 1), (500, 11), (97, 96), (66, 64)]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def gradient(width: int = 80, height: int = 60) -> Image.Image:
    across = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([across, down, 255 - across], axis=-1).astype(np.uint8))


# --- equal to OpenCLIP ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_bit_equal_to_openclips(resize_mode: str, interpolation: str, size: tuple[int, int]) -> None:
    preprocessing = wanted(resize_mode, interpolation, fill_color=127)
    picture = noise(*size)
    assert np.array_equal(DECODER.to_pixels(saved(picture), preprocessing), reference(picture, preprocessing))


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_bit_equal_for_an_encoder_that_is_not_square(resize_mode: str, size: tuple[int, int]) -> None:
    preprocessing = wanted(resize_mode, "bilinear", height=48, width=80, fill_color=9)
    picture = noise(*size, seed=1)
    assert np.array_equal(DECODER.to_pixels(saved(picture), preprocessing), reference(picture, preprocessing))


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size_px", [224, 256, 336, 378, 384, 448])
def test_pixels_are_bit_equal_at_the_sizes_of_real_encoders(resize_mode: str, size_px: int) -> None:
    preprocessing = wanted(resize_mode, height=size_px, width=size_px)
    picture = noise(500, 375, seed=size_px)
    assert np.array_equal(DECODER.to_pixels(saved(picture, "BMP"), preprocessing), reference(picture, preprocessing))


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "quality": 40}),
        ("WEBP", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {}),
    ],
)
def test_every_format_gives_the_reference_pixels(file_format: str, options: dict[str, Any]) -> None:
    data = saved(gradient(), file_format, **options)
    expected = reference(opened(data), wanted())
    assert np.array_equal(DECODER.to_pixels(data, wanted()), expected)


def test_a_grey_jpeg_gives_the_reference_pixels() -> None:
    data = saved(gradient().convert("L"), "JPEG")
    assert np.array_equal(DECODER.to_pixels(data, wanted()), reference(opened(data), wanted()))


def test_a_colour_profile_changes_nothing_as_in_openclip() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    data = saved(gradient(), "PNG", icc_profile=profile)
    assert np.array_equal(DECODER.to_pixels(data, wanted()), reference(gradient(), wanted()))


# --- our policy, where OpenCLIP is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_is_turned_by_its_exif(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(gradient(), file_format, exif=exif)
    turned = ImageOps.exif_transpose(opened(data))
    assert np.array_equal(DECODER.to_pixels(data, wanted()), reference(turned, wanted()))
    upright = reference(gradient(), wanted()).astype(int)
    difference = np.abs(DECODER.to_pixels(data, wanted()).astype(int) - upright).mean()
    assert (difference < 3) == (orientation == 1)


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    data = saved(gradient(), "JPEG", exif=b"Exif\x00\x00XX*\x00 no TIFF header at all")
    assert DECODER.to_pixels(data, wanted()).shape == (64, 64, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white_and_hidden_colours_do_not_show(mode: str) -> None:
    picture = Image.new(mode, (50, 50), (200, 0, 0, 0) if mode == "RGBA" else (20, 0))
    assert (DECODER.to_pixels(saved(picture), wanted()) == 255).all()


def test_half_transparent_black_on_white_is_grey() -> None:
    pixels = DECODER.to_pixels(saved(Image.new("RGBA", (50, 50), (0, 0, 0, 128))), wanted())
    assert (pixels == 127).all()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_transparent_colour_of_a_png_without_alpha_lies_on_white(mode: str) -> None:
    key: Any = (10, 20, 30) if mode == "RGB" else 10
    data = saved(Image.new(mode, (50, 50), key), "PNG", transparency=key)
    assert (DECODER.to_pixels(data, wanted()) == 255).all()


def test_a_palette_becomes_colours_before_the_resize() -> None:
    palette = gradient(200, 150).quantize(64)
    assert np.array_equal(DECODER.to_pixels(saved(palette), wanted()), reference(palette.convert("RGB"), wanted()))


def test_a_transparent_palette_entry_lies_on_white() -> None:
    picture = Image.new("P", (50, 50), 3)
    picture.putpalette([0, 0, 0] * 4)
    assert (DECODER.to_pixels(saved(picture, "PNG", transparency=3), wanted()) == 255).all()
    assert (DECODER.to_pixels(saved(picture, "GIF", transparency=3), wanted()) == 255).all()


def test_one_bit_pictures_become_greys_before_the_resize() -> None:
    picture = Image.fromarray(np.indices((90, 90)).sum(0) % 2 == 0)
    assert picture.mode == "1"
    pixels = DECODER.to_pixels(saved(picture), wanted())
    assert np.array_equal(pixels, reference(picture.convert("RGB"), wanted()))
    assert len(np.unique(pixels)) > 2


def test_a_cmyk_jpeg_becomes_rgb_before_the_resize() -> None:
    data = saved(gradient().convert("CMYK"), "JPEG", quality=95)
    expected = reference(opened(data).convert("RGB"), wanted())
    assert np.array_equal(DECODER.to_pixels(data, wanted()), expected)


def test_sixteen_bit_greys_are_scaled_not_saturated() -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = DECODER.to_pixels(saved(Image.fromarray(values)), wanted())
    assert np.array_equal(pixels[:, :, 0], (values >> 8).astype(np.uint8))


def test_sixteen_bit_grey_and_sixteen_bit_rgb_agree() -> None:
    values = np.random.default_rng(3).integers(0, 65536, (64, 64), dtype=np.uint16)
    as_grey = DECODER.to_pixels(saved(Image.fromarray(values)), wanted())
    as_rgb = DECODER.to_pixels(sixteen_bit_png(values[:, :, None].repeat(3, 2), colour_type=2), wanted())
    assert np.array_equal(as_grey, as_rgb)


def test_of_an_animation_the_first_frame_counts() -> None:
    first, second = noise(64, 64, seed=1), noise(64, 64, seed=2)
    for file_format in ("WEBP", "PNG"):
        data = saved(first, file_format, save_all=True, append_images=[second], lossless=True)
        assert np.array_equal(DECODER.to_pixels(data, wanted()), np.asarray(first)), file_format
    palette = first.quantize(32)
    animation = saved(palette, "GIF", save_all=True, append_images=[second.quantize(32)])
    assert np.array_equal(DECODER.to_pixels(animation, wanted()), np.asarray(palette.convert("RGB")))


def test_floating_point_pictures_are_refused() -> None:
    with pytest.raises(UnsupportedPicture, match="32-bit"):
        DECODER.to_pixels(saved(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), wanted())


# --- fast decoding ----------------------------------------------------------------------------------------------------


def test_a_jpeg_that_is_not_much_larger_than_the_encoder_wants_is_decoded_exactly() -> None:
    data = saved(noise(255, 200), "JPEG")
    assert np.array_equal(FAST.to_pixels(data, wanted()), DECODER.to_pixels(data, wanted()))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_fast_decoding_leaves_other_formats_alone(file_format: str) -> None:
    data = saved(gradient(640, 480), file_format)
    assert np.array_equal(FAST.to_pixels(data, wanted()), DECODER.to_pixels(data, wanted()))


def test_exact_to_openclip_wins_over_fast_decoding() -> None:
    data = saved(gradient(1001, 667), "JPEG")
    both = PictureDecoder(5_000_000, 50_000_000, 50, exact="openclip", decode="fast")
    assert np.array_equal(both.to_pixels(data, wanted()), OPENCLIP.to_pixels(data, wanted()))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_fast_decoding_changes_little_and_cuts_the_same_part(resize_mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(gradient(1001, 667), "JPEG", exif=exif, quality=95)
    preprocessing = wanted(resize_mode, height=48, width=80)
    fast, exact = FAST.to_pixels(data, preprocessing).astype(int), DECODER.to_pixels(data, preprocessing).astype(int)
    assert not np.array_equal(fast, exact)
    assert np.abs(fast - exact).max() <= 4


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(64, 64), (255, 257), (600, 31), (1000, 700), (1001, 1999), (33, 1600)])
def test_a_fast_decoding_leaves_two_pixels_for_each_of_the_encoders(
    resize_mode: str, orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = open_picture(saved(Image.new("RGB", size), "JPEG", exif=exif))
    drafted = draft(file, wanted(resize_mode, height=48, width=80))
    if drafted is None:
        assert file.size == size
        return
    for decoded, resized in zip(file.size, drafted[0].size, strict=True):
        assert decoded >= 2 * resized


# --- hostile and broken files -----------------------------------------------------------------------------------------


def png_that_claims(width: int, height: int) -> bytes:
    """A whole PNG file of a few bytes whose header promises any size."""
    return png(bytes(9), (width, height), bits=8, colour_type=2)


@pytest.mark.parametrize(
    ("size", "error"),
    [((60_000, 60_000), PictureTooLarge), ((10_000, 6_000), PictureTooLarge), ((30_000, 2), PictureTooElongated)],
)
def test_a_size_beyond_the_limits_is_refused_from_the_header(
    size: tuple[int, int], error: type[CrossmodalError]
) -> None:
    begin = time.monotonic()
    with pytest.raises(error):
        DECODER.to_pixels(png_that_claims(*size), wanted())
    with pytest.raises(error):
        DECODER.to_thumbnail(png_that_claims(*size), 64)
    assert time.monotonic() - begin < 1


def test_limits_above_pils_own_hold_without_a_warning_or_a_global() -> None:
    before = Image.MAX_IMAGE_PIXELS
    generous = PictureDecoder(max_bytes=10_000, max_pixels=400_000_000, max_aspect_ratio=50)
    # Warnings are errors in this suite: PIL's own check would warn of 120 million pixels.
    with pytest.raises(PictureTruncated):
        generous.to_pixels(png_that_claims(12_000, 10_000)[:60], wanted())
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_file_with_too_many_bytes_is_refused_unread() -> None:
    with pytest.raises(PictureTooLarge, match="5000001 bytes"):
        DECODER.to_pixels(bytes(5_000_001), wanted())


@pytest.mark.parametrize("data", [b"", b"hello, this is a text", b"\x00" * 100, b"%PDF-1.7", b"<html></html>"])
def test_what_is_no_picture_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(NotAPicture):
        DECODER.to_pixels(data, wanted())
    with pytest.raises(NotAPicture):
        DECODER.media_type(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(99), "image/jp2"),
        (b"8BPS" + bytes(99), "photoshop"),
        (b"<svg>", "svg"),
    ],
)
def test_a_picture_of_another_format_is_named_and_refused(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedPicture, match=name):
        DECODER.to_pixels(data, wanted())


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(file_format: str, share: float) -> None:
    data = saved(noise(90, 70), file_format)
    with pytest.raises(InvalidPicture) as caught:
        DECODER.to_pixels(data[: int(len(data) * share)], wanted())
    if file_format in ("JPEG", "PNG", "WEBP"):
        assert isinstance(caught.value, PictureTruncated)


def test_a_progressive_jpeg_cut_in_the_middle_is_truncated() -> None:
    data = saved(noise(200, 200), "JPEG", progressive=True)
    with pytest.raises(PictureTruncated):
        DECODER.to_pixels(data[: len(data) // 2], wanted())


def test_a_png_whose_text_unpacks_to_a_hundred_megabytes_costs_nothing() -> None:
    bomb = png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(100_000_000), 9))
    whole = saved(noise(9, 9))
    begin = time.monotonic()
    with pytest.raises(InvalidPicture):
        DECODER.to_pixels(whole[:33] + bomb + whole[33:], wanted())
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIC", "MPO"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_give_a_picture_or_an_error_of_ours(file_format: str) -> None:
    sound = heic(noise(24, 18)) if file_format == "HEIC" else saved(noise(24, 18), file_format)
    chance = random.Random(7)
    for attempt in range(300):
        decoder = (DECODER, OPENCLIP, FAST)[attempt % 3]
        damaged = bytearray(sound)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        if chance.random() < 0.3:
            del damaged[chance.randrange(len(damaged)) :]
        with contextlib.suppress(InvalidPicture):
            assert decoder.to_pixels(bytes(damaged), wanted()).shape == (64, 64, 3)


# --- thumbnails, types, threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_thumbnail_is_a_jpeg_of_the_same_shape(file_format: str) -> None:
    data = DECODER.to_thumbnail(saved(gradient(800, 600), file_format), 128)
    thumbnail = opened(data)
    assert thumbnail.format == "JPEG"
    assert thumbnail.size == (128, 96)
    expected = np.asarray(gradient(800, 600).resize((128, 96), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(np.asarray(thumbnail).astype(int) - expected).mean() < 4


def test_a_thumbnail_of_a_small_picture_does_not_grow() -> None:
    assert Image.open(BytesIO(DECODER.to_thumbnail(saved(gradient(40, 30)), 128))).size == (40, 30)


def test_a_thumbnail_of_a_turned_jpeg_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(gradient(800, 400), "JPEG", exif=exif)
    assert Image.open(BytesIO(DECODER.to_thumbnail(data, 100))).size == (50, 100)


def test_a_thumbnail_carries_no_metadata_of_the_picture() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "somebody")
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    thumbnail = DECODER.to_thumbnail(saved(gradient(), "PNG", exif=exif, pnginfo=info), 64)
    assert b"somebody" not in thumbnail
    assert b"where I live" not in thumbnail


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_the_media_type_is_read_from_the_first_bytes(file_format: str) -> None:
    assert DECODER.media_type(saved(noise(9, 9), file_format)[:32]) == f"image/{file_format.lower()}"


@pytest.mark.parametrize(
    ("brands", "media_type"),
    [
        (b"heic" + bytes(4) + b"mif1heic", "image/heic"),
        (b"mif1" + bytes(4) + b"mif1heix", "image/heic"),
        (b"mif1" + bytes(4) + b"mif1avif", "image/avif"),
        (b"avis" + bytes(4) + b"msf1", "image/avif"),
    ],
)
def test_heic_and_avif_are_told_apart_by_all_the_brands_of_their_container(brands: bytes, media_type: str) -> None:
    box = (8 + len(brands)).to_bytes(4) + b"ftyp" + brands
    assert DECODER.media_type(box + b"avif after the box") == media_type


@pytest.mark.parametrize("brands", [b"isom" + bytes(4) + b"mp42", b"qt  " + bytes(4), b"mp42" + b"heic"])
def test_a_film_is_no_picture(brands: bytes) -> None:
    with pytest.raises(NotAPicture):
        DECODER.media_type((8 + len(brands)).to_bytes(4) + b"ftyp" + brands)


def test_a_heic_is_read_with_nothing_registered_for_the_whole_process() -> None:
    data = heic(gradient(640, 480))
    assert Image.open(BytesIO(DECODER.to_thumbnail(data, 128))).size == (128, 96)
    assert np.array_equal(DECODER.to_pixels(data, wanted()), reference(opened(data), wanted()))
    assert "HEIF" not in Image.OPEN


def test_one_decoder_serves_several_threads() -> None:
    files = [saved(noise(100, 90, seed), "JPEG") for seed in range(8)]
    alone = [DECODER.to_pixels(data, wanted()) for data in files]
    together: dict[int, Pixels] = {}

    def decode(index: int) -> None:
        together[index] = DECODER.to_pixels(files[index], wanted())

    threads = [threading.Thread(target=decode, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[index], together[index]) for index in range(8))
