"""Around the judging, in real Chromium: the queue's filters, the team's figures, hostile texts, every width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agpis.store import open_store
from tests.review_pages import Desk, Server, prepared
from tests.review_shop import HOSTILE, decision

__all__ = ["prepared"]  # a fixture
pytestmark = pytest.mark.browser
SHAPES = """[...document.querySelectorAll(".photo")].map(photo => {
  const a = photo.getBoundingClientRect(), b = photo.querySelector(".frame").getBoundingClientRect();
  const inside = b.top >= a.top - 1 && b.bottom <= a.bottom + 1 && b.left >= a.left - 1 && b.right <= a.right + 1;
  return [inside, Math.round(50 * b.width / b.height) / 50];
})"""


def test_filters_of_the_queue_hold_for_the_review(prepared: Path, tmp_path: Path, browser: Any) -> None:
    with Server(prepared, tmp_path, "--open") as server:
        me = Desk(browser, server)
        me.page.goto(f"{server.url}/queue")
        assert me.page.locator(".head p").text_content() == "14 sequences"
        me.page.select_option("select[name=rule]", "blur")
        me.page.select_option("select[name=category]", "Things")
        me.page.select_option("select[name=band]", "0.5-0.7")
        me.page.click(".filters button")
        assert me.page.locator(".head p").text_content() == "3 sequences"
        assert me.page.locator(".line .title").all_text_contents() == [f"Spotted thing {n}" for n in (1, 3, 5)]
        me.page.click("#start")
        me.page.locator("#desk:not([hidden])").wait_for()
        assert me.page.locator("#left").text_content() == "3 left"
        seen = []
        for _ in range(3):
            seen.append(me.title)
            me.look()
            me.press("a")
        assert seen == [f"Spotted thing {n}" for n in (1, 3, 5)]
        me.wait_for("state", "^Nothing is left")
        me.page.goto(f"{server.url}/queue?text=thing+12")
        me.page.click(".line a")  # this very one
        me.page.locator("#desk:not([hidden])").wait_for()
        assert me.title == "Spotted thing 12"
        me.page.goto(f"{server.url}/queue?status=failed")
        assert "Nothing matches" in str(me.page.locator("main").inner_text())
        me.page.goto(f"{server.url}/day")
        assert me.page.locator(".figures dd").first.text_content() == "3"
        assert me.complaints == []
        me.context.close()


def test_double_review_and_agreement(prepared: Path, tmp_path: Path, browser: Any) -> None:
    with Server(prepared, tmp_path, "--double", "1") as server:
        ann, bob = Desk(browser, server, "ann"), Desk(browser, server, "bob")
        for person, last in ((ann, "a"), (bob, "r")):
            person.open("/review?category=Objects")
            skus = []
            for number in range(4):
                skus.append(person.sku)
                if number == 3 and last == "r":
                    person.press("9")
                person.press(last if number == 3 else "a")
            person.wait_saved()
            assert skus == ["SKU-0", "SKU-2", "SKU-4", "SKU-6"]  # both are given the same
        assert len(server.verdicts()) == 8
        ann.page.goto(f"{server.url}/team")
        figures = ann.page.locator(".figures").nth(1).locator("dd").all_text_contents()
        assert figures == ["4", "75 %", "0.00", "0.00"]  # kappa of 3 yes-yes and 1 yes-no
        rates = ann.page.locator(".figures").nth(0).locator("dd").all_text_contents()
        assert rates == ["0 %", "0 %–56 %", "3"]  # of the fourth nothing is settled: one accepts, one rejects
        assert "Redundant views" not in str(ann.page.locator("main").inner_text())
        assert ann.page.locator("svg.chart").count() == 2
        assert ann.complaints == bob.complaints == []
        ann.context.close()
        bob.context.close()


def test_hostile_texts_names_and_widths(prepared: Path, tmp_path: Path, browser: Any) -> None:
    server = Server(prepared, tmp_path, "--open")
    try:
        with open_store(server.file) as store:
            texts = {"title": HOSTILE, "category": HOSTILE, "feedback": HOSTILE}
            store.add([decision(3, sku=HOSTILE, bundle=HOSTILE, p_qualified=0.5, **texts)], base=str(prepared))
        me = Desk(browser, server, viewport={"width": 820, "height": 1180}, has_touch=True)
        me.open(f"/review?text={HOSTILE[:9]}")
        assert me.title == HOSTILE
        assert me.page.locator("#feedback").input_value() == HOSTILE
        assert me.page.locator("main script:not([type])").count() == 0
        assert me.page.title() != "owned"
        assert me.page.evaluate(SHAPES) == [[True, 0.8]] * 5  # photos of 480 x 600, whole
        for width, height in ((1366, 720), (1900, 560), (390, 844)):
            me.page.set_viewport_size({"width": width, "height": height})
            assert me.page.evaluate(SHAPES) == [[True, 0.8]] * 5
        me.page.set_viewport_size({"width": 820, "height": 1180})
        # A finger: mark, draw, swap in, judge.
        me.page.locator('.photo[data-n="1"]').tap()
        assert me.page.locator(".blamed").count() == 1
        me.page.locator('#others button:has-text("Swap in")').first.tap()
        me.page.locator(".here").nth(2).tap()
        assert me.order == ["3-0.jpg", "3-1.jpg", "3-3.jpg"]
        me.page.locator('[data-rule="banner"]').tap()
        me.page.locator("#reject").tap()
        me.wait_saved()
        kept = server.verdicts()[0]
        assert (kept.title, kept.image_index, kept.rules, kept.feedback) == (HOSTILE, 1, ("banner",), "")
        for path in ("/queue?reviewed=any", "/review", "/team", "/day", f"/history?sku={decision(1).sku}"):
            for width in (390, 820, 1440):
                me.page.set_viewport_size({"width": width, "height": 900})
                me.page.goto(f"{server.url}{path}")
                me.page.wait_for_timeout(150)
                assert me.page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            nameless = me.page.evaluate(
                """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")]
                     .filter(e => !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim())).length
                     + [...document.querySelectorAll("img:not([alt])")].length"""
            )
            assert nameless == 0, path
        assert me.complaints == []
        me.context.close()
    finally:
        server.kill()
