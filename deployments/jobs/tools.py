"""What the stages of a job read, decode and prepare with, as the configuration has it."""

from deployments.declared import declared_fields
from deployments.jobs.settings import JobSettings
from deployments.videos import video_reader
from serve_app.adapters.image_source import UriImageSource
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.services.bulk import BulkPreparation, Observe
from serve_app.services.bulk_videos import BulkVideos, VideoRules
from serve_app.types import EncoderCard


def picture_tools(settings: JobSettings) -> tuple[ObstoreObjectStore, UriImageSource, PictureDecoder]:
    """Where pictures are kept, who reads them by URI, and who decodes them."""
    config = settings.config
    store, pictures = ObstoreObjectStore(config.storage.uri, config.storage.options), config.pictures
    source = UriImageSource(
        (*pictures.allowed_roots, *settings.roots, store.root),
        read_object=store.read,
        max_bytes=pictures.max_bytes,
        timeout_s=pictures.fetch_timeout_s,
        objects=store,
        file_timeout_s=config.videos.fetch_timeout_s,
    )
    decoder = PictureDecoder(
        pictures.max_bytes,
        pictures.max_pixels,
        pictures.max_aspect_ratio,
        exact=pictures.exact,
        decode=pictures.decode,
    )
    return store, source, decoder


def document_preparation(settings: JobSettings, card: EncoderCard, observe: Observe) -> BulkPreparation:
    """Of texts and pictures."""
    store, source, decoder = picture_tools(settings)
    config = settings.config
    return BulkPreparation(
        source,
        decoder,
        store,
        settings.open_table(),
        card.preprocessing,
        declared=declared_fields(config.table),
        max_characters=config.text.max_characters,
        max_bytes=config.pictures.max_bytes,
        copies=settings.copies,
        observe=observe,
    )


def video_preparation(settings: JobSettings, card: EncoderCard, observe: Observe) -> BulkVideos:
    """Of videos, which a job takes longer ones of than a request."""
    store, source, decoder = picture_tools(settings)
    config = settings.config
    return BulkVideos(
        source,
        source,
        video_reader(config.pictures, config.videos, max_seconds=config.videos.max_seconds),
        decoder,
        store,
        settings.open_table(),
        card.preprocessing,
        VideoRules(
            declared=declared_fields(config.table),
            max_characters=config.text.max_characters,
            max_bytes=config.videos.max_bytes,
            frame_px=config.videos.frame_px,
            policy=settings.frames,
        ),
        observe=observe,
    )
