"""The parts of a renewal that need no models: its samples, the window, the figures' page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agpis.data import Verdict
from agpis.exchange import write_verdicts
from agpis.metrics import Difference, Interval
from agpis.renew import heads
from agpis.renewal_page import Comparison, write_page
from agpis.renewal_samples import Samples, collected, enough
from agpis.rule_changes import rule_changes
from agpis.rulebook import load_rulebook
from agpis.samples import split_of

DEFAULT = load_rulebook("default")
SAME = rule_changes(DEFAULT, DEFAULT)
SINCE, UNTIL = "2026-03-01T00:00:00+00:00", "2026-06-01T00:00:00+00:00"


def said(sku: str, time: str, accepted: bool = True, **more: object) -> Verdict:
    return replace(Verdict(sku, "t", ("a.jpg", "b.jpg"), accepted, time=time), **more)


def test_the_window_and_the_split_by_sku(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    inside = [said(f"S{n}", "2026-03-01T00:00:00+00:00", n % 2 == 0) for n in range(60)]
    outside = [said("early", "2026-02-28T23:59:59+00:00"), said("late", UNTIL)]
    write_verdicts([*inside, *outside, said("untimed", "")], path)
    with path.open("a") as file:
        file.write("torn\n")
    found = collected(str(path), SINCE, UNTIL, SAME)
    assert {v.sku for v in (*found.train, *found.held)} == {*(v.sku for v in inside), "untimed"}
    assert all(v.split == split_of(v.sku) for v in (*found.train, *found.held))
    assert {v.split for v in found.held} == {"test"}
    assert found.validation == tuple(v for v in found.train if v.split == "validation")
    assert "1 lines that are no verdicts" in found.notes[0]
    assert found.notes[1].startswith("left out: line 64: wanted one JSON object")


def test_later_verdicts_can_be_held_out(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    early = [said(f"E{n}", "2026-04-01T00:00:00+00:00") for n in range(30)]
    late = [said(f"L{n}", "2026-05-18T00:00:00+00:00") for n in range(5)]
    both = [said("L0", "2026-04-02T00:00:00+00:00", sequence=("c.jpg",))]
    write_verdicts([*early, *late, *both], path)
    found = collected(str(path), SINCE, UNTIL, SAME, test_days=14)
    assert {v.sku for v in found.held} == {v.sku for v in late}
    assert {v.sku for v in found.train} == {v.sku for v in early}
    assert "1 verdicts of products that have verdicts in both windows" in found.notes[1]


def test_corrections_are_learned_from_and_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    fixed = {"accepted": False, "rules": ("blur",), "corrected": ("b.jpg", "a.jpg"), "image_index": 0}
    given = [said("train", SINCE, split="train", **fixed), said("test", SINCE, split="test", **fixed)]
    write_verdicts(given, path)
    found = collected(str(path), SINCE, UNTIL, SAME)
    assert [(v.sku, v.accepted, v.sequence) for v in found.train] == [
        ("train", False, ("a.jpg", "b.jpg")),
        ("train", True, ("b.jpg", "a.jpg")),
    ]
    assert [v.sku for v in found.held] == ["test"]
    assert found.notes[-1] == "1 corrected sequences are approved ones to learn from"


@pytest.mark.parametrize(
    ("train", "held", "why"),
    [
        ((50, 50), (10, 10), None),
        ((99, 0), (10, 10), "99 verdicts to train on, 99 of them accepted; wanted are at least 100 of both kinds"),
        ((120, 0), (10, 10), "120 verdicts to train on, 120 of them accepted"),
        ((50, 50), (12, 9), "21 verdicts of products that are held out, 12 of them accepted; .* takes 10 of each"),
    ],
)
def test_what_is_enough(train: tuple[int, int], held: tuple[int, int], why: str | None) -> None:
    def verdicts(split: str, counts: tuple[int, int]) -> tuple[Verdict, ...]:
        return tuple(said("s", "", kind == 0, split=split) for kind in (0, 1) for _ in range(counts[kind]))

    import re

    found = enough(Samples(verdicts("train", train), verdicts("test", held), ()), 100)
    assert found is None if why is None else found is not None and re.search(why, found)


def test_the_page_says_what_the_figures_say(tmp_path: Path) -> None:
    gap = Difference(0.8, 0.75, Interval(0.05, 0.01, 0.09), 0.012)
    nothing = Difference(float("nan"), 0.2, Interval(float("nan"), float("nan"), float("nan")), float("nan"))
    figures = {"auc": gap, "rejected": Difference(0.12, 0.2, Interval(-0.08, -0.1, -0.06), 0.002), "coverage": nothing}
    found = Comparison("new", "<old>", (0.4, 0.3), 120, 60, 90, (1, 2), figures)
    assert found.lines()[0][1:] == ("0.800", "0.750", "+0.050 [+0.010, +0.090]", "0.012")
    assert found.lines()[1][1:] == ("12.0 %", "20.0 %", "-8.0 % [-10.0 %, -6.0 %]", "0.002")
    assert found.lines()[2][1:] == ("-", "20.0 %", "- [-, -]", "-")
    samples = Samples((said("a", "", False, rules=("blur",), split="train"),), (said("b", "", split="test"),), ())
    write_page(found, tmp_path, title="new", notes=["a <note>"], samples=samples)
    page = (tmp_path / "comparison.html").read_text()
    for part in (
        "&lt;old&gt;",
        "a &lt;note&gt;",
        "+0.050 [+0.010, +0.090]",
        "The new bundle is better<",
        "<td>blur</td>",
    ):
        assert part in page
    assert "<old>" not in page
    assert "| 12.0 % | 20.0 % |" in (tmp_path / "comparison.md").read_text()


def test_what_is_better() -> None:
    def gap(low: float, high: float) -> Difference:
        return Difference(0.8, 0.75, Interval((low + high) / 2, low, high), 0.1)

    up, down, open_ = gap(0.01, 0.1), gap(-0.1, -0.01), gap(-0.1, 0.1)
    for auc, first, better in (
        (up, open_, True), (open_, up, True), (up, up, True), (up, None, True),
        (open_, open_, False), (open_, None, False), (up, down, False), (down, up, False),
    ):  # fmt: skip
        figures = {"auc": auc} if first is None else {"auc": auc, "first_image": first}
        found = Comparison("new", "old", (0.4, 0.3), 120, 60, 90, (0, 0), figures)
        assert found.better is better
        assert found.why.startswith("AUC 0.800 after 0.750, difference ")
        assert ("first image right in 80.0 % after 75.0 %" in found.why) == (first is not None)


def test_heads_are_checked() -> None:
    from agpis.errors import SettingsError

    assert heads(["primary", "compliance"]) == ("compliance", "primary")
    with pytest.raises(SettingsError, match="found muisc to train; allowed are compliance, primary"):
        heads(["muisc"])
