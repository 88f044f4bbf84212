"""Watching: what is counted, the windows, alarms on bounds, the record, the page and the commands with their codes."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint, proportions_ztest
from typer.testing import CliRunner, Result

from agpis.data import Decision
from agpis.errors import AgpisError, SettingsError, SourceError
from agpis.input_record import first_records, read_records, write_records
from agpis.monitor import Options, monitor, watch
from agpis.monitor_commands import ALARM, register
from agpis.monitor_page import write_page
from agpis.store import open_store
from agpis.tallies import tally
from agpis.watched import Limits
from tests.stores import database, empty_databases, postgres  # noqa: F401  fixtures
from tests.watched_shop import START, decisions, verdicts, write_output, write_verdicts

DAY = timedelta(days=1)
END = START + 28 * DAY
"""The day after the last one of the shop."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four weeks: wider images and more rejections, for watermarks, in the last one."""
    folder = tmp_path_factory.mktemp("shop")
    days = [(START + n * DAY, decisions(n, 20, wide=1.6 if n >= 21 else 1.0)) for n in range(28)]
    write_output(folder / "out", days)
    given = chain(
        verdicts(1, START, 21, 30, 0.2), verdicts(2, START + 21 * DAY, 7, 30, 0.45, rule="watermark", share=0.7)
    )
    write_verdicts(folder / "verdicts.jsonl", given)
    return folder


def sources(shop: Path) -> list[str]:
    return [str(shop / "out"), str(shop / "verdicts.jsonl")]


# Counting ------------------------------------------------------------------------------------------------------------


def test_counts_are_those_of_plain_counting(shop: Path) -> None:
    found = tally(sources(shop))
    assert found.bundles == ("starter",)
    assert found.days == tuple(START + n * DAY for n in range(28))
    day = found.decided["starter"][START + 3 * DAY]
    plain = decisions(3, 20)
    assert day.products == 20
    assert day.statuses["generated"] == sum(d.status == "generated" for d in plain)
    assert day.reasons["watermark"] == sum(any(c.reason == "watermark" for c in d.candidates) for d in plain)
    said = found.reviewed["starter"][START + 3 * DAY]
    same = [v for v in verdicts(1, START, 21, 30, 0.2) if v.time.startswith(str(START + 3 * DAY))]
    assert said.total == len(same) == 30
    assert said.rejected == sum(not v.accepted for v in same)
    assert said.rules["blur"] == sum("blur" in v.rules for v in same)


@pytest.fixture
def reviews(database: str) -> str:  # noqa: F811
    """The same shop's last two weeks in a store of each kind, each decision on its day."""
    clock = [datetime(2026, 3, 16, 12, tzinfo=UTC)]
    with open_store(database, now=lambda: clock[0]) as opened:
        for number in range(14, 28):
            clock[0] = datetime.combine(START + number * DAY, datetime.min.time(), UTC) + timedelta(hours=12)
            opened.add(decisions(number, 20, wide=1.6 if number >= 21 else 1.0))
        rows = chain(
            (v for v in verdicts(1, START, 21, 30, 0.2) if v.time >= str(START + 14 * DAY)),
            verdicts(2, START + 21 * DAY, 7, 30, 0.45, rule="watermark", share=0.7),
        )
        opened.import_verdicts(rows)
    return database


def test_a_store_counts_as_files_do(shop: Path, reviews: str) -> None:
    of_files, of_store = tally(sources(shop), since=START + 14 * DAY), tally([reviews])
    assert of_store.days == of_files.days
    for day in of_files.days:
        assert of_store.decided["starter"][day].row() == of_files.decided["starter"][day].row()
        mine, other = of_store.reviewed["starter"][day], of_files.reviewed["starter"][day]
        assert (mine.accepted, mine.rejected, +mine.rules) == (other.accepted, other.rejected, +other.rules)
    one, two = (watch(counted, Options(until=END)) for counted in (of_files, of_store))
    assert one.row() == two.row()


# The watch -----------------------------------------------------------------------------------------------------------


def test_shares_rules_and_drift_of_the_last_week(shop: Path) -> None:
    found = monitor(sources(shop), Options(until=END))
    one = found.bundles[0]
    assert (found.since, found.last) == (START + 21 * DAY, END - DAY)
    assert [period.label for period in one.rejects] == ["2026-W10", "2026-W11", "2026-W12", "2026-W13"]
    last = one.rejects[-1].share
    assert last is not None
    assert last == one.reject_now
    assert (last.low, last.high) == pytest.approx(proportion_confint(last.count, 210, method="wilson"))
    assert one.reject_before == one.rejects[-2].share
    assert one.record is not None
    assert (one.record.since, one.record.until) == (START, START + 21 * DAY)  # 420 products in all before the window
    moved = {drift.feature.name: drift for drift in one.drifts}
    assert moved["width"].words == moved["height"].words == "moved far"
    assert {name for name, drift in moved.items() if drift.words.startswith("moved")} == {"width", "height"}
    wanted = multipletests([drift.p for drift in one.drifts], method="holm")[1]
    assert [drift.corrected for drift in one.drifts] == pytest.approx(list(wanted))
    rules = {change.rule: change for change in one.named}
    top = one.named[0]
    assert top.rule == "watermark"
    assert top.words.startswith("rises, ")
    assert top.p == pytest.approx(proportions_ztest([top.now.count, top.before.count], [210, 210])[1])
    raw = [change.p for change in one.named]
    assert [change.corrected for change in one.named] == pytest.approx(list(multipletests(raw, method="holm")[1]))
    assert set(rules) == {"watermark", "duplicate", "blur", "same_view"}
    json.dumps(found.row(), allow_nan=False)


def test_periods_and_gaps(shop: Path) -> None:
    by_day = monitor(sources(shop), Options(until=END, by="day")).bundles[0].rejects
    assert len(by_day) == 28
    assert by_day[0].label == str(START)
    by_month = monitor(sources(shop), Options(until=END, by="month")).bundles[0].rejects
    assert [period.label for period in by_month] == ["2026-03"]
    assert sum(p.share.total for p in by_day if p.share) == by_month[0].share.total == 840  # type: ignore[union-attr]
    holes = tally(sources(shop))
    for number in range(7, 14):
        del holes.reviewed["starter"][START + number * DAY]
    gaps = watch(holes, Options(until=END)).bundles[0].rejects
    assert [period.share is None for period in gaps] == [False, True, False, False]


def test_limits_are_held_against_the_bound(shop: Path) -> None:
    rate = monitor(sources(shop), Options(until=END)).bundles[0].reject_now
    for limit, crossed in ((rate.low - 0.001, True), (rate.low + 0.001, False), (rate.value - 0.001, False)):
        found = monitor(sources(shop), Options(until=END, limits=Limits(reject_rate=limit)))
        assert [alarm.what for alarm in found.alarms] == ["reject_rate"] * crossed
    coverage = monitor(sources(shop), Options(until=END)).bundles[0].coverage_now
    for limit, crossed in ((coverage.high + 0.001, True), (coverage.value + 0.001, False)):
        found = monitor(sources(shop), Options(until=END, limits=Limits(coverage=limit)))
        assert [alarm.what for alarm in found.alarms] == ["coverage"] * crossed
    found = monitor(sources(shop), Options(until=END, limits=Limits(drift=0.25)))
    assert {alarm.message.split(" moved")[0] for alarm in found.alarms} == {"Image width", "Image height"}
    assert all(alarm.bound > 0.25 for alarm in found.alarms)


def test_few_data_raise_no_alarm(tmp_path: Path) -> None:
    """Three of four rejected, everything twice as wide, nothing generated: of eight products."""
    days = [(START, decisions(1, 200)), (START + 20 * DAY, decisions(2, 8, wide=2.0, doubt=9.0))]
    write_output(tmp_path / "out", days)
    few = list(verdicts(3, START + 20 * DAY, 1, 40, 0.5))
    few = [v for v in few if not v.accepted][:3] + [v for v in few if v.accepted][:1]
    write_verdicts(tmp_path / "v.jsonl", few)
    limits = Limits(reject_rate=0.4, drift=0.25)
    found = monitor([tmp_path / "out", tmp_path / "v.jsonl"], Options(limits=limits), today=START + 20 * DAY)
    assert found.alarms == ()
    assert found.bundles[0].reject_now.value == 0.75
    assert all(drift.words.startswith("too few to say") for drift in found.bundles[0].drifts if drift.after < 50)


def test_with_a_limit_the_window_ends_today(shop: Path) -> None:
    late = END + 30 * DAY
    assert monitor(sources(shop), Options(), today=late).until == END
    with pytest.raises(
        SourceError, match=r"found no verdict in the window\. Nothing in the window .* newest entry is of"
    ):
        monitor(sources(shop), Options(limits=Limits(reject_rate=0.3)), today=late)
    with pytest.raises(SourceError, match="--min-coverage: found no decision") as caught:
        monitor(sources(shop), Options(limits=Limits(coverage=0.3)), today=late)
    assert caught.value.code == "nothing_in_window"


def test_bundles_are_watched_apart(shop: Path, tmp_path: Path) -> None:
    write_verdicts(tmp_path / "mine.jsonl", verdicts(9, START + 14 * DAY, 14, 30, 0.05, bundle="mine"))
    found = monitor([*sources(shop), str(tmp_path / "mine.jsonl")], Options(until=END, limits=Limits(reject_rate=0.3)))
    assert [one.bundle for one in found.bundles] == ["starter", "mine"]
    assert [alarm.bundle for alarm in found.alarms] == ["starter"]
    assert found.bundles[1].no_record == "no decisions"


# Records -------------------------------------------------------------------------------------------------------------


def test_a_record_is_kept_and_compared_with(shop: Path, tmp_path: Path) -> None:
    tallies = tally(sources(shop))
    records = first_records(tallies, END - 7 * DAY, 7)
    write_records(records.values(), tmp_path / "record.json")
    again = read_records(tmp_path / "record.json")
    assert again["starter"].counted.row() == records["starter"].counted.row()
    last_week = Options(since=END - 7 * DAY, until=END)
    alone = monitor(sources(shop), last_week)
    assert alone.bundles[0].drifts == ()
    assert alone.bundles[0].no_record == "all its decisions are of the window that is watched"
    with pytest.raises(SourceError, match="--max-drift has nothing to compare with") as caught:
        monitor(sources(shop), Options(since=last_week.since, until=END, limits=Limits(drift=0.2)))
    assert caught.value.code == "no_record"
    with_file = monitor(sources(shop), Options(since=last_week.since, until=END, record=tmp_path / "record.json"))
    whole = monitor(sources(shop), Options(until=END))
    assert [drift.row() for drift in with_file.bundles[0].drifts] == [d.row() for d in whole.bundles[0].drifts]
    baseline = write_output(tmp_path / "before", [(START, decisions(77, 300))])
    against = monitor(sources(shop), Options(until=END, baseline=str(baseline)))
    assert against.bundles[0].record is not None
    assert against.bundles[0].record.counted.products == 300
    other = write_output(tmp_path / "other", [(START, decisions(77, 30, bundle="other"))])
    assert "holds none of this bundle" in monitor(sources(shop), Options(baseline=str(other))).bundles[0].no_record


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format_version": 9}', '{"format_version": 1, "bundles": {"a": {}}}']
)
def test_a_broken_record_is_named(shop: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(SourceError, match="is no record that `agpis monitor --write-record` wrote") as caught:
        monitor(sources(shop), Options(record=tmp_path / "r.json"))
    assert caught.value.code == "bad_record"


# Bad input -----------------------------------------------------------------------------------------------------------


def test_broken_and_empty_sources_are_named(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "none.jsonl").write_text('{"views": 3}\n')
    (tmp_path / "broken.parquet").write_text("no")
    (tmp_path / "empty.db").write_text("")
    (tmp_path / "text.db").write_text("no database at all, " * 100)
    (tmp_path / "folder").mkdir()
    output = write_output(tmp_path / "torn", [(START, decisions(1, 3))])
    (output / "part-000000.jsonl").write_text('{"sku": "1"}\n')
    for name, code in (
        ("nothing", "source_not_found"),
        ("empty.jsonl", "empty_source"),
        ("none.jsonl", "empty_source"),
        ("broken.parquet", "samples_format"),
        ("empty.db", "empty_source"),
        ("folder", "bad_source"),
        ("torn", "bad_source"),
    ):
        with pytest.raises(SourceError) as caught:
            tally([*sources(shop), tmp_path / name] if code != "empty_source" else [tmp_path / name])
        assert caught.value.code == code, name
    with pytest.raises(SourceError):
        tally([tmp_path / "text.db"])
    for name in ("nothing", f"sqlite:///{tmp_path / 'nothing'}"):
        with pytest.raises(SourceError, match="found nothing at"):
            tally([tmp_path / name if "://" not in name else name])
    assert not (tmp_path / "nothing").exists()


def test_lines_without_time_or_sense_are_counted(tmp_path: Path) -> None:
    given = list(verdicts(1, START, 2, 20, 0.2))
    path = write_verdicts(tmp_path / "v.jsonl", given)
    lines = path.read_text().splitlines()
    row: dict[str, Any] = json.loads(lines[0])
    row.pop("time")
    odd = [{**row, "time": time} for time in ("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00")]
    path.write_text("\n".join([*lines[1:], json.dumps(row), *map(json.dumps, odd), '{"sku": "torn"']) + "\n")
    found = monitor([path])
    assert found.bundles[0].reject_now.total == 39
    assert any(note.startswith("3 verdicts have no time") for note in found.notes)
    assert any(note.startswith("1 lines are no verdicts; the first: ") for note in found.notes)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"days": 0}, "--days is 0"),
        ({"by": "year"}, "--by is 'year'"),
        ({"until": date(1, 1, 3)}, "--until is 0001-01-03; it is from 1970 to 2199"),
        ({"record": Path("a"), "baseline": "b"}, "not both"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        Options(**options)
    with pytest.raises(SettingsError, match=r"--max-reject-rate is 1\.2; it is from 0 to 1"):
        Limits(reject_rate=1.2)


# Page and commands ---------------------------------------------------------------------------------------------------


def test_the_page_is_self_contained_and_escapes(shop: Path, tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    folder = write_output(tmp_path / "out", [(START + n * DAY, decisions(n, 60, bundle=nasty)) for n in (0, 9)])
    found = monitor([*sources(shop), str(folder)], Options(until=END, limits=Limits(reject_rate=0.2, drift=0.25)))
    write_page(found, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert nasty not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert not re.search(r"\sstyle=", html)
    assert "default-src &#39;none&#39;" in html
    assert html.count('<svg class="chart"') == 3
    assert "limits crossed" in html
    assert "2026-W13" in html
    assert "moved far" in html


@pytest.mark.browser
def test_the_page_in_a_browser(shop: Path, tmp_path: Path, browser: Any) -> None:
    """No complaint of the policy, nothing cut off or wider than the window, legible in the dark."""
    write_page(monitor(sources(shop), Options(until=END, limits=Limits(reject_rate=0.2))), tmp_path / "page.html")
    for width, scheme in ((1280, "light"), (390, "dark")):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto(f"file://{tmp_path / 'page.html'}")
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wider = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        assert page.evaluate(wider) == 0
        assert page.locator("svg.chart").count() == 2
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 23, 25)"
        assert dark == (scheme == "dark")
        page.get_by_text("Numbers").first.click()
        assert page.locator("details[open] td", has_text="2026-W12").is_visible()
        context.close()


def run(*arguments: object) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_writes_and_alarms(shop: Path, tmp_path: Path) -> None:
    page, record, out = tmp_path / "p.html", tmp_path / "r.json", tmp_path / "o.json"
    calm = run(
        "monitor", *sources(shop), "--until", END, "--html", page, "--write-record", record, "--json", out,
        "--max-reject-rate", 0.9,
    )  # fmt: skip
    assert calm.exit_code == 0, calm.output
    assert "No limit is crossed." in calm.output
    assert "Rules that reviewers name" in calm.output
    assert page.stat().st_size > 10_000
    assert read_records(record)["starter"].counted.products == 500
    assert json.loads(out.read_text())["alarms"] == []
    loud = run("monitor", *sources(shop), "--until", END, "--max-reject-rate", 0.3, "--json", "-")
    assert loud.exit_code == ALARM == 7
    assert [alarm["what"] for alarm in json.loads(loud.stdout)["alarms"]] == ["reject_rate"]
    for arguments, code in (
        (["monitor", tmp_path / "none"], "source_not_found"),
        (["monitor", *sources(shop), "--until", "tomorrow"], "bad_watch"),
        (["monitor", shop / "verdicts.jsonl", "--write-record", record], "bad_record"),
    ):
        failed = run(*arguments).exception
        assert isinstance(failed, AgpisError)
        assert failed.code == code


def test_abtest_from_counts_and_from_events(tmp_path: Path) -> None:
    counts = run("abtest", "--a", "30/310/10000", "--b", "33/372/10000", "--json", "-")
    assert counts.exit_code == 0, counts.output
    found = json.loads(counts.stdout)
    assert [metric["metric"] for metric in found["metrics"]] == ["CTR", "CVR"]
    assert found["metrics"][0]["p"] == pytest.approx(proportions_ztest([372, 310], [10_000, 10_000])[1])
    events = tmp_path / "e.csv"
    events.write_text("arm,impressions,clicks,orders\nA,10000,310,30\nB,10000,372,33\n")
    again = json.loads(run("abtest", "--events", events, "--json", "-").stdout)
    assert again["metrics"] == found["metrics"]
    shown = run("abtest", "--a", "310/10000", "--b", "372/10700", "--looks", 5, "--look", 2, "--planned", 50_000)
    assert "Look 2 of 5" in shown.output
    assert "Sample-ratio mismatch" in " ".join(shown.output.split())
    assert "no difference shown" in shown.output
    for arguments in (["--a", "1/2"], ["--a", "1/2", "--b", "1/2", "--events", events], ["--alpha", 0.1]):
        failed = run("abtest", *arguments).exception
        assert isinstance(failed, SettingsError)
        assert failed.code == "bad_arguments"
    wrong = run("abtest", "--a", "310", "--b", "3/7").exception
    assert isinstance(wrong, SettingsError)
    assert "wanted clicks/impressions" in wrong.message


def test_abtest_plan() -> None:
    found = json.loads(run("abtest", "plan", "--base", 0.01, "--lift", 1, "--json", "-", "--daily", 500).stdout)
    assert (found["a"], found["total"], found["days"]) == (2319, 4638, 10)
    shown = run("abtest", "plan", "--base", 0.03, "--lift", 0.05, "--looks", 5, "--daily", 10_000)
    assert "with 5 looks (O'Brien-Fleming): 2.8% more than for one" in shown.output
    assert "run whole weeks" in shown.output


def test_decisions_of_the_test_shop_come_back(tmp_path: Path) -> None:
    """The drawn shop is made of rows that AGPIS itself reads."""
    assert [Decision.from_row(d.row()) for d in decisions(1, 3)] == decisions(1, 3)
    output = write_output(tmp_path / "o", [(date(2026, 1, 5), decisions(1, 3))])
    assert datetime.fromtimestamp((output / "part-000000.jsonl").stat().st_mtime, UTC).date() == date(2026, 1, 5)
