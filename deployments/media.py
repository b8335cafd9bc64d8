"""Who reads and decodes pictures and videos, as the configuration has it: for the Preprocessor, and for jobs."""

from collections.abc import Sequence

from configs.schema import PictureConfig, VideoConfig
from serve_app.adapters.image_source import UriImageSource
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.adapters.video import VideoLimits, VideoReader


def picture_decoder(pictures: PictureConfig) -> PictureDecoder:
    """Of uploads, of files, and of kept frames alike."""
    return PictureDecoder(
        pictures.max_bytes,
        pictures.max_pixels,
        pictures.max_aspect_ratio,
        exact=pictures.exact,
        decode=pictures.decode,
    )


def file_source(
    pictures: PictureConfig, videos: VideoConfig, store: ObstoreObjectStore, roots: Sequence[str]
) -> UriImageSource:
    """Pictures and videos by URI, under `pictures.allowed_roots` and these further roots."""
    return UriImageSource(
        (*pictures.allowed_roots, *roots),
        read_object=store.read,
        max_bytes=pictures.max_bytes,
        timeout_s=pictures.fetch_timeout_s,
        objects=store,
        file_timeout_s=videos.fetch_timeout_s,
    )


def video_reader(pictures: PictureConfig, videos: VideoConfig, *, max_seconds: float) -> VideoReader:
    """Jobs take longer videos than requests. A frame is a picture: its pixels have the bounds of pictures."""
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
