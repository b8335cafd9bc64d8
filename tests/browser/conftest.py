"""Headless Chromium before the page, which is served over a loopback port. Installs Chromium where it is missing."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from serve_app.http.app import create_app
from tests.browser.gallery import SCENES, TEXTS, Gallery, draw, fill
from tests.browser.page import Page
from tests.http.serving import serving

PACKAGES = ("chromium", "chromium-driver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def _install() -> None:
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    try:
        subprocess.run(["apt-get", "update"], check=True, capture_output=True)
        subprocess.run(["apt-get", "install", "-y", *PACKAGES], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.fail(f"The tests of the page need Chromium: install the packages {' and '.join(PACKAGES)} ({error}).")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    _install()
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, "--window-size=1280,900", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return asyncio.run(fill({words: draw(words) for words in SCENES}, TEXTS))


@pytest.fixture(scope="module")
def address(gallery: Gallery) -> Iterator[str]:
    with serving(create_app(*gallery.parts)) as address:
        yield address


@pytest.fixture
def page(chromium: webdriver.Chrome, address: str) -> Iterator[Page]:
    """The page, opened afresh. A script error, or anything that the page's policy forbade, fails the test."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    page = Page(chromium, address)
    yield page
    said = [entry["message"] for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in said if "Failed to load resource" not in message] == []


@pytest.fixture
def picture_file(tmp_path: Path) -> Path:
    """A picture of the user's own: the very bytes of one in the table."""
    file = tmp_path / "mine.png"
    file.write_bytes(draw("blue cat"))
    return file
