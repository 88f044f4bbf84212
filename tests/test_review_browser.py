"""Judging in real Chromium, against the real server in a process of its own: keys, mouse, words, blind mode, speed."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from agpis.data import Box
from tests.review_pages import Desk, Server, prepared

__all__ = ["prepared"]  # a fixture
pytestmark = pytest.mark.browser
LOADED = "[...document.querySelectorAll('#sequence img')].every(i => i.complete && i.naturalWidth)"
PRESS_A = 'document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "a", bubbles: true, repeat: repeat}))'


def test_two_reviewers_at_once(prepared: Path, tmp_path: Path, browser: Any) -> None:
    with Server(prepared, tmp_path) as server:
        ann, bob = Desk(browser, server, "ann"), Desk(browser, server, "bob")
        ann.open()
        bob.open()
        assert ann.title == "Spotted thing 0"  # the least sure one
        assert ann.order == ["0-0.jpg", "0-1.jpg", "0-2.jpg"]
        assert ann.page.locator("#others .file").all_text_contents() == ["0-3.jpg", "0-4.jpg"]
        assert ann.page.locator("#others .note").all_text_contents() == ["Banner"]
        held = {ann.sku, bob.sku}
        assert len(held) == 2

        # Accept: one key, the next sequence is there, its pictures loaded.
        ann.press("a")
        assert ann.title == "Spotted thing 1"
        assert ann.said == "Accepted: Spotted thing 0"
        assert ann.page.evaluate(
            "[...document.querySelectorAll('#sequence img')].every(i => i.complete && i.naturalWidth)"
        )
        assert ann.page.evaluate("document.activeElement.id") == "title"  # a screen reader goes on with it

        # Reject: without a reason it is asked for; rule by number, photo by Shift and number, box by mouse, words.
        ann.press("r")
        assert ann.said.startswith("Say why first")
        ann.press("1", "Shift+2")
        assert ann.page.locator('[data-rule="banner"]').get_attribute("aria-pressed") == "true"
        assert ann.page.locator('.photo[data-n="1"]').get_attribute("aria-pressed") == "true"
        ann.page.locator('.photo[data-n="1"]').focus()
        ann.press("b")
        edge = ann.page.locator("#sheet").bounding_box()
        scale = edge["width"] / 480
        ann.page.mouse.move(edge["x"] + 48 * scale, edge["y"] + 60 * scale)
        ann.page.mouse.down()
        ann.page.mouse.move(edge["x"] + 100 * scale, edge["y"] + 100 * scale)
        ann.page.mouse.move(edge["x"] + 240 * scale, edge["y"] + 300 * scale)
        ann.page.mouse.up()
        ann.press("Enter", "f")
        ann.page.keyboard.press("Control+A")
        ann.page.keyboard.type("Take off the banner, please.")
        ann.press("Escape", "r")
        ann.wait_saved()
        (kept,) = [verdict for verdict in server.verdicts() if verdict.sku == "SKU-1"]
        assert (kept.accepted, kept.rules, kept.image_index, kept.reviewer) == (False, ("banner",), 1, "ann")
        assert kept.feedback == "Take off the banner, please."
        assert kept.box is not None
        assert abs(kept.box.x - 48) + abs(kept.box.y - 60) + abs(kept.box.w - 192) + abs(kept.box.h - 240) <= 6

        # Bob works on at the same time; nobody gets what the other has.
        seen = {ann.sku, bob.sku}
        bob.press("a")
        seen |= {bob.sku}
        ann.press("a")
        assert ann.sku not in seen
        bob.wait_saved()
        ann.wait_saved()
        by_reviewer = [(verdict.sku, verdict.reviewer) for verdict in server.verdicts()]
        assert len({sku for sku, _ in by_reviewer}) == len(by_reviewer) == 4
        assert ann.complaints == bob.complaints == []
        ann.context.close()
        bob.context.close()


def test_reorder_swap_undo_and_type_ahead(prepared: Path, tmp_path: Path, browser: Any) -> None:
    with Server(prepared, tmp_path, "--open") as server:
        me = Desk(browser, server)
        me.open()

        # Reorder by keys. Nothing but the order has changed: the rule says itself so.
        me.press("ArrowRight", "ArrowRight", "Shift+ArrowLeft")
        assert me.order == ["0-1.jpg", "0-0.jpg", "0-2.jpg"]
        assert me.said == "Moved to place 1."
        assert "Wrong order" in str(me.page.locator("#chosen").text_content())
        assert me.page.locator("#accept").text_content() == "Accept as corrected A"
        me.press("o")
        assert me.order == ["0-0.jpg", "0-1.jpg", "0-2.jpg"]
        assert me.page.locator("#chosen").text_content() == ""

        # Swap in a candidate by keys: to the others, S, the place. Then accept as corrected.
        me.press("ArrowLeft", "ArrowDown", "s", "2")
        assert me.order == ["0-0.jpg", "0-3.jpg", "0-2.jpg"]
        me.press("a")
        me.wait_saved()
        (kept,) = server.verdicts()
        assert (kept.accepted, kept.rules, kept.feedback) == (False, (), "")
        assert kept.sequence == ("images/0-0.jpg", "images/0-1.jpg", "images/0-2.jpg")
        assert kept.corrected == ("images/0-0.jpg", "images/0-3.jpg", "images/0-2.jpg")

        # Undo: the sequence is back with what had been done to it, and can be judged anew.
        me.press("u")
        assert me.title == "Spotted thing 0"
        assert me.order == ["0-0.jpg", "0-3.jpg", "0-2.jpg"]
        me.wait_saved()
        assert server.verdicts() == []
        me.press("o")
        me.press("a")
        me.wait_saved()
        assert [(v.accepted, v.corrected) for v in server.verdicts()] == [(True, ())]
        assert [judged.undone is not None for judged in server.judged("SKU-0")] == [True, False]

        # Drag with the mouse: reorder, swap in, take out.
        def drag(start: str, end: str) -> None:
            a, b = (me.page.locator(place).bounding_box() for place in (start, end))
            me.page.mouse.move(a["x"] + a["width"] / 2, a["y"] + a["height"] / 2)
            me.page.mouse.down()
            me.page.mouse.move(a["x"] + a["width"] / 2 + 20, a["y"] + a["height"] / 2)
            me.page.mouse.move(b["x"] + b["width"] / 2, b["y"] + b["height"] / 2, steps=4)
            me.page.mouse.up()

        assert me.title == "Spotted thing 1"
        drag('#sequence .photo[data-n="2"]', '#sequence .photo[data-n="0"]')
        assert me.order == ["1-2.jpg", "1-0.jpg", "1-1.jpg"]
        drag('#others .photo[data-n="3"]', '#sequence .photo[data-n="1"]')
        assert me.order == ["1-2.jpg", "1-0.jpg", "1-3.jpg"]
        drag('#sequence .photo[data-n="0"]', "#others")
        assert me.order == ["1-2.jpg", "1-3.jpg"]
        assert me.page.locator(".blamed").count() == 0  # the end of a drag is no click

        # Type-ahead: any rule by a few letters; a second one; the box by keys alone.
        me.press("/")
        me.page.keyboard.type("rot")
        assert me.page.locator("#found [role=option]").first.text_content() == "RotatedOne photo"
        me.press("Enter", "4")
        assert me.page.locator("#chosen .chip").all_text_contents() == ["Rotated ×", "Duplicated content ×"]
        me.page.locator('.photo[data-n="2"]').focus()
        me.press("b", "ArrowRight", "ArrowRight", "Shift+ArrowDown", "Enter")
        me.page.locator("#sequence .box").wait_for()
        me.press("r")
        me.wait_saved()
        kept = server.verdicts()[-1]
        assert (kept.sku, kept.rules, kept.image_index) == ("SKU-1", ("rotation", "duplicate"), 2)
        assert kept.corrected == ("images/1-2.jpg", "images/1-3.jpg")
        assert kept.box == Box(156, 180, 192, 252)  # begins as 40 %, moved by 12, grown by 12

        # A key held down is not meant for the sequences that follow, and a reason contradicts an acceptance.
        me.press("2")
        me.press("a")
        assert me.said.startswith("A reason is given")
        before = me.title
        me.press("2")
        me.look()
        me.page.evaluate(f"for (const repeat of [false, true, false]) {PRESS_A}")  # held, and again within the pause
        me.wait_saved()
        assert len(server.verdicts()) == 3
        assert me.title != before
        me.look()
        me.press("n")
        assert me.said.startswith("Skipped")
        me.page.reload()
        me.page.locator("#desk:not([hidden])").wait_for()
        me.press("u")  # a verdict from before the reload
        me.wait_for("say", "^Undone")
        assert me.title == before
        assert me.complaints == []
        me.context.close()


def test_the_models_words_and_blind_mode(prepared: Path, tmp_path: Path, browser: Any) -> None:
    with Server(prepared, tmp_path, "--open") as server:
        me = Desk(browser, server)
        me.open()
        words = me.page.locator("#feedback")
        assert words.input_value() == "The second photo of 0 is bad."
        assert "The model wrote this, not you." in str(me.page.locator("#author").text_content())
        assert "50 % chance of acceptance" in str(me.page.locator("#opinion").text_content())
        me.press("1")  # another rule than the model's: its words are not about that
        assert words.input_value() == ""
        me.press("1", "m")  # what the model suspects: rule, photo and words
        assert words.input_value() == "The second photo of 0 is bad."
        me.press("r")
        me.press("a")  # the model's words are no reason, and are not sent with an acceptance
        me.wait_saved()
        first, second = server.verdicts()
        assert (first.rules, first.image_index) == (("watermark",), 1)
        assert first.feedback == "The second photo of 0 is bad."
        assert (second.accepted, second.feedback) == (True, "")
        assert [server.judged(sku)[0].blind for sku in ("SKU-0", "SKU-1")] == [False, False]

        # Blind: nothing of the opinion is on the page, and what is fetched from now on does not have it.
        me.press("h")
        told: list[str] = []
        me.page.on("response", lambda response: told.append(response.text()) if "lease" in response.url else None)
        me.page.reload()
        me.page.locator("#desk:not([hidden])").wait_for()
        text = str(me.page.locator("main").inner_text())
        assert not re.search(r"chance|Doubt|suspects", text)
        assert words.input_value() == ""
        assert me.page.locator(".note").count() == 0
        assert told
        assert not re.search(r'"p":|why|second photo|"boxes"', "".join(told))
        me.look()
        me.press("a")
        me.wait_saved()
        assert server.judged("SKU-2")[0].blind
        me.page.goto(f"{server.url}/queue")
        assert me.page.locator("select[name=rule], select[name=band]").count() == 0
        assert "%" not in str(me.page.locator("main").inner_text())
        me.open()
        me.press("h")
        me.wait_for("opinion", "chance")
        me.press("a")
        me.wait_saved()
        assert not server.judged("SKU-3")[0].blind  # he looked
        assert me.complaints == []
        me.context.close()


def test_the_next_sequence_is_there_at_once(prepared: Path, tmp_path: Path, browser: Any) -> None:
    with Server(prepared, tmp_path, "--open") as server:
        me = Desk(browser, server)
        me.open()
        # Time on the page's thread, not on the clock: other programs may hold the machine meanwhile.
        meter = me.context.new_cdp_session(me.page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy() -> float:
            metrics = meter.send("Performance.getMetrics")["metrics"]
            return next(1000 * float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")

        times, waited = [], []
        for _ in range(10):
            me.page.wait_for_timeout(300)
            before = busy()
            there, spent = me.page.evaluate(
                f"""async () => {{
                     const about = () => document.getElementById("about").textContent;
                     const before = about(), start = performance.now(), repeat = false;
                     {PRESS_A};
                     const there = about() !== before && {LOADED};
                     await new Promise(requestAnimationFrame);
                     await new Promise(requestAnimationFrame);
                     return [there, performance.now() - start];
                   }}"""
            )
            times.append(busy() - before)
            waited.append(float(spent))
            assert there  # when the key's event is over: nothing is waited for
        print(
            f"next sequence: median {median(times):.0f} ms of work, {median(waited):.0f} ms with waiting and painting"
        )
        assert median(times) < 100
        me.wait_saved()
        assert len(server.verdicts()) == 10
        me.context.close()
