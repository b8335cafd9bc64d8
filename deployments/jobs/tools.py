"""What the stages of a job read, decode and prepare with, as the configuration has it."""

from deployments.declared import declared_fields
from deployments.jobs.settings import JobSettings
from deployments.media import file_source, picture_decoder, video_reader
from serve_app.adapters.image_source import UriImageSource
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.services.bulk import BulkDecoding, BulkPreparation, Observe
from serve_app.services.bulk_videos import BulkVideos, VideoRules
from serve_app.types import EncoderCard


def picture_tools(settings: JobSettings) -> tuple[ObstoreObjectStore, UriImageSource, PictureDecoder]:
    """Where pictures are kept, who reads them by URI, and who decodes them."""
    config = settings.config
    store = ObstoreObjectStore(config.storage.uri, config.storage.options)
    source = file_source(config.pictures, config.videos, store, (*settings.roots, store.root))
    return store, source, picture_decoder(config.pictures)


def document_preparation(settings: JobSettings, observe: Observe, *, into_empty: bool) -> BulkPreparation:
    """Of texts and pictures. `into_empty`: the table had no row when the job began, so there is nothing to compare with."""
    _, source, _ = picture_tools(settings)
    config = settings.config
    return BulkPreparation(
        source,
        None if into_empty else settings.open_table(),
        declared=declared_fields(config.table),
        max_characters=config.text.max_characters,
        max_bytes=config.pictures.max_bytes,
        copies=settings.copies,
        observe=observe,
    )


def picture_decoding(settings: JobSettings, card: EncoderCard, observe: Observe) -> BulkDecoding:
    """For this encoder."""
    store, _, decoder = picture_tools(settings)
    return BulkDecoding(decoder, store, card.preprocessing, observe=observe)


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
