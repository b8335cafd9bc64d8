"""Preprocessor: everything that touches the bytes of pictures, before they become vectors. No model, no table, no torch."""

from collections.abc import Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle

from configs.schema import CallConfig, PictureConfig, StorageConfig, VideoConfig
from deployments.media import file_source, picture_decoder, video_reader
from deployments.remote import RemoteImageEncoder
from deployments.replica import log_with_serve
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.services.frames import FrameService
from serve_app.services.pictures import PictureService
from serve_app.types import (
    EmbeddedPicture,
    EmbeddedVideo,
    FilePart,
    ItemFailure,
    PictureContent,
    PictureTask,
    VideoUri,
)


class Preprocessor:
    def __init__(
        self,
        pictures: PictureConfig,
        videos: VideoConfig,
        storage: StorageConfig,
        calls: CallConfig,
        image_encoder: DeploymentHandle[Any],
    ) -> None:
        log_with_serve()
        store = ObstoreObjectStore(storage.uri, storage.options, signed_url_s=storage.signed_url_s)
        decoder = picture_decoder(pictures)
        source = file_source(pictures, videos, store, (store.root,))
        self._service = PictureService(
            decoder=decoder,
            source=source,
            store=store,
            encoding=RemoteImageEncoder(image_encoder, calls),
            max_bytes=pictures.max_bytes,
            threads=pictures.threads,
        )
        self._frames = FrameService(
            self._service,
            video_reader(pictures, videos, max_seconds=videos.max_online_seconds),
            decoder,
            source,
            max_bytes=videos.max_bytes,
            frame_px=videos.frame_px,
            threads=pictures.threads,
        )

    async def embed_pictures(self, tasks: Sequence[PictureTask]) -> list[EmbeddedPicture | ItemFailure]:
        return await self._service.embed_pictures(tasks)

    async def identify_pictures(self, uris: Sequence[str]) -> list[str | ItemFailure]:
        return await self._service.identify_pictures(uris)

    async def read_picture(self, uri: str) -> PictureContent:
        return await self._service.read_picture(uri)

    async def sign(self, uris: Sequence[str]) -> list[str | None]:
        return await self._service.sign(uris)

    async def identify_videos(self, videos: Sequence[VideoUri]) -> list[str | ItemFailure]:
        return await self._frames.identify_videos(videos)

    async def embed_videos(self, videos: Sequence[VideoUri]) -> list[EmbeddedVideo | ItemFailure]:
        return await self._frames.embed_videos(videos)

    async def read_file_part(self, uri: str, start: int, length: int) -> FilePart:
        return await self._frames.read_file_part(uri, start, length)

    async def thumbnail(self, uri: str, size_px: int) -> PictureContent:
        return await self._service.thumbnail(uri, size_px)
