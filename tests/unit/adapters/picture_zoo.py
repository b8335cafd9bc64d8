"""The zoo: hard pictures, made with PIL, NumPy and bytes, and what our policy makes of each; docs/pictures.md has the table.

PIL writes what it can; what it only reads (16-bit RGB, interlaced PNGs, YCCK JPEGs, BMPs with alpha) is put together here.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import Image, ImageCms
from PIL.Image import Transpose

from serve_app.errors import InvalidPicture, NotAPicture, PictureTooElongated, PictureTruncated, UnsupportedPicture
from tests.unit.adapters.openclip_pixels import opened

Array = npt.NDArray[Any]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
UPRIGHT = {
    1: lambda picture: picture,
    2: lambda picture: picture.transpose(Transpose.FLIP_LEFT_RIGHT),
    3: lambda picture: picture.rotate(180),
    4: lambda picture: picture.transpose(Transpose.FLIP_TOP_BOTTOM),
    5: lambda picture: picture.rotate(270, expand=True).transpose(Transpose.FLIP_LEFT_RIGHT),
    6: lambda picture: picture.rotate(270, expand=True),
    7: lambda picture: picture.rotate(90, expand=True).transpose(Transpose.FLIP_LEFT_RIGHT),
    8: lambda picture: picture.rotate(90, expand=True),
}


@dataclass(frozen=True)
class Kind:
    """One inhabitant. `seen`: what a person sees, where OpenCLIP sees another picture; None: OpenCLIP is right.

    `refused`: the error under our policy. `refused_always`: that under `exact: openclip` too. `openclip_fails`: OpenCLIP's own
    transform raises.
    """

    name: str
    data: bytes
    seen: Image.Image | None = None
    refused: type[InvalidPicture] | None = None
    refused_always: bool = False
    openclip_fails: bool = False


def zoo() -> list[Kind]:
    """Every kind of hard picture, each under its own name."""
    return [
        *turned(),
        *transparent(),
        *palettes(),
        *colour_models(),
        *deep(),
        *several_frames(),
        *layouts(),
        *shapes(),
        *broken(),
    ]


# --- the picture that they show, and files that PIL cannot write -----------------------------------------------------------


def noise(width: int, height: int, seed: int = 0, channels: int = 3) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def scene(width: int = 81, height: int = 60) -> Image.Image:
    """Smooth colours with a hard edge, different in every corner, of odd width."""
    across = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    values = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    values[5:20, 10:20] = (250, 5, 5)
    return Image.fromarray(values)


def alpha(width: int = 81, height: int = 60) -> Array:
    """Opaque, half and fully transparent parts."""
    return (np.linspace(-80, 335, width).clip(0, 255)[None, :].repeat(height, 0)).astype(np.uint8)


def saved(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def heic(picture: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    pillow_heif.from_pillow(picture).save(file, **options)
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    rows: bytes, size: tuple[int, int], *, bits: int, colour_type: int, interlaced: bool = False, before: bytes = b""
) -> bytes:
    """`rows`: each begins with a filter byte. `before`: chunks between the header and the pixels."""
    header = struct.pack(">IIBBBBB", *size, bits, colour_type, 0, 0, int(interlaced))
    return b"".join(
        [
            PNG_SIGNATURE,
            png_chunk(b"IHDR", header),
            before,
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        ]
    )


def sixteen_bit_png(values: Array, colour_type: int) -> bytes:
    """From uint16 [height, width, channels]."""
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
    return png(rows, (values.shape[1], values.shape[0]), bits=16, colour_type=colour_type)


def interlaced_png(values: Array) -> bytes:
    """Adam7, from uint8 [height, width, 3]."""
    passes = (values[top::down, left::across] for left, top, across, down in ADAM7)
    rows = b"".join(b"\x00" + row.tobytes() for part in passes for row in part if row.size)
    return png(rows, (values.shape[1], values.shape[0]), bits=8, colour_type=2, interlaced=True)


def tiff(data: bytes, size: tuple[int, int], *, bits: tuple[int, ...], photometric: int, **more_tags: int) -> bytes:
    """One uncompressed strip, little-endian. `more_tags`: tag_338=1 and the like, short values."""
    width, height = size
    tags: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (3, (width,)),
        257: (3, (height,)),
        258: (3, bits),
        259: (3, (1,)),
        262: (3, (photometric,)),
        273: (4, (0,)),  # where the strip begins: known below
        277: (3, (len(bits),)),
        278: (3, (height,)),
        279: (4, (len(data),)),
        **{int(name.removeprefix("tag_")): (3, (value,)) for name, value in more_tags.items()},
    }
    beyond = 8 + 2 + 12 * len(tags) + 4
    tags[273] = (4, (beyond + 2 * len(bits),))
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        entries += struct.pack("<HHI", tag, kind, len(values))
        entries += packed.ljust(4, b"\x00") if len(packed) <= 4 else struct.pack("<I", beyond)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\x00" + struct.pack("<I", 8) + directory + struct.pack(f"<{len(bits)}H", *bits) + data


def bmp_with_alpha(values: Array) -> bytes:
    """A bitmap with a V4 header and four masks, from uint8 [height, width, 4]."""
    height, width, _ = values.shape
    pixels = values[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = (
        struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks + bytes(52)
    )
    offset = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + pixels


def on_white(picture: Image.Image) -> Image.Image:
    """Composited by NumPy, not by PIL; nearest integer."""
    values = np.asarray(picture.convert("RGBA")).astype(np.float64)
    opacity = values[:, :, 3:] / 255
    return Image.fromarray(np.floor(values[:, :, :3] * opacity + 255 * (1 - opacity) + 0.5).astype(np.uint8))


# --- the kinds --------------------------------------------------------------------------------------------------------


def turned() -> Iterator[Kind]:
    for orientation in UPRIGHT:
        exif = Image.Exif()
        exif[0x0112] = orientation
        for file_format in ("JPEG", "PNG", "WEBP", "AVIF"):
            data = saved(scene(), file_format, exif=exif)
            seen = None if orientation == 1 else UPRIGHT[orientation](opened(data).convert("RGB"))
            yield Kind(f"{file_format} turned by EXIF {orientation}", data, seen)
        # PIL turns a TIFF, and libheif a HEIC, while it loads: OpenCLIP sees them upright.
        yield Kind(f"TIFF turned by EXIF {orientation}", saved(scene(), "TIFF", exif=exif))
        yield Kind(f"HEIC turned by EXIF {orientation}", heic(scene(), exif=exif.tobytes()))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = saved(scene())
    late = upright[:-12] + png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\x00\x00")) + upright[-12:]
    yield Kind("PNG with its EXIF behind the pixels", late, UPRIGHT[6](scene()))
    yield Kind("JPEG with a broken EXIF block", saved(scene(), "JPEG", exif=b"Exif\x00\x00XX*\x00 no header"))


def transparent() -> Iterator[Kind]:
    rgba = Image.fromarray(np.dstack([np.asarray(scene()), alpha()]))
    grey = Image.merge("LA", [scene().convert("L"), Image.fromarray(alpha())])
    hidden = Image.fromarray(np.dstack([noise(81, 60), np.zeros((60, 81), np.uint8)]))
    yield Kind("PNG, RGBA", saved(rgba), on_white(rgba))
    yield Kind("PNG, colours hidden under full transparency", saved(hidden), Image.new("RGB", (81, 60), "white"))
    yield Kind("PNG, grey with alpha", saved(grey), on_white(grey))
    yield Kind("WebP, RGBA", saved(rgba, "WEBP", lossless=True, exact=True), on_white(rgba))
    yield Kind("TIFF, RGBA", saved(rgba, "TIFF"), on_white(rgba))
    yield Kind("BMP with alpha", bmp_with_alpha(np.asarray(rgba)), on_white(rgba))
    for name, data in (("AVIF", saved(rgba, "AVIF")), ("HEIC", heic(rgba))):
        yield Kind(f"{name}, RGBA", data, on_white(opened(data)))
    premultiplied = tiff(rgba.convert("RGBa").tobytes(), rgba.size, bits=(8, 8, 8, 8), photometric=2, tag_338=1)
    yield Kind("TIFF, RGBA premultiplied", premultiplied, on_white(opened(premultiplied)))
    values = np.asarray(grey).astype(np.uint16)
    values[:, :, 0] = values[:, :, 0] * values[:, :, 1] // 255
    data = tiff(values.astype(np.uint8).tobytes(), grey.size, bits=(8, 8), photometric=1, tag_338=1)
    seen = on_white(opened(data).convert("LA"))
    yield Kind("TIFF, grey with alpha premultiplied", data, seen, openclip_fails=True)
    flat = Image.new("RGB", (40, 30), (10, 20, 30))
    flat.paste((200, 100, 0), (0, 0, 20, 30))
    keyed = flat.copy()
    keyed.paste((255, 255, 255), (20, 0, 40, 30))
    yield Kind("PNG, RGB with a transparent colour", saved(flat, transparency=(10, 20, 30)), keyed)
    flat, keyed = flat.convert("L"), flat.convert("L")
    key = flat.getpixel((30, 5))
    keyed.paste(255, (20, 0, 40, 30))
    yield Kind("PNG, grey with a transparent value", saved(flat, transparency=key), keyed.convert("RGB"))


def palettes() -> Iterator[Kind]:
    palette = scene().quantize(64)
    for file_format in ("PNG", "GIF", "BMP", "TIFF"):
        yield Kind(f"{file_format}, palette", saved(palette, file_format), palette.convert("RGB"))
    index = palette.getpixel((40, 50))
    keyed = palette.copy()
    keyed.info["transparency"] = index
    for file_format in ("PNG", "GIF"):
        data = saved(palette, file_format, transparency=index)
        yield Kind(f"{file_format}, palette with a transparent index", data, on_white(keyed))
    keyed.info["transparency"] = bytes(range(0, 256, 4))
    data = saved(palette, transparency=keyed.info["transparency"])
    yield Kind("PNG, palette with an alpha for each index", data, on_white(keyed))
    with_alpha = Image.merge("LA", [Image.fromarray(np.asarray(palette)), Image.fromarray(alpha())]).tobytes()
    colours = np.array(palette.getpalette("RGB"), np.uint16).reshape(-1, 3)
    colours = np.vstack([colours, np.zeros((256 - len(colours), 3), np.uint16)])
    picture = Image.frombytes("PA", palette.size, with_alpha)
    picture.putpalette(colours.astype(np.uint8).tobytes())
    yield Kind("TIFF, palette with alpha", saved(picture, "TIFF"), on_white(picture))
    one_bit = Image.fromarray(np.indices((90, 90)).sum(0) % 2 == 0)
    for file_format in ("PNG", "TIFF", "BMP"):
        yield Kind(f"{file_format}, one bit", saved(one_bit, file_format), one_bit.convert("RGB"))


def colour_models() -> Iterator[Kind]:
    inks = Image.frombytes("CMYK", (81, 60), noise(81, 60, channels=4).tobytes())
    cmyk = saved(inks, "JPEG", quality=95)
    marker = cmyk.index(b"\xff\xee")
    unmarked = cmyk[:marker] + cmyk[marker + 2 + int.from_bytes(cmyk[marker + 2 : marker + 4]) :]
    transform = cmyk.index(b"Adobe") + 11
    ycck = cmyk[:transform] + b"\x02" + cmyk[transform + 1 :]
    for name, data in (
        ("JPEG, CMYK", cmyk),
        ("JPEG, CMYK without Adobe's marker", unmarked),
        ("JPEG, YCCK", ycck),
        ("TIFF, CMYK", saved(inks, "TIFF")),
        ("TIFF, CIELAB", saved(Image.frombytes("LAB", (81, 60), noise(81, 60).tobytes()), "TIFF")),
    ):
        yield Kind(name, data, opened(data).convert("RGB"))
    yield Kind("JPEG, RGB without YCbCr", saved(scene(), "JPEG", keep_rgb=True))
    yield Kind("JPEG, grey", saved(scene().convert("L"), "JPEG"))
    yield Kind("PNG, grey of 2 bits", png((b"\x00" + b"\x1b" * 10) * 30, (40, 30), bits=2, colour_type=0))
    data = saved(scene().convert("YCbCr"), "TIFF")
    yield Kind("TIFF, YCbCr", data, opened(data).convert("RGB"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for file_format in ("PNG", "JPEG", "WEBP", "TIFF"):
        yield Kind(f"{file_format} with a colour profile", saved(scene(), file_format, icc_profile=profile))


def deep() -> Iterator[Kind]:
    values = np.random.default_rng(3).integers(0, 65536, (60, 81), dtype=np.uint16)
    high = Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    size = (81, 60)
    yield Kind("PNG, grey of 16 bits", saved(Image.fromarray(values)), high)
    yield Kind("TIFF, grey of 16 bits", saved(Image.fromarray(values), "TIFF"), high)
    big_endian = saved(Image.frombytes("I;16B", size, values.astype(">u2").tobytes()), "TIFF")
    yield Kind("TIFF, grey of 16 bits, big-endian", big_endian, high)
    inverted = tiff((65535 - values).astype("<u2").tobytes(), size, bits=(16,), photometric=0)
    yield Kind("TIFF, grey of 16 bits, 0 is white", inverted, high)
    pairs = (values[:, :80] >> 4).reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    twelve = tiff(packed.astype(np.uint8).tobytes(), (80, 60), bits=(12,), photometric=1)
    yield Kind("TIFF, grey of 12 bits", twelve, high.crop((0, 0, 80, 60)))
    rgb = np.random.default_rng(4).integers(0, 65536, (60, 81, 3), dtype=np.uint16)
    yield Kind("PNG, RGB of 16 bits", sixteen_bit_png(rgb, colour_type=2))
    yield Kind("TIFF, RGB of 16 bits", tiff(rgb.astype("<u2").tobytes(), size, bits=(16, 16, 16), photometric=2))
    rgba = np.dstack([rgb, alpha().astype(np.uint16) << 8])
    seen = on_white(Image.fromarray((rgba >> 8).astype(np.uint8)))
    yield Kind("PNG, RGBA of 16 bits", sixteen_bit_png(rgba, colour_type=6), seen)
    signed = tiff((values >> 1).astype("<i2").tobytes(), size, bits=(16,), photometric=1, tag_339=2)
    yield Kind("TIFF, signed values of 16 bits", signed, refused=UnsupportedPicture)
    real = Image.fromarray(np.linspace(0, 255, 81 * 60, dtype=np.float32).reshape(60, 81))
    yield Kind("TIFF, real values", saved(real, "TIFF"), refused=UnsupportedPicture)
    whole = Image.fromarray(np.arange(81 * 60, dtype=np.int32).reshape(60, 81))
    yield Kind("TIFF, 32-bit integers", saved(whole, "TIFF"), refused=UnsupportedPicture)


def several_frames() -> Iterator[Kind]:
    first, second = Image.fromarray(noise(64, 48, 1)), Image.fromarray(noise(64, 48, 2))
    for file_format, options in (
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("AVIF", {}),
        ("MPO", {}),
    ):
        yield Kind(
            f"{file_format}, several frames",
            saved(first, file_format, save_all=True, append_images=[second], **options),
        )
    palette = first.quantize(32)
    animation = saved(palette, "GIF", save_all=True, append_images=[second.quantize(32)])
    yield Kind("GIF, several frames", animation, palette.convert("RGB"))


def layouts() -> Iterator[Kind]:
    yield Kind("JPEG, progressive", saved(scene(), "JPEG", progressive=True, quality=40))
    yield Kind("JPEG with bytes behind its end", saved(scene(), "JPEG") + b"and more" * 20)
    yield Kind("PNG, interlaced", interlaced_png(np.asarray(scene())))
    yield Kind("TIFF, compressed", saved(scene(), "TIFF", compression="tiff_lzw"))
    yield Kind("AVIF", saved(scene(), "AVIF"))
    yield Kind("HEIC", heic(scene()))


def shapes() -> Iterator[Kind]:
    for size in ((1, 1), (1, 40), (3, 2), (500, 11)):
        yield Kind(f"PNG of {size[0]} x {size[1]}", saved(Image.fromarray(noise(*size))))
    yield Kind("JPEG of 10000 x 200", saved(scene(10_000, 200), "JPEG"))
    ribbon = saved(Image.new("RGB", (10_000, 20)), "JPEG")
    yield Kind("JPEG of 10000 x 20", ribbon, refused=PictureTooElongated, refused_always=True)


def broken() -> Iterator[Kind]:
    yield Kind("empty file", b"", refused=NotAPicture, refused_always=True)
    yield Kind("text", b"no picture at all", refused=NotAPicture, refused_always=True)
    no_frames = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";"
    yield Kind("GIF without frames", no_frames, refused=InvalidPicture, refused_always=True)
    sound = {
        "JPEG": saved(scene(), "JPEG"),
        "progressive JPEG": saved(scene(), "JPEG", progressive=True),
        "PNG": saved(Image.fromarray(noise(81, 60))),
        "WebP": saved(scene(), "WEBP"),
        "AVIF": saved(scene(), "AVIF"),
        "HEIC": heic(scene()),
    }
    for name, data in sound.items():
        yield Kind(f"{name}, truncated", data[: len(data) // 2], refused=PictureTruncated, refused_always=True)
