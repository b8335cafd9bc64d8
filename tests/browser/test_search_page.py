import asyncio
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from serve_app.errors import Overloaded
from serve_app.types import ItemFailure, JobStatus, Readiness, SearchAnswer, SearchRequest
from tests.browser.gallery import Gallery
from tests.browser.page import Page
from tests.fakes.jobs import a_job


def test_a_visitor_is_welcomed_with_examples_and_told_what_there_is(page: Page) -> None:
    page.open()
    page.wait_for("the counts", "document.getElementById('table').textContent")
    assert page.one("#table").text == "6 pictures and 3 texts · model fake"
    assert page.one("#welcome").is_displayed()
    assert len(page.all("#examples button")) >= 4
    assert page.driver.switch_to.active_element == page.one("#words")


def test_bulk_work_is_told_while_it_runs(page: Page, gallery: Gallery) -> None:
    gallery.records.kept = {"holiday": a_job(), "old": a_job("old", status=JobStatus.FINISHED)}
    page.open()
    page.wait_for("the job", "!document.getElementById('jobs').hidden")
    told = "ingest holiday is running: 900 stored, 100 failed, 100 items/s, held up by encode"
    assert [each.text for each in page.all("#jobs li")] == [told]
    gallery.records.kept = {"holiday": a_job(status=JobStatus.FINISHED)}
    page.wait_for("its end", "document.getElementById('jobs').hidden")
    assert page.one("#table").text == "6 pictures and 3 texts · model fake"
    gallery.records.kept["trip"] = a_job("trip")
    began = "document.getElementById('jobs').textContent.includes('trip')"
    page.wait_for("one that began since", began, within_s=20.0)


def test_an_example_is_a_search(page: Page) -> None:
    page.open()
    example = page.one("#examples button")
    words = example.text
    example.click()
    assert page.results()
    assert page.one("#words").get_attribute("value") == words
    assert not page.one("#welcome").is_displayed()


def test_a_picture_of_the_collection_is_a_beginning(page: Page) -> None:
    page.open()
    page.wait_for("the samples", "document.querySelectorAll('#samples img').length === 6")
    page.one("#samples button").click()
    assert page.query.startswith("?like=")
    assert len(page.results()) == 8
    page.wait_for("the picture that was asked by", "document.getElementById('asked-picture').naturalWidth > 0")
    assert page.one("#asked-label").text == "like this picture"


def test_words_find_pictures_and_texts_with_score_and_confidence(page: Page) -> None:
    page.open()
    page.search("red boat")
    results = page.results()
    assert set(results[:2]) == {"red-boat", "poem"}
    picture, text = page.one("li[data-id=red-boat]"), page.one("li[data-id=poem]")
    assert text.find_element(By.CSS_SELECTOR, "blockquote").text == "a red boat on the water"
    assert not text.find_elements(By.CSS_SELECTOR, "img")
    shown = picture.find_element(By.CSS_SELECTOR, "img")
    page.wait_for("the thumbnail", "document.querySelector('li[data-id=red-boat] img').naturalWidth > 0")
    assert shown.get_attribute("alt")
    assert float(picture.find_element(By.CSS_SELECTOR, ".score").text.split()[-1])
    assert 0 <= float(picture.find_element(By.CSS_SELECTOR, "meter").get_attribute("value") or -1) <= 1
    assert picture.find_element(By.CSS_SELECTOR, ".confidence").text.endswith("%")
    assert page.query == "?q=red+boat"


def test_results_can_be_of_one_kind(page: Page) -> None:
    page.open("/?q=red+boat")
    assert len(page.results()) == 9
    page.one("input[value=image] + span").click()
    page.wait_for("pictures alone", "!document.querySelector('.card.text') && document.querySelector('.card.image')")
    assert "kind=image" in page.query
    page.one("input[value=text] + span").click()
    page.wait_for("texts alone", "!document.querySelector('.card.image') && document.querySelector('.card.text')")


def test_more_like_this_searches_by_the_document_and_leaves_it_out(page: Page) -> None:
    page.open("/?q=red+boat")
    page.results()
    page.one("li[data-id=red-boat] .like").click()
    page.wait_for("the other results", "!document.querySelector('li[data-id=red-boat]')")
    assert page.query == "?like=red-boat"
    assert page.results()[0] in {"poem", "blue-boat"}
    assert page.one("#asked").is_displayed()


def test_a_link_leads_to_its_results_and_back_leads_back(page: Page) -> None:
    page.open("/?like=blue-cat")
    assert "blue-cat" not in page.results()
    page.search("green tree")
    page.wait_for("the words' results", "document.querySelector('li[data-id=green-tree]')")
    first = page.results()
    page.driver.back()
    page.wait_for("the link's results", "!document.querySelector('li[data-id=blue-cat]')")
    assert page.query == "?like=blue-cat"
    page.driver.forward()
    page.wait_for("the words' results", "document.querySelector('li[data-id=blue-cat]')")
    assert page.results() == first
    assert page.one("#words").get_attribute("value") == "green tree"


@pytest.mark.parametrize("how", ["drop", "paste", "choose"])
def test_a_picture_of_ones_own_is_a_query(page: Page, picture_file: Path, how: str) -> None:
    page.open()
    if how == "choose":
        page.choose(picture_file)
    else:
        page.hand_over(how, picture_file)
    assert page.results()[0] == "blue-cat"
    assert page.one("#asked").is_displayed()
    assert page.one("#asked-label").text == "mine.png"
    page.one("#clear").click()
    page.wait_for("the welcome", "!document.getElementById('welcome').hidden")
    assert not page.one("#asked").is_displayed()


def test_the_same_file_can_be_chosen_twice(page: Page, picture_file: Path) -> None:
    page.open()
    page.choose(picture_file)
    page.results()
    page.one("#clear").click()
    page.wait_for("the welcome", "!document.getElementById('welcome').hidden")
    page.choose(picture_file)
    assert page.results()[0] == "blue-cat"


def test_back_returns_to_ones_own_picture(page: Page, picture_file: Path) -> None:
    page.open()
    page.choose(picture_file)
    page.results()
    page.one("li[data-id=red-boat] .like").click()
    page.wait_for("the other results", "!document.querySelector('li[data-id=red-boat]')")
    page.driver.back()
    page.wait_for("the picture", "document.querySelector('li[data-id=red-boat]')")
    assert page.one("#asked-label").text == "mine.png"
    assert page.results()[0] == "blue-cat"


def test_what_is_no_picture_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    page.open()
    poem, broken = tmp_path / "poem.txt", tmp_path / "broken.png"
    poem.write_text("a poem")
    broken.write_bytes(b"no picture at all")
    page.hand_over("drop", poem, "text/plain")
    assert page.error() == "That file is not a picture."
    page.hand_over("drop", broken)
    page.wait_for("the service's words", "document.getElementById('error').textContent.includes('these bytes')")


def test_markup_in_a_document_is_shown_and_never_run(page: Page) -> None:
    page.open("/?q=house&kind=text")
    page.results()
    shown = page.one("li[data-id=hostile] blockquote")
    assert shown.text.startswith("<img src=x onerror=")
    assert not shown.find_elements(By.CSS_SELECTOR, "img")
    assert page.driver.title != "run"


def test_an_error_of_the_service_is_shown_in_its_own_words(
    page: Page, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(request: SearchRequest) -> SearchAnswer:
        raise Overloaded("Too many searches are waiting.")

    monkeypatch.setattr(gallery.search, "search", full)
    page.open("/?q=red+boat")
    assert page.error() == "Too many searches are waiting."
    assert page.one("#error").get_attribute("role") == "alert"
    monkeypatch.undo()
    page.search("red boat")
    assert page.results()
    assert not page.one("#error").is_displayed()


def test_a_service_that_is_not_ready_says_why(page: Page, gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    async def readiness() -> Readiness:
        return Readiness(ItemFailure("fingerprint_mismatch", "The table belongs to another model."), None, None)

    monkeypatch.setattr(gallery.status, "readiness", readiness)
    page.open()
    assert "The table belongs to another model." in page.error()


def test_a_search_under_way_is_announced_and_a_newer_one_wins(
    page: Page, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = gallery.search.search

    async def slow(request: SearchRequest) -> SearchAnswer:
        await asyncio.sleep(1 if getattr(request.query, "text", "") == "red boat" else 0)
        return await ordinary(request)

    monkeypatch.setattr(gallery.search, "search", slow)
    page.open("/?q=red+boat")
    assert page.one("#status").text == "Searching…"
    assert page.one("#results").get_attribute("aria-busy") == "true"
    page.search("green tree")
    assert page.results()[0] in {"green-tree", "note"}
    assert page.one("#results").get_attribute("aria-busy") is None


def test_the_page_works_by_keyboard_alone(page: Page) -> None:
    page.open()
    page.driver.switch_to.active_element.send_keys("red boat" + Keys.ENTER)
    page.results()
    for _ in range(40):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        if "like" in (page.driver.switch_to.active_element.get_attribute("class") or ""):
            break
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.wait_for("the other results", "location.search.startsWith('?like=')")
    assert page.results()


def test_everything_that_can_be_used_has_a_name_and_every_picture_a_description(page: Page) -> None:
    page.open("/?q=red+boat")
    page.results()
    nameless = page.driver.execute_script("""
      return [...document.querySelectorAll("button, a, input, meter")]
        .filter((each) => !(each.getAttribute("aria-label") || each.textContent.trim() || each.labels?.length
          || each.querySelector("img[alt]:not([alt=''])")))
        .map((each) => each.outerHTML)""")
    assert nameless == []
    assert (
        page.driver.execute_script("return [...document.images].filter((each) => !each.hasAttribute('alt')).length")
        == 0
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(page: Page, width: int) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        page.open("/?q=red+boat")
        page.results()
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_reference_shows_every_operation(page: Page) -> None:
    page.open("/docs")
    page.wait_for("the operations", "document.querySelectorAll('article').length > 10")
    text = page.one("main").text
    assert "POST" in text
    assert "/v1/documents/{document_id}/thumbnail" in text
    assert "invalid_vector" in text
