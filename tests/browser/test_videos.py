"""Videos on the search page: one card for each at its best moment, which plays there, in a real browser."""

import asyncio
from collections.abc import Iterator, Sequence
from io import BytesIO

import pytest
from selenium.webdriver.common.keys import Keys

from serve_app.adapters.picture_decoder import PictureDecoder
from serve_app.adapters.video import VideoLimits, VideoReader
from serve_app.core.ids import sha256_of
from serve_app.http.app import create_app
from serve_app.types import (
    DocumentInput,
    EmbeddedFrame,
    EmbeddedVideo,
    Embedding,
    FramePolicy,
    ItemFailure,
    Modality,
    UpsertOutcome,
    VideoUri,
)
from tests.browser.gallery import Gallery, SeeingPictureWork, fill
from tests.browser.page import Page
from tests.drawn_video import SCENES, SECONDS, film
from tests.fakes.parts import vector_of
from tests.http.serving import serving

URI = "file:///videos/harbour.mp4"
SHOWN = ("red boat", "green tree", "blue cat", "red house")


class Cinema(SeeingPictureWork):
    """Reads true videos, and knows what their scenes show."""

    async def embed_videos(self, videos: Sequence[VideoUri]) -> list[EmbeddedVideo | ItemFailure]:
        return [self._film(video) for video in videos]

    def _film(self, video: VideoUri) -> EmbeddedVideo:
        decoder = PictureDecoder(10_000_000, 10_000_000, 10)
        frames = []
        for frame in VideoReader(VideoLimits()).frames(BytesIO(self.files[video.uri]), video.policy):
            jpeg = decoder.to_jpeg(frame.pixels)
            uri = f"memory://{sha256_of(jpeg)}"
            self.files[uri] = jpeg
            words = SHOWN[int(frame.offset_s / SECONDS)]
            vector = vector_of(words, Modality.VIDEO_FRAME)
            frames.append(EmbeddedFrame(frame.offset_s, uri, Embedding(vector, self.card.fingerprint)))
        return EmbeddedVideo("c" * 64, tuple(frames))

    async def sign(self, uris: Sequence[str]) -> list[str | None]:
        return [None] * len(uris)


async def _filled() -> Gallery:
    cinema = Cinema({})
    gallery = await fill({}, {"poem": "a red boat on the water"}, cinema)
    cinema.files[URI] = film([SCENES[place][1] for place in (7, 0, 3, 4)])
    outcomes = await gallery.documents.add(
        [DocumentInput(text="A day at the harbour", id="harbour", video=VideoUri(URI, FramePolicy(1.0)))]
    )
    assert all(isinstance(each, UpsertOutcome) and each.frames == 8 for each in outcomes), outcomes
    return gallery


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    gallery = asyncio.run(_filled())
    with serving(create_app(*gallery.parts)) as address:
        yield address


def test_a_video_is_one_card_with_the_moment_on_it(page: Page) -> None:
    page.open("/?q=blue+cat")
    assert sorted(page.results()) == sorted(["harbour#t=4.000", "poem"])
    page.wait_for("the frame", "document.querySelector('.video_frame img').naturalWidth > 0")
    assert page.one(".video_frame .time").text.endswith("0:04")
    assert page.one(".video_frame .kind").text == "video"
    assert page.one(".video_frame blockquote").text == "A day at the harbour"
    assert str(page.one(".video_frame .picture").get_attribute("href")).endswith("#t=4.000")
    assert "moments of videos" in page.one("#table").text


def test_a_click_plays_the_video_from_its_moment_on(page: Page) -> None:
    page.open("/?q=blue+cat")
    page.results()
    page.one(".video_frame .picture").click()
    page.wait_for("the moment", "document.getElementById('video').currentTime >= 4")
    page.wait_for("the picture", "document.getElementById('video').videoWidth === 480")
    page.wait_for("it to play", "document.getElementById('video').currentTime > 4.2")
    assert not page.one("#video-error").is_displayed()
    assert page.one("#video-title").text == "A day at the harbour"


def test_another_moment_is_one_click_away_and_the_player_closes(page: Page) -> None:
    page.open("/?q=red+house")
    page.results()
    page.one(".video_frame .picture").click()
    page.wait_for("the moments", "document.querySelectorAll('#moments button').length === 2")
    page.wait_for("the video", "document.getElementById('video').readyState >= 1")
    page.all("#moments button")[0].click()
    page.wait_for("the other moment", "document.getElementById('video').currentTime < 3")
    page.one("#video-close").send_keys(Keys.ENTER)
    page.wait_for("the end", "!document.getElementById('player').open")
    page.wait_for("the video to be let go", "!document.getElementById('video').hasAttribute('src')")


def test_videos_are_a_kind_of_their_own(page: Page) -> None:
    page.open("/?q=red+boat")
    page.results()
    page.one("input[value=video_frame] + span").click()
    page.wait_for("videos alone", "document.querySelectorAll('.card').length === 1")
    assert "kind=video_frame" in page.query
    assert page.results() == ["harbour#t=0.000"]
