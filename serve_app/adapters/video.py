"""Frames of video files, with PyAV. Knows nothing of models, storage or tables; a file is whatever can be read and sought.

A video comes from strangers. So the container is told by its first bytes and never guessed by FFmpeg, which would take a
playlist for a video and open what it names; nothing but the given file can be opened; only common codecs run; and bytes, pixels,
seconds and frames are bounded before they cost. Damage in the midst of a file is skipped, as players do.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any, NoReturn

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from serve_app.core.geometry import fit_within
from serve_app.core.scene_changes import GRID, LOOK_EVERY_S, SceneFinder
from serve_app.errors import (
    InvalidVideo,
    NotAVideo,
    UnsupportedVideo,
    VideoTooLarge,
    VideoTooLong,
    VideoTruncated,
)
from serve_app.types import FramePolicy, Pixels, VideoFrame

SIGNATURE_BYTES = 4096
# The demuxers of FFmpeg that are used, by what their files begin with.
CODECS = frozenset(
    {
        *("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9", "mpeg4", "mpeg2video", "mpeg1video"),
        *("msmpeg4v3", "h263", "flv", "mjpeg", "theora", "prores", "dvvideo"),
    }
)
PROBE_OPTIONS = {
    "protocol_whitelist": "none",
    "codec_whitelist": ",".join(sorted(CODECS)),
    "probesize": "5000000",
    "analyzeduration": "5000000",
}
# Packets that cannot be decoded, before a file counts as damaged rather than scratched.
MAX_BROKEN_PACKETS = 200
# Clocks that stand still, run back or leap are set right by the rate of the frames.
MAX_LEAP_S = 600.0
# A file that ends so much before its own header says was cut off.
MISSING_S, MISSING_SHARE = 2.0, 0.05


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """Bounds of one video. `frame_px`: the longer side of a frame that is given out. `threads`: of its decoder."""

    max_bytes: int = 2_000_000_000
    max_pixels: int = 50_000_000
    max_aspect_ratio: float = 50.0
    max_seconds: float = 14_400.0
    max_frames: int = 3_600
    max_decode_s: float = 1_800.0
    frame_px: int = 640
    threads: int = 1


class VideoReader:
    """Implements ports.VideoDecoding. Holds limits only, so one reader may serve several threads."""

    def __init__(self, limits: VideoLimits) -> None:
        self._limits = limits

    def frames(self, file: IO[bytes], policy: FramePolicy) -> Iterator[VideoFrame]:
        """The frames that the policy takes, in order, decoded as they are asked for.

        Raises InvalidVideo and its children, also after frames that were fine: a video is whole or not at all.
        """
        with _translated(), _opened(file, self._limits.max_bytes) as container:
            yield from _Walk(container, _stream_of(container), policy, self._limits).frames()


class _Walk:
    """One pass over one video."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, policy: FramePolicy, limits: VideoLimits
    ) -> None:
        self._container = container
        self._stream = stream
        self._policy = policy
        self._limits = limits
        self._deadline = time.monotonic() + limits.max_decode_s
        self._next_s = 0.0
        self._scenes = SceneFinder()
        # One for each size: to set one up costs nine times what a small copy does.
        self._small, self._large = VideoReformatter(), VideoReformatter()
        self._taken = 0
        self._last_s: float | None = None

    def frames(self) -> Iterator[VideoFrame]:
        self._check_before()
        offset_s = 0.0
        for frame in self._decoded():
            offset_s = self._clock(frame)
            if offset_s > self._limits.max_seconds:
                self._too_long()
            if self._wants(offset_s, frame):
                self._taken += 1
                if self._taken > self._limits.max_frames:
                    raise VideoTooLong(
                        f"more than {self._limits.max_frames} frames of the video are wanted; take fewer, by a larger every_s"
                    )
                yield VideoFrame(round(offset_s, 3), self._pixels_of(frame))
        self._check_after(offset_s)

    def _wants(self, offset_s: float, frame: av.VideoFrame) -> bool:
        if offset_s < self._next_s:
            return False
        if self._policy.every_s is None:
            self._next_s = offset_s + LOOK_EVERY_S - 1e-3
            return self._scenes.begins(offset_s, _rgb(self._small, frame, GRID, GRID))
        # The next of the regular moments, whatever the frames' own: a slow video does not make up for what it skipped.
        every_s = self._policy.every_s
        self._next_s = (int((offset_s + 1e-6) / every_s) + 1) * every_s - 1e-6
        return True

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """What can be decoded; its size is checked each time, since it may change in the midst."""
        broken = decoded = 0
        for packet in self._packets():
            if time.monotonic() > self._deadline:
                raise VideoTooLong(f"the video takes longer than {self._limits.max_decode_s:g} seconds to decode")
            try:
                for frame in packet.decode():
                    if not isinstance(frame, av.VideoFrame) or frame.is_corrupt:
                        continue
                    self._check_size(frame.width, frame.height)
                    decoded += 1
                    yield frame
            except av.error.InvalidDataError as error:
                broken += 1
                if broken > MAX_BROKEN_PACKETS and broken > decoded:
                    raise InvalidVideo("the video file is damaged: most of it cannot be decoded") from error
        if not decoded:
            raise InvalidVideo("no picture of the video can be decoded")

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._stream)
        except av.error.InvalidDataError as error:
            raise VideoTruncated("the file of the video breaks off or is damaged from some point on") from error

    def _clock(self, frame: av.VideoFrame) -> float:
        """When a frame is shown, from the beginning, in seconds; always later than the frame before."""
        rate = self._stream.guessed_rate or self._stream.average_rate
        step_s = 1.0 / float(rate) if rate and 1 <= rate <= 1000 else 0.04
        last_s = self._last_s
        told_s = (
            None if frame.pts is None or not frame.time_base else float(frame.pts * frame.time_base) - self._start_s
        )
        if told_s is not None and (0.0 if last_s is None else last_s + 1e-4) <= told_s <= (last_s or 0.0) + MAX_LEAP_S:
            now_s = told_s
        else:
            now_s = 0.0 if last_s is None else last_s + step_s
        self._last_s = now_s
        return now_s

    @property
    def _start_s(self) -> float:
        """Of the file: what players call its second 0."""
        started = self._container.start_time
        return started / av.time_base if started is not None and abs(started) < 1e15 else 0.0

    def _pixels_of(self, frame: av.VideoFrame) -> Pixels:
        """Upright and with square pixels, its longer side at most `frame_px`."""
        ratio = self._stream.sample_aspect_ratio or Fraction(1)
        stretch = float(ratio) if Fraction(1, 10) < ratio < 10 else 1.0
        width, height = fit_within(max(1, round(frame.width * stretch)), frame.height, self._limits.frame_px)
        return np.ascontiguousarray(np.rot90(_rgb(self._large, frame, width, height), round(frame.rotation / 90)))

    def _check_before(self) -> None:
        context = self._stream.codec_context
        if context.name not in CODECS:
            raise UnsupportedVideo(f"videos of the codec {context.name} are not read")
        if context.width and context.height:
            self._check_size(context.width, context.height)
        duration = self._container.duration
        # Matroska counts from 0, whenever the video begins.
        if duration is not None and duration / av.time_base - max(self._start_s, 0.0) > self._limits.max_seconds + 1.0:
            self._too_long()
        context.thread_count = self._limits.threads
        context.thread_type = "AUTO"
        # For what the header does not say: a stream whose frames grow is refused before their memory is taken.
        context.options = {"max_pixels": str(max(self._limits.max_pixels, 4096))}

    def _check_after(self, last_s: float) -> None:
        stream = self._stream
        if not stream.duration or stream.time_base is None:
            return
        told_s = float(stream.duration * stream.time_base)
        if told_s - last_s > max(MISSING_S, MISSING_SHARE * told_s) and told_s <= self._limits.max_seconds:
            raise VideoTruncated(f"the video breaks off after {last_s:.1f} of {told_s:.1f} seconds")

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._limits.max_pixels:
            raise VideoTooLarge(
                f"the video has frames of {width} x {height} pixels; at most {self._limits.max_pixels} are taken"
            )
        if max(width, height) > self._limits.max_aspect_ratio * min(width, height):
            raise VideoTooLarge(
                f"the video has frames of {width} x {height} pixels; the longer side may be at most "
                f"{self._limits.max_aspect_ratio:g} times the shorter"
            )

    def _too_long(self) -> NoReturn:
        raise VideoTooLong(f"the video is longer than {self._limits.max_seconds:g} seconds")


def _rgb(scaler: VideoReformatter, frame: av.VideoFrame, width: int, height: int) -> Pixels:
    scaled = scaler.reformat(frame, width, height, "rgb24", interpolation="AREA")
    return np.asarray(scaled.to_ndarray(), np.uint8)


def container_of(head: bytes) -> str:
    """FFmpeg's name of the container, from the first bytes. Raises NotAVideo, UnsupportedVideo."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(b"FLV\x01"):
        return "flv"
    if head.startswith(b"OggS"):
        return "ogg"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "mpeg"
    if head[:1] == b"\x47" and head[188:189] == b"\x47" and head[376:377] == b"\x47":
        return "mpegts"
    if head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"):
        raise UnsupportedVideo("videos of the type ASF (WMV) are not read")
    if head.lstrip().startswith(b"#EXTM3U"):
        raise UnsupportedVideo("a playlist names other files and is no video by itself")
    raise NotAVideo("these bytes are not a video")


@contextmanager
def _opened(file: IO[bytes], max_bytes: int) -> Iterator[InputContainer]:
    size = file.seek(0, 2)
    if size > max_bytes:
        raise VideoTooLarge(f"the video file has {size} bytes; at most {max_bytes} are taken")
    file.seek(0)
    name = container_of(file.read(SIGNATURE_BYTES))
    file.seek(0)
    container = av.open(file, "r", format=name, options=PROBE_OPTIONS, io_open=_refuse)
    with container:
        yield container


def _refuse(_url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
    raise UnsupportedVideo("the video names other files, and those are not read")


def _stream_of(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures; the cover of a song is none. Raises NotAVideo."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise NotAVideo("the file holds no moving pictures")


@contextmanager
def _translated() -> Iterator[None]:
    """PyAV's errors as ours."""
    try:
        yield
    except av.error.DecoderNotFoundError as error:
        raise UnsupportedVideo("the codec of the video is not read") from error
    except av.error.EOFError as error:
        raise VideoTruncated("the file of the video ends before it begins") from error
    except (av.error.FFmpegError, MemoryError, UnicodeDecodeError) as error:
        raise InvalidVideo("the video file is damaged and cannot be read") from error
