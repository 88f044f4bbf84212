"""Nothing is lost or doubled, in real Chromium: the server is killed, the page closed, lease or session gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agpis.records import Given
from agpis.store import Store, open_store
from tests.review_pages import Desk, Server, prepared
from tests.review_shop import PASSWORD

__all__ = ["prepared"]  # a fixture
pytestmark = pytest.mark.browser


def test_a_killed_server_loses_and_doubles_nothing(prepared: Path, tmp_path: Path, browser: Any) -> None:
    with Server(prepared, tmp_path, "--open") as server:
        me = Desk(browser, server)
        me.open()
        me.press("a")
        me.wait_saved()
        server.kill()
        me.press("a")
        me.press("4")
        me.press("r")
        me.wait_saved("2 verdicts wait here to be sent")
        assert "The server does not answer" in str(me.page.locator("#notices").text_content())
        assert me.title == "Spotted thing 3"  # he goes on with what is loaded
        assert len(server.verdicts()) == 1
        # The laptop is closed, the server comes back, the next day the page is opened again.
        me.page.close()
        server.start()
        me.page = me.watched()
        me.page.goto(f"{server.url}/queue")
        me.wait_saved("")
        kept = server.verdicts()
        assert [(v.sku, v.accepted, v.rules) for v in kept] == [
            ("SKU-0", True, ()), ("SKU-1", True, ()), ("SKU-2", False, ("duplicate",)),
        ]  # fmt: skip
        # An answer that got lost on the way: the verdict is sent again and is the same one.
        me.open()
        lost: list[str] = []

        def cut(route: Any) -> None:
            response = route.fetch()  # the server has it
            lost.append(response.text())
            route.abort()

        me.page.route("**/api/verdict", cut, times=1)
        me.press("a")
        me.wait_saved()
        assert lost == ['{"again": false}']
        assert [v.sku for v in server.verdicts()] == [f"SKU-{n}" for n in range(4)]
        # Opened anew while a verdict waits: what is judged is not shown again, though its lease runs.
        me.page.route("**/api/verdict", lambda route: route.abort())
        me.press("a")
        me.page.reload()
        me.page.locator("#desk:not([hidden])").wait_for()
        assert me.sku == "SKU-5"
        me.page.unroute("**/api/verdict")
        me.wait_saved()
        assert [v.sku for v in server.verdicts()] == [f"SKU-{n}" for n in range(5)]
        assert [text for text in me.complaints if "ERR_" not in text] == []
        me.context.close()


def test_a_lost_lease_is_said_clearly(prepared: Path, tmp_path: Path, browser: Any) -> None:
    def lose(store: Store, number: int) -> None:
        store.release("ann", number)
        store.take("bob", number)
        store.give(Given(str(uuid4()), number, "bob", True))

    with Server(prepared, tmp_path) as server:
        ann = Desk(browser, server, "ann")
        ann.open()
        with open_store(server.file) as store:
            lose(store, 1)
        ann.press("4")
        ann.press("r")
        notice = ann.page.locator("#notices .refused")
        notice.wait_for()
        assert "Your verdict on Spotted thing 0 (Rejected, Duplicated content) was not kept" in str(
            notice.text_content()
        )
        assert [(v.sku, v.reviewer) for v in server.verdicts()] == [("SKU-0", "bob")]
        ann.page.reload()
        notice.wait_for()  # until he has understood
        notice.locator("button").click()
        assert notice.count() == 0
        ann.wait_saved()
        # Signed out meanwhile: the verdict waits, and goes out after the next sign-in.
        with open_store(server.file) as store:
            store.disable("ann")
            store.disable("ann", False)
        ann.look()
        ann.press("a")
        ann.page.locator("#notices a").wait_for()
        ann.page.click("#notices a")
        ann.page.fill("input[name=name]", "ann")
        ann.page.fill("input[name=password]", PASSWORD)
        ann.page.click("main button")
        ann.page.wait_for_url("**/review")
        ann.wait_saved()
        assert [(v.sku, v.reviewer) for v in server.verdicts()] == [("SKU-0", "bob"), ("SKU-1", "ann")]
        ann.context.close()
