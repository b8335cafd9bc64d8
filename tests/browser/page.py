"""The search page as a user sees it: what can be read and done there. Knows nothing of the service."""

import base64
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

HAND_OVER = """
const [kind, content, name, type] = arguments;
const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type }));
const how = { bubbles: true, cancelable: true };
const event = kind === "paste"
  ? new ClipboardEvent("paste", { ...how, clipboardData: transfer })
  : new DragEvent(kind, { ...how, dataTransfer: transfer });
document.getElementById("words").dispatchEvent(event);
"""


class Page:
    """One window. Waits for what it is asked for, five seconds at most."""

    def __init__(self, driver: WebDriver, address: str) -> None:
        self.driver = driver
        self.address = address

    def open(self, tail: str = "/") -> "Page":
        self.driver.get(self.address + tail)
        return self

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait_for(self, what: str, condition: str, within_s: float = 5.0) -> None:
        """`condition` is an expression of JavaScript."""
        waiting = WebDriverWait(self.driver, within_s)
        waiting.until(lambda driver: driver.execute_script(f"return Boolean({condition})"), what)

    def search(self, words: str) -> None:
        box = self.one("#words")
        box.clear()
        box.send_keys(words + "\n")

    def hand_over(self, how: str, file: Path, media_type: str = "image/png") -> None:
        """`how`: "drop" or "paste"."""
        content = base64.b64encode(file.read_bytes()).decode()
        self.driver.execute_script(HAND_OVER, how, content, file.name, media_type)

    def choose(self, file: Path) -> None:
        self.one("#picture").send_keys(str(file))

    def results(self) -> list[str]:
        """The ids of the results, best first, once a search is done."""
        self.wait_for("results", "document.getElementById('status').textContent.includes(' result')")
        ids = self.driver.execute_script(
            "return [...document.querySelectorAll('#results > li')].map((li) => li.dataset.id)"
        )
        return list(ids)

    def error(self) -> str:
        self.wait_for("an error", "!document.getElementById('error').hidden")
        return self.one("#error").text

    @property
    def query(self) -> str:
        return str(self.driver.execute_script("return location.search"))
