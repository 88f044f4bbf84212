"""report.py: what a person and a browser see of decisions, with hostile texts in them."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PImage

from agpis.data import STATUSES, Box, Candidate, Decision, ErrorInfo, Finding, Violation
from agpis.errors import OutputError, SettingsError
from agpis.report import STATUS_TEXTS, write_report

NAMES = {"banner": "Banner or text", "duplicate": "Duplicate", "too_small": "Too small", "wrong_order": "Wrong order"}
HOSTILE = [
    '<script>document.title="owned"</script>',
    "</script><img src=http://127.0.0.1:9/x onerror=alert(1)><!--",
    "quotes \" ' ` and & &amp; \\u003c",
    "قميص قطني للرجال (أزرق) XL",
    "纯棉连帽衫 👕🏽 深蓝色",
    "<!--products--> <!--rest--> {{ 7 * 7 }} {% raw %}",
    "lone \ud800 surrogate, null \0, line\u2028separator",
]


def webp(seed: int, width: int = 160, height: int = 120) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    PImage.fromarray(pixels).resize((width, height)).save(out, "WEBP", quality=60)
    return out.getvalue()


def product(number: int, **changes: Any) -> Decision:
    """Three chosen photos, a spare one, a banner (with box), a crop of the first, a lost one."""
    a, b, c, d, e, f, g = (f"https://shop.example/{number}/{letter}.jpg?v=1" for letter in "abcdefg")

    def photo(uri: str, **more: Any) -> Candidate:
        return Candidate(uri, **{"width": 1600, "height": 1200, "thumbnail": webp(number), **more})

    decision = Decision(
        sku=f"SKU-{number:04d}",
        status="generated",
        title=f"Mug number {number}",
        category="Kitchen/Mugs",
        sequence=(c, a, b),
        p_qualified=0.5,
        violations=(Violation("wrong_order", "multi", 0.25),),
        feedback="Please put the front view first.",
        candidates=(
            photo(a, outcome="selected"),
            photo(b, outcome="selected"),
            photo(c, outcome="primary"),
            photo(d),
            photo(
                e,
                outcome="removed",
                reason="banner",
                findings=(Finding("banner", box=Box(400, 300, 800, 120), probability=0.987),),
            ),
            photo(
                f,
                outcome="removed",
                reason="duplicate",
                duplicate_of=c,
                findings=(
                    Finding(
                        "duplicate",
                        "pair",
                        probability=0.9,
                        box=Box(0, 0, 1600, 1200),
                        other=c,
                        other_box=Box(160, 120, 800, 600),
                    ),
                    Finding("too_small", value=320, limit=500, unit="px"),
                ),
            ),
            Candidate(
                g,
                outcome="removed",
                reason="http_404",
                findings=(Finding("unreadable", message="The server answered 404."),),
            ),
        ),
    )
    return replace(decision, **changes)


class Blocks(HTMLParser):
    """What an HTML parser finds in a page: data blocks, executable scripts, meta elements, text of the title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.data: dict[str, Any] = {}
        self.code: list[str] = []
        self.styles: list[str] = []
        self.policy = ""
        self.elements: Counter[str] = Counter()
        self.text: dict[str, str] = {}
        self._open: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements[tag] += 1
        self._open = (tag, values)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._open = ("", {})

    def handle_data(self, data: str) -> None:
        tag, values = self._open
        if tag == "script" and values.get("type") == "application/json":
            self.data[str(values["id"])] = json.loads(data)
        elif tag == "script":
            self.code.append(data)
        elif tag == "style":
            self.styles.append(data)
        elif tag == "h1" or (tag == "title" and self.elements["title"] == 1):  # later ones are tips in the bar
            self.text[tag] = self.text.get(tag, "") + data


def parse(path: Path) -> Blocks:
    return Blocks(path.read_bytes().decode())


def write(tmp_path: Path, decisions: list[Decision], **options: Any) -> list[Path]:
    return write_report(iter(decisions), tmp_path / "report.html", **{"title": "T", "rule_names": NAMES, **options})


def test_texts_are_data_and_never_markup(tmp_path: Path) -> None:
    plain = parse(write(tmp_path, [product(0)], title="x")[0])
    decisions = [
        product(0, title=text, sku=text, category=text, feedback=text, error=ErrorInfo(text, text)) for text in HOSTILE
    ]
    decisions.append(
        product(1, sequence=(HOSTILE[1],), candidates=(Candidate(HOSTILE[1], reason=HOSTILE[0], outcome="removed"),))
    )
    page = parse(write(tmp_path, decisions, title=HOSTILE[1], rule_names={"banner": HOSTILE[1]})[0])
    assert [row[1] for row in page.data["index"]["rows"]] == [*HOSTILE, "Mug number 1"]
    assert page.data["p6"]["feedback"] == HOSTILE[6]
    assert page.data["p1"]["error"] == [HOSTILE[1], HOSTILE[1]]
    assert page.data["p7"]["photos"][0]["uri"] == HOSTILE[1]
    assert page.data["index"]["names"]["banner"] == HOSTILE[1]
    assert page.text == {"title": HOSTILE[1], "h1": HOSTILE[1]}
    for line in (tmp_path / "report.html").read_text().splitlines():
        if line.startswith('<script type="application/json"'):
            content = line[line.index(">") + 1 : -len("</script>")]
            assert not re.search("[<>&]", content)  # not even an end tag with a blank, or a comment
    assert json.dumps(HOSTILE[1])[1:-1] not in (tmp_path / "report.html").read_text()
    # Nothing of the texts became an element: the same elements as a harmless report, one data block more a product.
    assert page.code == plain.code
    grown = page.elements - plain.elements
    assert grown.pop("script") == len(decisions) - 1
    assert set(grown) <= {"li", "button", "span", "svg", "rect"}  # one more removal reason in the totals


def test_lone_surrogate_in_the_title(tmp_path: Path) -> None:
    assert parse(write(tmp_path, [product(0)], title="a\ud800b")[0]).text["h1"] == "a�b"


def test_policy_forbids_the_network(tmp_path: Path) -> None:
    import hashlib

    path = write(tmp_path, [product(0)])[0]
    page = parse(path)

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    rules = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": digest(page.styles[0]),
        "script-src": digest(page.code[0]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    markup = re.sub(r"<script.*?</script>|<style.*?</style>", "", path.read_text(), flags=re.S)
    assert not re.search(r"https?:|url\(|@import", markup)
    assert not re.search(r"https?:|url\(|@import|fetch\(|innerHTML", page.code[0] + page.styles[0])


def test_every_status_is_counted_and_named(tmp_path: Path) -> None:
    assert set(STATUS_TEXTS) == set(STATUSES)
    decisions = [product(n, status=status) for n, status in enumerate(STATUSES) for _ in range(n + 1)]
    path = write(tmp_path, decisions)[0]
    text = path.read_text()
    for n, status in enumerate(STATUSES):
        row = re.search(rf'data-status="{status}".*?</button>', text)
        assert row
        assert STATUS_TEXTS[status][0] in row[0]
        assert f'<span class="n">{n + 1}</span>' in row[0]
        assert f"{STATUS_TEXTS[status][0]}: {n + 1}</title>" in text  # the bar
    assert Counter(row[3] for row in parse(path).data["index"]["rows"]) == {s: n + 1 for n, s in enumerate(STATUSES)}
    widths = [float(w) for w in re.findall(r'width="([\d.]+)%" height="12"', text)]
    assert widths == pytest.approx([100 * (n + 1) / 15 for n in range(5)], abs=0.01)
    # Reasons: three removed photos a product, named by the rulebook or, for an image error, by its code in words.
    for rule, name in (("banner", "Banner or text"), ("duplicate", "Duplicate"), ("http_404", "HTTP 404")):
        row = re.search(rf'data-rule="{rule}".*?</button>', text)
        assert row
        assert f">{name}<" in row[0]
        assert '<span class="n">15</span>' in row[0]


def test_data_of_a_product(tmp_path: Path) -> None:
    decision = product(3, p_qualified=math.nan, violations=(Violation("wrong_order", "multi", math.inf),))
    page = parse(write(tmp_path, [decision, product(4, feedback="yes")])[0])
    data = page.data["p0"]
    assert data["sequence"] == [2, 0, 1]
    assert data["violations"] == [["wrong_order", "multi", None, -1]]
    banner, copy, lost = data["photos"][4:]
    assert banner["size"] == [1600, 1200]
    assert banner["findings"] == [{"rule": "banner", "probability": 0.987, "box": [400, 300, 800, 120]}]
    assert copy["twin"] == 2
    assert copy["findings"][0]["other"] == 2
    assert copy["findings"][0]["otherBox"] == [160, 120, 800, 600]
    assert copy["findings"][1] == {"rule": "too_small", "value": 320.0, "limit": 500.0, "unit": "px"}
    assert "thumb" not in lost
    assert base64.b64decode(banner["thumb"]) == webp(3)
    row = page.data["index"]["rows"][0]
    assert row == [
        "SKU-0003",
        "Mug number 3",
        "Kitchen/Mugs",
        "generated",
        None,
        ["banner", "duplicate", "http_404", "too_small", "unreadable", "wrong_order"],
    ]
    assert page.data["p1"]["feedback"] == ""  # "yes" is the decoder's word for accepted


def test_one_uri_twice_means_the_kept_one(tmp_path: Path) -> None:
    twice = (
        Candidate("a.jpg", outcome="removed", reason="duplicate", duplicate_of="a.jpg"),
        Candidate("a.jpg", outcome="primary"),
    )
    data = parse(write(tmp_path, [product(0, sequence=("a.jpg",), candidates=twice)])[0]).data["p0"]
    assert data["sequence"] == [1]
    assert data["photos"][0]["twin"] == 1


def test_pages(tmp_path: Path) -> None:
    stale = tmp_path / "report-4.html"
    write(tmp_path, [product(n) for n in range(4)], page_size=1)
    assert stale.exists()
    foreign = tmp_path / "report-9.html"
    foreign.write_text("not ours")
    paths = write(tmp_path, [product(n, status="failed" if n == 6 else "generated") for n in range(7)], page_size=3)
    assert [path.name for path in paths] == ["report.html", "report-2.html", "report-3.html"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "report-2.html",
        "report-3.html",
        "report-9.html",
        "report.html",
    ]
    pages = [parse(path) for path in paths]
    skus = [[row[0] for row in page.data["index"]["rows"]] for page in pages]
    assert [len(page) for page in skus] == [3, 3, 1]
    assert [sku for page in skus for sku in page] == [f"SKU-{n:04d}" for n in range(7)]
    assert set(pages[2].data) == {"index", "p0"}
    for number, path in enumerate(paths, 1):
        text = path.read_text()
        assert "7 products, 49 photos" in text  # the totals of the run stand on every page
        assert f'<b aria-current="page"><span class="sr">Page </span>{number}</b>' in text
        links = set(re.findall(r'href="(report[^"]*)"', text))
        assert links == {p.name for p in paths} - {path.name}
    assert "Products 4 to 6 of 7" in paths[1].read_text()


def test_many_pages_show_the_ends_and_the_neighbours(tmp_path: Path) -> None:
    small = [Decision(str(n), "failed") for n in range(40)]
    text = write(tmp_path, small, page_size=2)[9].read_text()
    first = text[text.index('class="pages first"') : text.index("</nav>")]
    assert re.findall(r"Page </span>(\d+)", first) == ["1", "8", "9", "10", "11", "12", "20"]
    assert first.count("&hellip;") == 2


@dataclass
class Sums:
    products: int = 1_234_567
    images: int = 8_000_000
    statuses: Counter[str] = field(default_factory=lambda: Counter(generated=1_234_567))
    reasons: Counter[str] = field(default_factory=lambda: Counter(banner=4321))


def test_limit_and_given_totals(tmp_path: Path) -> None:
    asked = 0

    def endless() -> Iterator[Decision]:
        nonlocal asked
        while True:
            asked += 1
            yield product(asked)

    path = write_report(endless(), tmp_path / "r.html", title="T", rule_names=NAMES, totals=Sums(), limit=5)[0]
    assert asked == 5
    text = path.read_text()
    assert "1,234,567 products, 8,000,000 photos" in text
    assert "the first 5 of 1,234,567 products" in text
    assert len(parse(path).data["index"]["rows"]) == 5
    # Without totals, those beyond the limit are counted.
    text = write(tmp_path, [product(n) for n in range(9)], limit=2)[0].read_text()
    assert "9 products, 63 photos" in text
    assert "the first 2 of 9 products" in text


@pytest.mark.parametrize("limit", [None, 0])
def test_no_products(tmp_path: Path, limit: int | None) -> None:
    decisions = [] if limit is None else [product(1)]
    (path,) = write(tmp_path, decisions, limit=limit)
    assert parse(path).data == {"index": {"threshold": None, "names": {}, "rows": []}}


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="page_size is 0; a page holds 1 product or more"):
        write(tmp_path, [], page_size=0)
    with pytest.raises(SettingsError, match="limit is -1; it is 0 or more, or None"):
        write(tmp_path, [], limit=-1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"Cannot write .*report\.html"):
        write_report([product(1)], tmp_path / "file" / "report.html", title="T", rule_names={})


def test_an_error_among_the_decisions_leaves_the_old_report(tmp_path: Path) -> None:
    write(tmp_path, [product(1)])
    before = (tmp_path / "report.html").read_bytes()

    def broken() -> Iterator[Decision]:
        yield product(2)
        raise RuntimeError("the run was stopped")

    with pytest.raises(RuntimeError, match="the run was stopped"):
        write_report(broken(), tmp_path / "report.html", title="T", rule_names=NAMES)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_bytes() == before


def test_memory_does_not_grow_with_the_pages(tmp_path: Path) -> None:
    import tracemalloc

    thumbnail = bytes(100_000)

    def decisions(count: int) -> Iterator[Decision]:
        for n in range(count):
            yield Decision(str(n), "generated", candidates=(Candidate("a", thumbnail=thumbnail + bytes([n])),))

    def peak(count: int) -> int:
        tracemalloc.start()
        write_report(decisions(count), tmp_path / "r.html", title="T", rule_names={}, page_size=10)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(1)
    assert peak(200) < peak(20) + 1_000_000  # 200 products hold 20 MB of thumbnails


@pytest.mark.browser
def test_in_a_browser(tmp_path: Path, browser: Any) -> None:
    decisions = [product(n, p_qualified=(n * 37 % 100) / 100) for n in range(120)]
    doubts = (
        Violation("wrong_order", "multi", 0.25, decisions[0].sequence[0]),
        Violation("wrong_order", "multi", 0.10),
        Violation("too_small", "single", 0.07, decisions[0].sequence[1]),
    )
    decisions[0] = product(0, p_qualified=0.0, violations=doubts, feedback_by="rulebook")
    decisions[6] = product(6, title="<!-- <script </script x", p_qualified=0.02)
    decisions[7] = product(7, title=HOSTILE[1], feedback=HOSTILE[0], p_qualified=0.01)
    decisions[8] = product(8, title="Café Crème خزف 杯子", p_qualified=0.99)
    failed = ErrorInfo("bad_line", "Line 9 has no <title>.")
    decisions[9] = Decision("SKU-0009", "failed", "Broken & lost", error=failed)
    decisions[10] = product(10, status="no_primary", sequence=(), p_qualified=None)
    path = write(tmp_path, decisions, title="Demo <b>", threshold=0.3)[0]

    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append("a dialog opened"))
    page.goto(path.as_uri())

    def cards() -> list[str]:
        found = page.eval_on_selector_all(".card h3", "all => all.map(e => e.textContent)")
        return [str(text) for text in found]

    def show_all() -> None:  # of 120: 30 are there, 90 to come
        for _ in range(4):
            page.evaluate("document.getElementById('more').click()")

    first = page.locator(".card").first
    first.locator(".shot img").first.wait_for()
    assert page.title() == "Demo <b>"
    assert page.locator("#count").text_content() == "120 products"
    # Lazy: cards come in lots of 30 as the reader goes on, with a mouse or by the button, in order, once each.
    assert len(cards()) == 30
    assert page.locator("#more").text_content() == "Show more: 90 left"
    page.locator("#more").evaluate("button => button.click()")
    page.locator(".card").nth(59).wait_for()
    assert page.evaluate("document.activeElement.querySelector('h3').textContent") == "Mug number 30"
    for _ in range(20):
        page.mouse.wheel(0, 20_000)
        page.wait_for_timeout(100)
    assert page.locator("#more").is_hidden()
    assert cards() == [decision.title for decision in decisions]
    page.evaluate("scrollTo(0, 0)")

    # The sequence in order, with its places.
    names = first.locator(".seq .file").all_text_contents()
    assert names == ["c.jpg", "a.jpg", "b.jpg"]
    assert first.locator(".seq .place").all_text_contents() == ["1 · primary", "2", "3"]
    assert first.locator(".rest .file").all_text_contents() == ["d.jpg"]
    assert first.locator(".seq img").first.get_attribute("alt") == "Place 1, primary: c.jpg of Mug number 0"
    assert "No preview" in str(first.locator(".left .empty").text_content())
    assert "The server answered 404." in str(first.locator(".left").text_content())
    assert "Please put the front view first." in str(first.text_content())
    assert first.locator(".chips li").all_text_contents() == [
        "Wrong order\u200225\u202f%\u2002photo 1",
        "Wrong order\u200210\u202f%",
        "Too small\u20027\u202f%\u2002photo 2",
    ]
    assert first.locator(".seq .blame").all_text_contents() == ["Doubt: wrong order", "Doubt: too small"]
    assert first.locator(".said h4").all_text_contents()[1] == "Expected feedback, in the rulebook\u2019s words"
    assert page.locator(".card").nth(1).locator(".said h4").all_text_contents()[1] == "Expected feedback"

    # Boxes: source pixels to the thumbnail's pixels. The frame of a 1600 x 1200 picture is 4:3.
    shapes = page.evaluate(
        """() => [...document.querySelectorAll(".card:first-child .left .box")].map(box => {
             const b = box.getBoundingClientRect(), f = box.parentElement.getBoundingClientRect();
             return [(b.x - f.x) / f.width, (b.y - f.y) / f.height, b.width / f.width, b.height / f.height,
                     f.width / f.height];
           })"""
    )
    expected = [[0.25, 0.25, 0.5, 0.1, 4 / 3], [0, 0, 1, 1, 4 / 3], [0.1, 0.1, 0.5, 0.5, 4 / 3]]
    assert np.allclose(shapes, expected, atol=0.02)
    pair = first.locator(".twins")
    assert pair.locator("img").count() == 2
    assert "Duplicate of photo 1 of the sequence" in str(pair.text_content())
    assert "also: too small" in str(pair.text_content())

    # All measurements, with units.
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    table = first.locator("table")
    table.wait_for()
    cells = table.locator("tr", has_text="Too small").locator("td").all_text_contents()
    assert cells[3:6] == ["Too small", "320\u00a0px", "500\u00a0px"]

    # Search folds case and accents, in any script, by title or SKU, and all words must be there.
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    for query, answer in (
        ("cafe creme", ["Café Crème خزف 杯子"]),
        ("杯子 خزف", ["Café Crème خزف 杯子"]),
        ("sku-0011", ["Mug number 11"]),
        ("number 11", ["Mug number 11", *(f"Mug number {n}" for n in range(110, 120))]),
        ("nothing like it", []),
    ):
        page.fill("#q", query)
        assert cards() == answer, query
    assert page.locator("#nothing").is_visible()
    page.click("#reset")
    assert page.locator("#count").text_content() == "120 products"

    # Filters: by the lists, and by the totals. They meet with the search, and are told to a screen reader.
    page.select_option("#status", "failed")
    assert cards() == ["Broken & lost"]
    assert page.locator("#count").text_content() == "1 of 120 products"
    broken = page.locator(".card")
    broken.locator(".oops").wait_for()
    assert broken.locator(".oops").text_content() == "bad_lineLine 9 has no <title>."
    page.click('[data-status="no_primary"]')
    assert cards() == ["Mug number 10"]
    page.select_option("#status", "")
    options = dict(page.eval_on_selector_all("#rule option", "all => all.map(o => [o.value, o.textContent])"))
    assert options["banner"] == "Banner or text (119)"
    page.select_option("#rule", "http_404")
    assert page.locator("#count").text_content() == "119 of 120 products"
    page.fill("#q", "broken")
    assert cards() == []
    page.click("#reset")

    # Order by p_qualified; products without one come last both ways.
    page.select_option("#sort", "up")
    assert cards()[:3] == ["Mug number 0", "Mug number 100", HOSTILE[1]]  # 0, 0 and 0.01
    show_all()
    assert cards()[-2:] == ["Broken & lost", "Mug number 10"]
    page.select_option("#sort", "down")
    assert cards()[0] == "Café Crème خزف 杯子"
    show_all()
    assert cards()[-2:] == ["Broken & lost", "Mug number 10"]

    # The view is in the address, and comes back with it.
    page.wait_for_url("**#sort=down")
    page.reload()
    page.locator(".card img").first.wait_for()
    assert cards()[0] == "Café Crème خزف 杯子"

    # Theme: the system's, then the reader's, kept over a reload.
    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    page.emulate_media(color_scheme="dark")
    page.locator("html[data-theme=dark]").wait_for(state="attached")
    dark = ground()
    assert dark != light
    page.click("#theme")
    assert ground() == light
    page.reload()
    assert ground() == light

    # A phone: nothing wider than the window, controls that a thumb can hit.
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator(".card img").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert (
        page.evaluate(
            "Math.min(...[...document.querySelectorAll('.tools input, .tools select')].map(e => e.offsetHeight))"
        )
        >= 40
    )

    # Every control has a name; every picture a text.
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button, [role=meter], [role=region]")]
             .filter(e => !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim())).length
             + [...document.querySelectorAll("img")].filter(e => !e.alt).length"""
    )
    assert nameless == 0
    assert complaints == []
    assert {request.split("#")[0] for request in requests if not request.startswith("data:")} == {path.as_uri()}
    context.close()
