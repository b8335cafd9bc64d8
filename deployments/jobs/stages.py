"""The stages of a job between its source and the table, as Ray Data runs them: list, prepare, encode.

Each holds objects of serve_app and forwards. Listing is one task, the others are pools of actors.
"""

import pickle
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import pyarrow as pa
import ray

from deployments.checkpoints import tower_arguments
from deployments.jobs.ledger import Hashes, hashes_of, is_among
from deployments.jobs.meeting import MeetingHandle, Opening, opened
from deployments.jobs.preparing import Handing, Preparing, picture_travels
from deployments.jobs.progress import Meter
from deployments.jobs.resources import JobResources
from deployments.jobs.settings import JobSettings, Parts, Source
from deployments.jobs.steps import GROUP_STEPS, PICTURE_GROUP_STEPS, Outcome, Step, pack, unpack, written_group_steps
from deployments.jobs.tools import video_preparation
from deployments.jobs.workers import Loop, begin_work
from serve_app.core.source_items import SourceItem, rows_to_items
from serve_app.core.videos import is_video_uri
from serve_app.errors import CrossmodalError, InternalError
from serve_app.ports import StagedTower
from serve_app.services.bulk import BulkEncoding, Prepared
from serve_app.services.bulk_videos import BulkVideos
from serve_app.services.encoding import EncodingService
from serve_app.types import Embedding, ItemFailure, Pixels, Record

T = TypeVar("T")

# Items that are fetched, compared with the table and decoded together.
PREPARED_AT_ONCE = 128
# Of what an encoder takes at once: enough that its batches are full, few enough that all encoders have work.
BATCHES_AT_ONCE = 8


def list_parts(_: pa.Table, source: Parts) -> Iterator[pa.Table]:
    """The parts of a source, each a block of its own, so that the first is read while the others are listed."""
    for part in source.parts():
        yield pa.table({"part": pa.array([pickle.dumps(part)], pa.binary())})


class Prepare:
    """Reads parts and makes their items ready to be encoded, unless encoders do that themselves; what is done is left out.

    What is made ready waits for the encoder to be known, and for the table; what is only read does not.
    """

    @staticmethod
    def group_steps(resources: JobResources) -> int:
        """How many steps come in a block, where no pictures are in it."""
        return GROUP_STEPS if resources.encoders_prepare else PICTURE_GROUP_STEPS

    def __init__(self, source: Source, settings: JobSettings, meeting: MeetingHandle) -> None:
        begin_work(settings.resources)
        self._source = source
        self._settings = settings
        self._meeting = meeting
        self._meter = Meter(meeting)
        self._runner = Loop()

    @cached_property
    def _opening(self) -> Opening:
        return opened(self._meeting)

    @cached_property
    def _documents(self) -> Preparing | Handing:
        if self._settings.resources.encoders_prepare:
            return Handing(self._settings, self._meter)
        return Preparing(self._settings, self._opening, self._meter)

    @cached_property
    def _videos(self) -> BulkVideos:
        return video_preparation(self._settings, self._opening.card, self._meter)

    @cached_property
    def _done(self) -> Hashes:
        (done,) = ray.get(self._meeting.done.remote())
        hashes: Hashes = ray.get(done)
        return hashes

    def __call__(self, parts: pa.Table) -> Iterator[pa.Table]:
        for part in parts.column("part").to_pylist():
            yield from self._part(pickle.loads(part))  # noqa: S301 - pickled by List

    def _prepared(self, items: Sequence[SourceItem]) -> Iterator[pa.Table]:
        videos = [item for item in items if _is_video(item)]
        others = [item for item in items if not _is_video(item)] if videos else items
        # By what the source says, and not by what came of it: a worker that is run again has to cut as it did before.
        small = self._settings.resources.encoders_prepare and not any(map(picture_travels, others))
        steps = self._runner.run(self._documents.steps(others))
        yield from pack(steps, GROUP_STEPS if small else PICTURE_GROUP_STEPS)
        for video in videos:
            portions = self._videos.prepare(video)
            while portion := self._runner.run(anext(portions, None)):
                yield from pack([Step(key, video.uri, outcome) for key, outcome in portion], PICTURE_GROUP_STEPS)

    def _part(self, part: Any) -> Iterator[pa.Table]:
        began = time.perf_counter()
        for found in self._source.read_part(part):
            if not isinstance(found, pa.Table):
                yield from pack([Step(found.key, None, ItemFailure(found.code, found.message))])
                continue
            rows = found.filter(pa.array(~is_among(hashes_of(found.column("key").to_pylist()), self._done)))
            self._meter("read", len(rows), 0, time.perf_counter() - began)
            for start in range(0, len(rows), PREPARED_AT_ONCE):
                items = rows_to_items(rows.slice(start, PREPARED_AT_ONCE))
                yield from self._prepared(items)
            self._meter.flush(skipped=len(found) - len(rows))
            began = time.perf_counter()


def _is_video(item: SourceItem) -> bool:
    return item.data is None and item.uri is not None and is_video_uri(item.uri)


class Encode:
    """Both towers of the model, each loaded when it is first needed, fed as the deployments feed them.

    The first encoder that comes up tells the meeting which model it is.
    """

    def __init__(self, settings: JobSettings, meeting: MeetingHandle) -> None:
        begin_work(settings.resources)
        self._settings = settings
        self._meeting = meeting
        self._meter = Meter(meeting)
        self._runner = Loop()
        self._preparing: Preparing | None = None
        self._texts: EncodingService[str] | None = None
        self._pictures: EncodingService[Pixels] | None = None
        self._service = BulkEncoding(
            self._encode_texts, self._encode_pixels, image_weight=settings.config.search.image_weight
        )
        # Imported now, while the readers start, and not with the first batch.
        import serve_app.adapters.open_clip  # noqa: F401

        if not ray.get(meeting.is_described.remote()):
            self._describe(meeting)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        steps = unpack(rows)
        # Also where all items have failed: a writer needs a table to write nothing to.
        opening = self._opening
        self.load(
            words=any(_has_words(step.outcome) for step in steps),
            pictures=any(_has_picture(step.outcome) for step in steps),
        )
        began_at = time.time()
        steps = self._ready(steps, opening)
        prepared = [step.outcome for step in steps if isinstance(step.outcome, Prepared)]
        began = time.perf_counter()
        encoded = self._runner.run(self._service.encode(prepared))
        self._meter("encode", len(prepared), 0, time.perf_counter() - began)
        self._meter.flush(encoded=sum(isinstance(each, Record) for each in encoded), began_at=began_at)
        outcomes = iter(encoded)
        yield from pack(
            [
                Step(step.key, step.uri, next(outcomes), encoded=True) if isinstance(step.outcome, Prepared) else step
                for step in steps
            ],
            written_group_steps(self._settings.commit_rows),
        )

    @cached_property
    def _opening(self) -> Opening:
        return opened(self._meeting)

    def _ready(self, steps: list[Step], opening: Opening) -> list[Step]:
        """What readers have left to be done."""
        items = [step.outcome for step in steps if isinstance(step.outcome, SourceItem)]
        if not items:
            return steps
        if self._preparing is None:
            self._preparing = Preparing(self._settings, opening, self._meter)
        ready: list[Step] = []
        for start in range(0, len(items), PREPARED_AT_ONCE):
            ready += self._runner.run(self._preparing.steps(items[start : start + PREPARED_AT_ONCE]))
        left = iter(ready)
        return [next(left) if isinstance(step.outcome, SourceItem) else step for step in steps]

    def _describe(self, meeting: MeetingHandle) -> None:
        """By the smaller tower, which is let go: a source of pictures alone does not need it."""
        try:
            meeting.describe.remote(load_text_tower(self._settings).card)
        except CrossmodalError as error:
            ray.get(meeting.fail.remote(error))
            raise

    def load(self, *, words: bool, pictures: bool) -> None:
        """Either tower, unless it is there."""
        encoder, threads = self._settings.config.encoder, self._settings.resources.threads
        if self._texts is None and words:
            texts = load_text_tower(self._settings)
            texts.warm_up(encoder.max_batch_texts, encoder.compile)
            self._texts = self._service_of(texts, encoder.max_batch_texts)
        if self._pictures is None and pictures:
            # Here and not above: the driver imports this file, and needs no torch.
            from serve_app.adapters.open_clip import load_image_tower

            tower = load_image_tower(**tower_arguments(encoder), threads=threads)
            tower.warm_up(encoder.max_batch_pictures, encoder.compile)
            self._pictures = self._service_of(tower, encoder.max_batch_pictures)

    async def _encode_texts(self, texts: Sequence[str]) -> list[Embedding | ItemFailure]:
        return await _loaded(self._texts).encode(texts)

    async def _encode_pixels(self, pictures: Sequence[Pixels]) -> list[Embedding | ItemFailure]:
        return await _loaded(self._pictures).encode(pictures)

    @staticmethod
    def _service_of(tower: StagedTower, max_batch_size: int) -> EncodingService[Any]:
        return EncodingService[Any].of_tower(tower, max_batch_size=max_batch_size, max_queued_items=2**31)


def _has_words(outcome: Outcome) -> bool:
    return (isinstance(outcome, Prepared) and outcome.words is not None) or (
        isinstance(outcome, SourceItem) and outcome.text is not None
    )


def _has_picture(outcome: Outcome) -> bool:
    return (isinstance(outcome, Prepared) and outcome.pixels is not None) or (
        isinstance(outcome, SourceItem) and (outcome.data is not None or outcome.uri is not None)
    )


def load_text_tower(settings: JobSettings) -> Any:
    """The text tower as the TextEncoder has it."""
    from serve_app.adapters.open_clip import load_text_tower as load

    config = settings.config
    return load(
        **tower_arguments(config.encoder),
        threads=settings.resources.threads,
        max_tokenised_characters=config.text.max_tokenised_characters,
        max_word_characters=config.text.max_word_characters,
    )


def _loaded(service: EncodingService[T] | None) -> EncodingService[T]:
    if service is None:
        raise InternalError("an item came whose tower was not loaded")
    return service
