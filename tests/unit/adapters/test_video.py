"""Videos become frames: which ones, as what, and what is refused. Real files throughout, hostile ones among them."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

from serve_app.adapters.video import VideoLimits, VideoReader
from serve_app.errors import (
    CrossmodalError,
    InvalidVideo,
    NotAVideo,
    UnsupportedVideo,
    VideoTooLarge,
    VideoTooLong,
    VideoTruncated,
)
from serve_app.types import FramePolicy, VideoFrame
from tests.unit.adapters.video_zoo import BLUE, GREEN, RED, YELLOW, plain, scenes, sound, video

LIMITS = VideoLimits(max_decode_s=30)
CUT = scenes()  # six seconds
EACH_SECOND = FramePolicy(1.0)


def frames_of(data: bytes, policy: FramePolicy = EACH_SECOND, limits: VideoLimits = LIMITS) -> list[VideoFrame]:
    return list(VideoReader(limits).frames(BytesIO(data), policy))


def offsets(frames: list[VideoFrame]) -> list[float]:
    return [frame.offset_s for frame in frames]


def shows(frame: VideoFrame, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(frame.pixels.reshape(-1, 3).mean(axis=0) - colour).max() < 12)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("mp4", "libx265"),
        ("mp4", "libsvtav1"),
        ("mov", "prores"),
        ("webm", "libvpx-vp9"),
        ("webm", "libvpx"),
        ("matroska", "mpeg4"),
        ("avi", "mjpeg"),
        ("mpegts", "mpeg2video"),
        ("flv", "flv"),
    ],
)
def test_every_common_container_and_codec_gives_the_same_moments(container: str, codec: str) -> None:
    pix_fmt = {"prores": "yuv422p10le", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    quiet = {"x265-params": "log-level=none"}
    frames = frames_of(
        video(CUT, container, codec, pix_fmt, prepare=lambda stream: stream.codec_context.options.update(quiet))
        if codec == "libx265"
        else video(CUT, container, codec, pix_fmt)
    )
    assert offsets(frames) == pytest.approx([0, 1, 2, 3, 4, 5], abs=0.11)
    assert [shows(frame, colour) for frame, colour in zip(frames, [RED, RED, GREEN, GREEN, BLUE, BLUE], strict=True)]


def test_a_frame_is_taken_every_so_many_seconds() -> None:
    data = video(CUT)
    assert offsets(frames_of(data, FramePolicy(2.0))) == [0.0, 2.0, 4.0]
    assert offsets(frames_of(data, FramePolicy(0.5))) == [0.5 * step for step in range(12)]
    assert offsets(frames_of(data, FramePolicy(60.0))) == [0.0]


def test_one_frame_is_taken_of_each_scene() -> None:
    frames = frames_of(video(scenes((RED, GREEN, BLUE, YELLOW))), FramePolicy(None))
    assert offsets(frames) == pytest.approx([0, 2, 4, 6], abs=0.41)
    assert all(shows(frame, colour) for frame, colour in zip(frames, (RED, GREEN, BLUE, YELLOW), strict=True))


def test_a_dissolve_counts_once_and_when_it_is_over() -> None:
    between = [plain([int(r + (b - r) * step / 15) for r, b in zip(RED, BLUE, strict=True)]) for step in range(15)]
    frames = frames_of(video([*scenes((RED,)), *between, *scenes((BLUE,))]), FramePolicy(None))
    assert len(frames) == 2
    assert shows(frames[1], BLUE)


def test_what_never_settles_is_still_looked_at() -> None:
    storm = [plain([step * 37 % 255, step * 91 % 255, step * 53 % 255]) for step in range(60)]
    assert 2 <= len(frames_of(video(storm), FramePolicy(None))) <= 8


def test_a_frame_is_no_larger_than_wanted_and_keeps_its_shape() -> None:
    (frame,) = frames_of(video(scenes((RED,), 0.5, width=1280, height=640)), limits=replace(LIMITS, frame_px=320))
    assert frame.pixels.shape == (160, 320, 3)
    assert frame.pixels.dtype == np.uint8


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_a_video_that_was_filmed_sideways_stands_upright(turn: int) -> None:
    picture = plain(BLUE)
    picture[:30, :40] = RED  # the corner that is top left before it is turned
    data = video([picture] * 10, prepare=lambda stream: stream.set_display_rotation(turn))
    (frame,) = frames_of(data)
    upright = np.rot90(picture, turn // 90)
    assert frame.pixels.shape == upright.shape
    assert np.abs(frame.pixels.astype(int) - upright).mean() < 8


def test_pixels_that_are_not_square_are_stretched() -> None:
    def wide(stream: object) -> None:
        stream.codec_context.sample_aspect_ratio = 2  # type: ignore[attr-defined]

    (frame,) = frames_of(video([plain(RED)] * 10, prepare=wide))
    assert frame.pixels.shape == (120, 320, 3)


def test_frames_of_no_regular_rate_are_taken_at_their_own_moments() -> None:
    # Half a second of pictures, then one that stands for five seconds, then pictures again.
    data = video(
        [plain(RED)] * 5 + [plain(GREEN)] * 5, "matroska", pts=lambda place: place if place < 5 else place + 50
    )
    frames = frames_of(data)
    assert offsets(frames) == [0.0, 5.5]
    assert shows(frames[1], GREEN)


def test_ten_bits_and_a_wide_range_become_eight() -> None:
    def wide_range(stream: object) -> None:
        context = stream.codec_context  # type: ignore[attr-defined]
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9  # BT.2020, PQ

    frames = frames_of(video(CUT, "mp4", "libx264", "yuv420p10le", prepare=wide_range))
    assert len(frames) == 6
    assert frames[0].pixels.dtype == np.uint8


# --- what is wrong --------------------------------------------------------------------------------------------------


def test_a_clock_that_does_not_begin_at_nothing_is_read_from_its_beginning() -> None:
    data = video(CUT, "matroska", pts=lambda place: place + 1_000_000)
    assert offsets(frames_of(data)) == pytest.approx([0, 1, 2, 3, 4, 5], abs=0.01)


def test_a_clock_that_leaps_is_set_right() -> None:
    data = video(CUT, "matroska", pts=lambda place: place if place < 30 else place + 100_000)
    assert offsets(frames_of(data)) == pytest.approx([0, 1, 2, 3, 4, 5], abs=0.2)


def test_a_clock_that_leaps_beyond_every_bound_is_too_long() -> None:
    with pytest.raises(VideoTooLong):
        frames_of(video(CUT, "matroska", pts=lambda place: place if place < 30 else place + 10_000_000))


def test_a_video_whose_frames_all_claim_one_moment_is_read_by_its_rate() -> None:
    data = video(CUT, "avi", "mjpeg", "yuvj420p")
    frames = frames_of(data)
    assert offsets(frames) == pytest.approx([0, 1, 2, 3, 4, 5], abs=0.11)


def faststart(frames: list[np.ndarray] = CUT) -> bytes:
    return video(frames, options={"movflags": "faststart"})


NOISE = [np.random.default_rng(step).integers(0, 255, (120, 160, 3), np.uint8) for step in range(60)]
HOSTILE: dict[str, tuple[Callable[[], bytes], type[InvalidVideo]]] = {
    "nothing": (lambda: b"", NotAVideo),
    "a text": (lambda: b"this is not a video at all" * 100, NotAVideo),
    "a playlist": (lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", UnsupportedVideo),
    "a list for concat": (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", NotAVideo),
    "without its end": (lambda: video(CUT)[:-600], InvalidVideo),
    "cut in the midst": (lambda: faststart(NOISE)[: len(faststart(NOISE)) // 2], VideoTruncated),
    "a head alone": (lambda: video(CUT)[:64], InvalidVideo),
    "random after the head": (lambda: video(CUT)[:40] + np.random.default_rng(0).bytes(5000), InvalidVideo),
    "webm of nothing": (lambda: b"\x1a\x45\xdf\xa3" + bytes(200), InvalidVideo),
    "sound alone": (lambda: sound(), NotAVideo),
    "sound alone in matroska": (lambda: sound("matroska"), NotAVideo),
    "a codec that nobody needs": (lambda: video(CUT, "matroska", "ffv1"), UnsupportedVideo),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_has_a_clear_error(name: str) -> None:
    made, error = HOSTILE[name]
    data = made()
    with pytest.raises(error) as raised:
        frames_of(data)
    assert "/" not in raised.value.message


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"max_bytes": 100}, VideoTooLarge),
        ({"max_pixels": 160 * 120 - 1}, VideoTooLarge),
        ({"max_aspect_ratio": 1.2}, VideoTooLarge),
        ({"max_seconds": 3.0}, VideoTooLong),
        ({"max_frames": 5}, VideoTooLong),
        ({"max_decode_s": 0.0}, VideoTooLong),
    ],
)
def test_every_bound_holds(limits: dict[str, float], error: type[CrossmodalError]) -> None:
    with pytest.raises(error):
        frames_of(video(CUT), limits=replace(LIMITS, **limits))  # type: ignore[arg-type]


def test_frames_of_a_line_are_refused_before_they_are_decoded() -> None:
    data = video([plain(RED, 30_000, 2)], "matroska", "mjpeg", "yuvj420p")
    with pytest.raises(VideoTooLarge, match="30000 x 2"):
        frames_of(data)


def test_scratches_are_passed_over() -> None:
    data = bytearray(faststart(NOISE))
    at = len(data) // 2
    data[at : at + 400] = bytes(400)
    assert len(frames_of(bytes(data))) >= 5


def test_no_byte_that_is_wrong_is_more_than_an_error() -> None:
    """Every thirtieth byte flipped in turn: frames, or an error of ours."""
    data = video([plain(RED)] * 5, "matroska", "mpeg4")
    for at in range(0, len(data), 30):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        with suppress(InvalidVideo):
            frames_of(bytes(broken))
