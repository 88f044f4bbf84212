"""The review pages without a browser: leases, verdicts, what each page says; figures of the team; the command."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import typer
from typer.testing import CliRunner

from agpis.charts import Point, count_chart, share_chart
from agpis.data import Verdict
from agpis.errors import ImageError, OutputError, SettingsError
from agpis.images import decode
from agpis.manifest import Manifest
from agpis.output_folder import open_output
from agpis.records import Judged, Pair, Query
from agpis.review import make_app, serve
from agpis.review_commands import _shown, _store_of, register
from agpis.review_desk import Options, band_name, query_of
from agpis.review_item import file_name, rule_list
from agpis.review_team import agreement, team
from agpis.shards import encode_rows, replace_file
from agpis.sources import LIMITS, WIDTHS, Pictures, location, uris
from agpis.store import Store, open_store
from agpis.wording import EVERYWHERE, KEYS, WORDS, say
from tests.image_server import ImageServer, picture_bytes
from tests.review_shop import PASSWORD, RULEBOOK, Person, another, decision, pages, prepare_shop, shop

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_shop(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def me(tmp_path: Path, drawn: Path) -> Iterator[tuple[Store, Person]]:
    """The one person of open mode."""
    with shop(drawn, tmp_path, url="http://localhost", open=True, reviewer="me") as (store, person):
        person.look("/queue")
        yield store, person


def body(item: dict[str, object], **more: object) -> dict[str, object]:
    return {"key": str(uuid4()), "decision": item["id"], "v": item["v"], "accepted": True, **more}


def test_a_verdict_comes_out_as_a_sample(me: tuple[Store, Person]) -> None:
    store, person = me
    first, second, third = person.lease(3)
    assert (first["sku"], first["sequence"], first["seen"]) == ("SKU-0", [0, 1, 2], 0)
    assert first["photos"][4] == {
        "name": "0-4.jpg", "size": [480, 600], "removed": True, "why": "Banner", "boxes": [[10, 20, 300, 90]],
    }  # fmt: skip
    sent = body(
        first, accepted=False, rules=["banner", "blur", "banner"], photo=2, box=[1, 2, 3, 4], corrected=[3, 0],
        feedback="  Off\0 with it. ", seconds=4.5, blind=True,
    )  # fmt: skip
    assert person.ask("/api/verdict", **sent).json() == {"again": False}
    assert person.ask("/api/verdict", **sent).json() == {"again": True}  # a retry
    # An acceptance keeps nothing of what was begun; an order that was restored is no correction.
    assert person.ask("/api/verdict", **body(second, rules=["blur"], feedback="x", photo=0)).status_code == 200
    assert person.ask("/api/verdict", **body(third, accepted=False, corrected=[0, 1, 2])).status_code == 200
    verdicts = list(store.verdicts())
    assert [(v.accepted, v.rules, v.image_index, v.feedback) for v in verdicts] == [
        (False, ("banner", "blur"), 2, "Off with it."), (True, (), None, ""), (False, (), None, ""),
    ]  # fmt: skip
    assert verdicts[0].corrected == ("images/0-3.jpg", "images/0-0.jpg")
    assert verdicts[2].corrected == ()
    assert (verdicts[0].reviewer, verdicts[0].bundle, verdicts[0].p_qualified) == ("me", "starter", 0.5)
    (past,) = store.history("SKU-0")
    assert (past.verdicts[0].seconds, past.verdicts[0].blind) == (4.5, True)


def test_a_verdict_of_another_store_is_refused(me: tuple[Store, Person]) -> None:
    """A browser's outbox outlives the server: the same number may be another product by then."""
    store, person = me
    item = person.lease()[0]
    response = person.ask("/api/verdict", **body(item) | {"v": "0123456789abcdef"})
    assert (response.status_code, response.json()["code"]) == (409, "other_decision")
    assert person.ask("/api/verdict", **body(item) | {"decision": 999}).status_code == 404
    assert list(store.verdicts()) == []


def test_a_browser_that_was_closed_can_still_send_its_verdicts(me: tuple[Store, Person]) -> None:
    """Its cookie is gone, what waits in its outbox is not; the page that it opens first may be any."""
    store, person = me
    item = person.lease()[0]
    later = another(person)
    later.look("/team")
    assert later.ask("/api/verdict", **body(item)).status_code == 403
    later.mark = later.get("/api/session").json()["csrf"]
    assert later.ask("/api/verdict", **body(item)).status_code == 200
    assert store.count(Query(reviewed="done")) == 1


def test_leases_are_kept_renewed_passed_and_released(tmp_path: Path, drawn: Path) -> None:
    with shop(drawn, tmp_path) as (store, ann):
        ann.sign_in("ann")
        bob = another(ann)
        bob.sign_in("bob")
        held = [item["id"] for item in ann.lease(2)]
        assert [item["id"] for item in ann.lease(2)] == held  # a reload
        assert ann.ask("/api/renew", ids=[*held, 6, 99]).json() == {"held": [*held, 6], "asked": [*held, 6, 99]}
        assert not {item["id"] for item in bob.lease(9)} & {*held, 6}
        assert ann.ask("/api/release", ids=[6]).json() == {"released": 1}
        assert 6 in {item["id"] for item in bob.lease(9)}
        assert held[0] not in [item["id"] for item in ann.lease(5, passing=[held[0]])]
        answer = bob.ask("/api/lease", count=1, first=held[0]).json()
        assert answer["taken"]
        assert held[0] not in [item["id"] for item in answer["items"]]
        assert store.take("bob", held[0]) is None


def test_filters_of_the_address(me: tuple[Store, Person]) -> None:
    _, person = me
    assert [item["sku"] for item in person.lease(9, filter="?rule=blur&band=0.5-0.7")] == ["SKU-1", "SKU-3", "SKU-5"]
    answer = person.ask("/api/lease", count=9, filter="?category=Objects&text=thing+4&other=x").json()
    assert ([item["sku"] for item in answer["items"]], answer["left"]) == (["SKU-4"], 1)
    assert person.ask("/api/lease", count=1, filter="?band=0-2").status_code == 422
    text = person.look("/queue?rule=blur&status=generated")
    assert "3 sequences" in text
    assert '<option value="blur" selected>' in text
    assert 'href="/review?status=generated&amp;rule=blur"' in text
    with pytest.raises(SettingsError, match="There is no filter 'odd'"):
        query_of({"status": "odd"})
    assert band_name("0.3-0.5") == "30 – 50 %"


def test_the_queue_is_paged(tmp_path: Path, drawn: Path) -> None:
    with open_store(tmp_path / "reviews.db") as store:
        store.add((decision(0, sku=f"S{n:03}", p_qualified=0.5 + n / 1000) for n in range(70)), base=str(drawn))
        with pages(store, url="http://localhost", open=True) as person:
            seen, address = [], "/queue"
            while address:
                text = person.look(address)
                seen += re.findall(r"<bdi>(S\d+)</bdi>", text)
                found = re.search(r'rel="next" href="([^"]+)"', text)
                address = found[1].replace("&amp;", "&") if found else ""
    assert seen == [f"S{n:03}" for n in range(70)]


def test_a_product_without_a_sequence_can_be_given_one(tmp_path: Path, drawn: Path) -> None:
    with open_store(tmp_path / "reviews.db") as store:
        bare = decision(1, status="no_primary", sequence=(), p_qualified=None, violations=(), feedback="yes")
        store.add([bare, decision(2, sku="gone", candidates=(), sequence=("x.jpg",))], base=str(drawn))
        with pages(store, url="http://localhost", open=True) as person:
            person.look("/queue?status=no_primary")
            (item,) = person.lease(5, filter="status=no_primary")
            assert (item["status"], item["sequence"], item["opinion"]["feedback"]) == ("No primary photo", [], "")
            assert person.ask("/api/verdict", **body(item)).status_code == 422
            assert person.ask("/api/verdict", **body(item, accepted=False, corrected=[1, 0])).status_code == 200
            (other,) = person.lease(1)
            assert other["photos"] == [{"name": "x.jpg"}]  # named by the sequence alone
    assert uris(decision(2, candidates=(), sequence=("x.jpg",))) == ("x.jpg",)


def test_blind_says_nothing_of_the_model(tmp_path: Path, drawn: Path) -> None:
    with shop(drawn, tmp_path, url="http://localhost", open=True, blind=True) as (_, person):
        person.look("/queue")
        items = json.dumps(person.lease(3, blind=False))
        assert '"opinion": null' in items
        assert '"why"' not in items
        text = items + person.look("/queue") + person.look("/review")
        assert "second photo" not in text
        assert 'name="rule"' not in text
        assert " %" not in person.look("/history?sku=SKU-0")


def test_history_day_and_team_say_what_was_done(me: tuple[Store, Person]) -> None:
    store, person = me
    person.cookies.set("agpis_zone", "Pacific/Auckland")
    first, second, third = person.lease(3)
    said = body(first, accepted=False, rules=["duplicate"], photo=1, feedback="Twice.", seconds=8)
    person.ask("/api/verdict", **said)
    undone = body(second, seconds=3)
    person.ask("/api/verdict", **undone)
    assert person.ask("/api/undo", key=undone["key"]).json()["item"]["sku"] == second["sku"]
    assert person.ask("/api/undo", key=undone["key"]).json()["item"]["sku"] == second["sku"]  # a retry undoes no more
    person.ask("/api/verdict", **body(third, accepted=False, corrected=[1, 0, 2], rules=["wrong_order"], seconds=4))
    history = person.look(f"/history?sku={first['sku']}")
    assert "Twice." in history
    assert "Duplicated content" in history
    assert "photo 2" in history
    assert "undone" in person.look(f"/history?sku={second['sku']}")
    assert person.get("/history?sku=nothing").status_code == 404
    day = person.look("/day")
    figures = re.findall(r"<dd>([^<]+)</dd>", day)
    assert figures == ["2", "0", "1", "1", "6.0 s"]  # judged, accepted, rejected, corrected, median
    here = datetime.now(UTC).astimezone(ZoneInfo("Pacific/Auckland"))
    assert f"{here:%d %B %Y}" in day
    for odd in ("1000-01-01", "9999-12-31", "nonsense"):
        assert person.get(f"/day?day={odd}").status_code == 200
    for zone in ("../../etc/passwd", "Europe", "x" * 5000, "UTC%2F"):
        person.cookies.set("agpis_zone", zone)
        assert person.get("/day").status_code == 200
    page = person.look("/team?days=7")
    assert "100 %" in page
    assert "34 %–100 %" in page  # Wilson, 2 of 2
    assert 'aria-label="Reject rate by day"' in page
    assert "No sequence was judged by two reviewers" in page
    assert next(store.verdicts()).feedback == "Twice."


def test_team_counts_by_day_rule_and_reviewer(tmp_path: Path, drawn: Path) -> None:
    moment = datetime(2026, 3, 10, 12, tzinfo=UTC)
    with open_store(tmp_path / "reviews.db", now=lambda: moment) as store:
        assert team(store, moment, 7, {}) is None
        made = []
        for n in range(20):
            time = (moment - timedelta(days=n % 3, minutes=1)).isoformat()
            rules = ("blur",) if n % 4 == 0 else ()
            values = {"category": "A" if n < 15 else "", "reviewer": "ann" if n % 2 else "bob", "time": time}
            made.append(Verdict(f"S{n}", "t", ("x",), not rules, rules=rules, bundle="b", **values))  # type: ignore[arg-type]
        store.import_verdicts(made)
        found = team(store, moment, 7, {"blur": "Blurred"})
    assert found is not None
    assert (found.total, found.rejected.count) == (20, 5)
    assert [(row.name, row.count, row.total) for row in found.rules] == [("Blurred", 5, 20)]
    assert [(row.name, row.count, row.total) for row in found.categories] == [("A", 4, 15), ("none", 1, 5)]
    assert {row.name: row.count for row in found.reviewers} == {"ann": 0, "bob": 5}
    assert found.by_day.count("<circle") == 3
    assert "n = 7" in found.by_day


def test_agreement_of_pairs() -> None:
    def judged(accepted: bool, rules: tuple[str, ...] = ()) -> Judged:
        return Judged(1, "k", 1, Verdict("s", "t", ("a",), accepted, rules=rules), 1.0, False, None)

    def pair(first: Judged, second: Judged) -> Pair:
        return Pair(1, "s", "", "", (first, second))

    yes, blur, logo = judged(True), judged(False, ("blur",)), judged(False, ("logo",))
    found = agreement([pair(yes, yes)] * 2 + [pair(blur, blur), pair(blur, logo)])
    assert (found.pairs, found.same, found.kappa) == (4, 4, 1.0)
    assert found.kappa_reason == pytest.approx((3 / 4 - 6 / 16) / (1 - 6 / 16))
    assert math.isnan(agreement([]).kappa)


def test_plots_escape_and_scale() -> None:
    chart = share_chart([Point("<b>", 0.2, 0.1, 0.35, "<i>"), Point("x", None), Point("y", 0.3, 0.3, 0.3)], "<n>")
    assert "<b>" not in chart
    assert "<i>" not in chart
    assert 'aria-label="&lt;n&gt;"' in chart
    assert chart.count("<circle") == 2
    assert "<polyline" not in chart  # a gap is not bridged
    assert ">40 %<" in chart
    assert count_chart(["a", "b"], [0, 7], "c").count("<rect") == 1
    assert "style=" not in chart


def test_pictures_from_http_are_fetched_once_and_reduced(tmp_path: Path) -> None:
    with ImageServer() as server:
        server.image = picture_bytes(3000, 2000)
        pictures = Pictures()
        made = decision(0, sequence=("ok.jpg", "no-such.jpg"), candidates=())
        served, again = (pictures.get(made, server.url(""), 0, "large") for _ in range(2))
        assert served is again
        assert served is not None
        assert server.hits["/ok.jpg"] == 1
        picture = decode(served.data)
        assert (picture.width, picture.height) == (WIDTHS["large"], round(WIDTHS["large"] * 2 / 3))
        missing = pictures.get(made, server.url(""), 1, "small")
        assert missing is not None
        assert missing.failed == "not_found"
        assert b"No picture" in missing.data
        pictures.close()


@pytest.mark.parametrize(
    "uri", ["../a.jpg", "/a.jpg", "//other/a.jpg", "b/%2e%2e/%2E./a.jpg", "..\\a.jpg", "b/%252e%252e/a"]
)
def test_an_address_stays_below_its_base(uri: str) -> None:
    with pytest.raises(ImageError, match="outside the address") as raised:
        location(uri, "https://shop.example/pictures")
    assert raised.value.code == "outside_base"
    assert location("b/a.jpg?w=1", "https://shop.example/p") == "https://shop.example/p/b/a.jpg?w=1"
    assert location("https://cdn.example/a.jpg", "/shop") == "https://cdn.example/a.jpg"  # its own source
    for odd in ("ftp://x/a.jpg", "memory://a"):
        with pytest.raises(ImageError, match="are not read from"):
            location(odd, "/shop")


def test_the_memory_of_pictures_is_bounded(drawn: Path) -> None:
    pictures = Pictures(memory=6000)
    for number in range(5):
        assert pictures.get(decision(0), str(drawn), number, "small") is not None
    assert 0 < pictures._size <= 6000
    assert pictures._size == sum(len(served.data) for served in pictures._kept.values())
    assert LIMITS.total_timeout < 30


def test_rules_have_the_same_numbers_every_day() -> None:
    rules = rule_list(RULEBOOK)
    assert [rule["scope"] for rule in rules[:9]] == ["single"] * 3 + ["pair"] * 3 + ["multi"] * 3
    assert [rule["id"] for rule in rules[:3]] == ["banner", "badge", "watermark"]
    assert sorted(rule["id"] for rule in rules) == sorted(rule.id for rule in RULEBOOK.rules)
    assert file_name("https://x/a/b.jpg?v=1#2") == "b.jpg"


def test_every_word_is_used_and_every_word_used_is_there() -> None:
    folder = ROOT / "agpis"
    code = [*(folder / "templates/review").glob("*.html"), *folder.glob("static/*.js"), *folder.glob("review*.py")]
    text = "\n".join(path.read_text() for path in code)
    used = set(re.findall(r"\bw\.(\w+)", text)) | set(re.findall(r"(?<!\.)\bwords\.(\w+)", text))
    used |= set(re.findall(r"""\bsay\(\s*"(\w+)\"""", text))
    assert used <= set(WORDS)
    unused = {key for key in WORDS if not re.search(rf"\b{key}\b", text)}
    assert {key for key in unused if not key.startswith(("problem_", "scope_", "reviewed_"))} == set()
    assert set(EVERYWHERE) <= set(WORDS)
    assert say("left", n=3) == "3 left"


def test_keys_are_in_the_documentation() -> None:
    text = (ROOT / "docs/reviewing.md").read_text()
    for _, lines in KEYS:
        for key, what in lines:
            assert f"| {key} | {what} |" in text


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app


def test_accounts_by_the_command_line(tmp_path: Path, command: typer.Typer) -> None:
    store, run = ["--store", str(tmp_path / "r.db")], CliRunner().invoke
    made = run(command, ["reviewers", "add", "ann", "--admin", *store, "--password-stdin"], input=f"{PASSWORD}\n")
    assert made.output == "ann can sign in as an administrator.\n"
    asked = run(command, ["reviewers", "add", "bob", *store], input=f"{PASSWORD}\n{PASSWORD}\n")
    assert "bob can sign in." in asked.output
    short = run(command, ["reviewers", "add", "eve", *store, "--password-stdin"], input="short\n")
    assert isinstance(short.exception, SettingsError)
    assert "5 characters; 10 to 1024 are allowed" in str(short.exception)
    assert "no longer" in run(command, ["reviewers", "disable", "bob", *store]).output
    assert run(command, ["reviewers", "list", *store]).output == "ann (admin)\nbob (disabled)\n"
    changed = run(command, ["reviewers", "password", "ann", *store, "--password-stdin"], input="a" * 12)
    assert changed.output == "ann has a new password.\n"


def test_the_store_of_the_command(tmp_path: Path, command: typer.Typer) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert _store_of([folder], None) == ([folder], str(folder / "reviews.db"))
    for name in ("a.db", "r.db"):
        (tmp_path / name).touch()
    assert _store_of([folder, tmp_path / "r.db"], None) == ([folder], str(tmp_path / "r.db"))
    assert _store_of([], "postgresql://u@h/d") == ([], "postgresql://u@h/d")
    with pytest.raises(SettingsError, match="no folder and no store"):
        _store_of([tmp_path / "misspelt"], None)
    for sources, store in (([], None), ([folder, tmp_path], None), ([tmp_path / "a.db"], "b.db")):
        with pytest.raises(SettingsError, match="store"):
            _store_of(sources, store)
    assert _shown("postgresql://u:secret@h/d") == "postgresql://u:***@h/d"


def test_an_output_folder_is_read_with_its_base(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    Manifest(out, {"source": str(tmp_path / "shop" / "catalog.jsonl"), "base": None}).close()
    for number in range(2):
        replace_file(out / f"part-{number:06}.jsonl", encode_rows([decision(number).row()], "jsonl"))
    output = open_output(out)
    assert output.base == str(tmp_path / "shop")
    assert [made.sku for made in output.decisions()] == ["SKU-0", "SKU-1"]
    with pytest.raises(OutputError, match="is not an output folder"):
        open_output(tmp_path)


def test_open_mode_listens_on_this_machine_only(tmp_path: Path, drawn: Path) -> None:
    with open_store(tmp_path / "reviews.db") as store:
        app = make_app(store, RULEBOOK, Options(open=True))
        with pytest.raises(SettingsError, match=r"listens on this machine only, not at 0\.0"):
            serve(app, host="0.0.0.0", port=0)
    with pytest.raises(SettingsError, match="share of 0 to 1"):
        Options(double=2)
    with pytest.raises(SettingsError, match="too short"):
        Options(seconds=5)
