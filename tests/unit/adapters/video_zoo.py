"""Videos of every kind, made by PyAV as a test asks for them: scenes of one colour each, or what is given."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import av
import numpy as np
import numpy.typing as npt

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)
RATE = 10


def plain(colour: Sequence[int], width: int = 160, height: int = 120) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def scenes(
    colours: Iterable[Sequence[int]] = (RED, GREEN, BLUE), seconds: float = 2.0, **size: int
) -> list[npt.NDArray[np.uint8]]:
    """The frames of scenes that follow each other with a cut."""
    return [plain(colour, **size) for colour in colours for _ in range(round(seconds * RATE))]


def video(
    frames: Sequence[npt.NDArray[np.uint8]],
    container: str = "mp4",
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    pts: Callable[[int], int] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    options: dict[str, str] | None = None,
) -> bytes:
    """The file. `pts`: of the n-th frame in tenths of a second. `prepare` sees the stream before anything is encoded."""
    # A true file: one that begins with its index is written, and then read again.
    with NamedTemporaryFile() as file, av.open(file.name, "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=RATE)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        prepare(stream)
        for place, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = place if pts is None else pts(place)
            frame.time_base = Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        output.close()
        return Path(file.name).read_bytes()


def sound(container: str = "mp4", codec: str = "aac") -> bytes:
    """Two seconds of a tone and no picture."""
    file = BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=44_100)
        samples = np.sin(np.arange(44_100 * 2) * 0.05).astype(np.float32)
        for start in range(0, len(samples) - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            frame.rate, frame.pts = 44_100, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()
