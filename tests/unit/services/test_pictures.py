"""The Preprocessor's work on pictures: true files, the true decoder and store, and a fake of what encodes."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve_app.adapters.image_source import UriImageSource
from serve_app.adapters.object_store import ObstoreObjectStore
from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.core.ids import sha256_of
from serve_app.errors import Overloaded
from serve_app.services.pictures import PictureService
from serve_app.types import (
    EmbeddedPicture,
    Embedding,
    EncoderCard,
    InlinePicture,
    ItemFailure,
    PictureTask,
    PictureUri,
    Pixels,
)
from tests.fakes.parts import CARD


class Brightness:
    """An encoder whose vector is the mean of the pixels. Notes the batches' sizes and urgency; refuses all when `full`."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.urgent: list[bool] = []
        self.full = False

    async def describe(self) -> EncoderCard:
        return CARD

    async def encode_pixels(self, pictures: Sequence[Pixels], *, urgent: bool) -> list[Embedding | ItemFailure]:
        self.urgent.append(urgent)
        if self.full:
            raise Overloaded("too many requests are waiting; try again shortly")
        self.batches.append(len(pictures))
        return [Embedding(np.array([each.mean()], np.float32), CARD.fingerprint) for each in pictures]


def grey(level: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (20, 10), (level, level, level)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def encoder() -> Brightness:
    return Brightness()


@pytest.fixture
def service(tmp_path: Path, encoder: Brightness) -> PictureService:
    store = ObstoreObjectStore(str(tmp_path / "kept"))
    source = UriImageSource((str(tmp_path),), read_object=store.read, max_bytes=1_000_000, timeout_s=5, objects=store)
    decoder = PictureDecoder(max_bytes=1_000_000, max_pixels=1_000_000, max_aspect_ratio=50)
    return PictureService(decoder, source, store, encoder, max_bytes=1_000_000, threads=2)


def inline(*files: bytes, keep: bool = False) -> list[PictureTask]:
    return [PictureTask(InlinePicture(file), keep) for file in files]


async def test_what_came_together_is_encoded_together_in_order(service: PictureService, encoder: Brightness) -> None:
    found = await service.embed_pictures(inline(*(grey(level) for level in (10, 200, 90, 40))))
    levels = [each.embedding.vector[0] for each in found if isinstance(each, EmbeddedPicture)]
    assert levels == [10, 200, 90, 40]
    assert encoder.batches == [4]


async def test_what_is_asked_is_urgent_and_what_is_kept_is_not(service: PictureService, encoder: Brightness) -> None:
    for keep in (False, True):
        await service.embed_pictures(inline(grey(10), grey(200), keep=keep))
    assert encoder.urgent == [True, False]


async def test_what_is_no_picture_fails_alone_and_is_not_kept(
    service: PictureService, encoder: Brightness, tmp_path: Path
) -> None:
    good, bad = grey(7), b"not a picture"
    tasks = [*inline(bad, good, keep=True), PictureTask(PictureUri((tmp_path / "none.png").as_uri()))]
    found = await service.embed_pictures(tasks)
    codes = [each.code if isinstance(each, ItemFailure) else "fine" for each in found]
    assert codes == ["not_a_picture", "fine", "picture_not_found"]
    assert encoder.batches == [1]
    kept = found[1]
    assert isinstance(kept, EmbeddedPicture)
    assert kept.content_sha256 == sha256_of(good)
    assert kept.uri is not None
    assert (await service.read_picture(kept.uri)).data == good
    assert len([each for each in (tmp_path / "kept").rglob("*") if each.is_file()]) == 1


async def test_an_encoder_that_refuses_is_each_pictures_failure(service: PictureService, encoder: Brightness) -> None:
    encoder.full = True
    found = await service.embed_pictures(inline(grey(1), b"not a picture", grey(2)))
    assert [each.code for each in found if isinstance(each, ItemFailure)] == [
        "overloaded",
        "not_a_picture",
        "overloaded",
    ]


async def test_nothing_is_asked_of_the_encoder_where_nothing_is_a_picture(
    service: PictureService, encoder: Brightness
) -> None:
    await service.embed_pictures(inline(b"neither", b"nor"))
    assert encoder.batches == []
