"""A reviewer in real Chromium at the review pages: the prepared shop, the server in its own process, what he sees.

A test file that imports the fixture `prepared` has it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from agpis.data import Verdict
from agpis.records import Judged
from agpis.store import open_store
from bench.review_server import ReviewServer
from tests.review_shop import PASSWORD, prepare_shop


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen products and two accounts. Tests work on copies of the store."""
    return prepare_shop(tmp_path_factory.mktemp("shop"), 14)


class Server(ReviewServer):
    """On a copy of the prepared store."""

    def __init__(self, prepared: Path, folder: Path, *options: str) -> None:
        self.file = folder / "reviews.db"
        shutil.copy(prepared / "prepared.db", self.file)
        super().__init__(str(self.file), *options)

    def verdicts(self) -> list[Verdict]:
        with open_store(self.file) as store:
            return list(store.verdicts())

    def judged(self, sku: str) -> list[Judged]:
        with open_store(self.file) as store:
            return [judged for past in store.history(sku) for judged in past.verdicts]


class Desk:
    """A reviewer at the page: keys and the mouse, and what he sees."""

    def __init__(self, browser: Any, server: Server, name: str = "", **context: Any) -> None:
        self.server = server
        self.complaints: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **context})
        self.page = self.watched()
        if name:
            self.page.goto(f"{server.url}/queue")
            self.page.locator("input[name=name]").wait_for()
            self.page.keyboard.type(name)  # the field has the focus
            self.page.keyboard.press("Tab")
            self.page.keyboard.type(PASSWORD)
            self.page.keyboard.press("Enter")
            self.page.wait_for_url("**/queue")

    def watched(self) -> Any:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append("a dialog opened"))
        page.on("console", lambda message: self.complaints.append(message.text))
        return page

    def open(self, path: str = "/review") -> None:
        self.page.goto(f"{self.server.url}{path}")
        self.page.locator("#desk:not([hidden])").wait_for()
        self.look()

    def look(self) -> None:
        """As long as a person needs at least; sooner no key gives a verdict."""
        self.page.wait_for_timeout(230)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        if keys[-1] in "arun":
            self.look()

    @property
    def title(self) -> str:
        return str(self.page.locator("#title").text_content())

    @property
    def sku(self) -> str:
        return str(self.page.locator("#about bdi").first.text_content())

    @property
    def order(self) -> list[str]:
        return [str(text) for text in self.page.locator("#sequence .file").all_text_contents()]

    @property
    def said(self) -> str:
        return str(self.page.locator("#say").text_content())

    def wait_saved(self, text: str = "All saved") -> None:
        self.wait_for("saved", f"^{re.escape(text)}$")

    def wait_for(self, element: str, pattern: str) -> None:
        """Until the element of that id has text that matches. Not `wait_for_function`: what it asks again is evaluated
        in the page, which the page's content security policy forbids; the first answer alone comes from outside."""
        found = self.page.locator(f"#{element}").filter(has_text=re.compile(pattern))
        found.wait_for(state="attached")
