"""The reader of videos as the configuration has it: of the Preprocessor, and of jobs, which take longer ones."""

from configs.schema import PictureConfig, VideoConfig
from serve_app.adapters.video import VideoLimits, VideoReader


def video_reader(pictures: PictureConfig, videos: VideoConfig, *, max_seconds: float) -> VideoReader:
    """A frame is a picture: its pixels have the bounds of pictures."""
    return VideoReader(
        VideoLimits(
            max_bytes=videos.max_bytes,
            max_pixels=pictures.max_pixels,
            max_aspect_ratio=pictures.max_aspect_ratio,
            max_seconds=max_seconds,
            max_frames=videos.max_frames,
            max_decode_s=videos.max_decode_s,
            frame_px=videos.frame_px,
            threads=videos.threads,
        )
    )
