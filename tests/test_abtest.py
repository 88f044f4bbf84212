"""CTR and CVR of two arms against statsmodels, a textbook and R."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm
from scipy.stats import chisquare
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_confint,
    proportions_ztest,
    samplesize_proportions_2indep_onetail,
)

from agpis.abtest import Arm, Comparison, compare, plan
from agpis.errors import SettingsError, SourceError
from agpis.events import Arms, read_arms


def arms(clicks_a: int, shown_a: int, clicks_b: int, shown_b: int) -> tuple[Arm, Arm]:
    return Arm("a", shown_a, clicks_a), Arm("b", shown_b, clicks_b)


def test_the_textbooks_example() -> None:
    """Aspirin and heart attacks: A. Agresti, An Introduction to Categorical Data Analysis, 1st ed. (1996), Table 2.3.

    Pages 20-24; 3rd ed. (2019), Table 2.2, page 30. Chi-squared 25.0139 and the relative risk are in SAS's output at
    https://stats.oarc.ucla.edu/sas/examples/icda/an-introduction-to-categorical-analysis-by-alanagrestichapter-2-two-way-contingency-tables
    """
    lift = compare(*arms(104, 11_037, 189, 11_034)).lifts[0]
    assert lift.a.value == pytest.approx(0.0094, abs=5e-5)
    assert lift.b.value == pytest.approx(0.0171, abs=5e-5)
    assert lift.difference == pytest.approx(0.0077, abs=5e-5)
    # The book's interval is Wald's, 0.005 to 0.011; with this many it is Newcombe's too.
    assert (lift.difference_low, lift.difference_high) == pytest.approx((0.005, 0.011), abs=5e-4)
    assert lift.ratio is not None
    assert lift.z is not None
    assert lift.ratio + 1 == pytest.approx(1.82, abs=5e-3)
    assert (lift.ratio_low, lift.ratio_high) == pytest.approx((0.43, 1.31), abs=6e-3)
    assert lift.z**2 == pytest.approx(25.0139, abs=5e-5)
    assert lift.significant


@pytest.mark.parametrize(
    "counts", [(310, 10_000, 352, 10_050), (5, 400, 9, 380), (48_000, 1_600_000, 47_000, 1_500_000)]
)
def test_counts_agree_with_statsmodels(counts: tuple[int, int, int, int]) -> None:
    clicks_a, shown_a, clicks_b, shown_b = counts
    lift = compare(*arms(*counts)).lifts[0]
    z, p = proportions_ztest(np.array([clicks_b, clicks_a]), np.array([shown_b, shown_a]))
    assert (lift.z, lift.p) == pytest.approx((z, p), rel=1e-9)
    wanted = confint_proportions_2indep(clicks_b, shown_b, clicks_a, shown_a, method="newcomb", compare="diff")
    assert (lift.difference_low, lift.difference_high) == pytest.approx(wanted, abs=1e-9)
    low, high = confint_proportions_2indep(clicks_b, shown_b, clicks_a, shown_a, method="log", compare="ratio")
    assert (lift.ratio_low, lift.ratio_high) == pytest.approx((low - 1, high - 1), rel=1e-9)
    assert (lift.a.low, lift.a.high) == pytest.approx(proportion_confint(clicks_a, shown_a, method="wilson"))


def users(seed: int, rate: float, count: int) -> np.ndarray:
    """Impressions, clicks, orders of users whose habits differ: (count, 3)."""
    rng = np.random.default_rng(seed)
    shown = 1 + rng.poisson(6, count)
    clicks = rng.binomial(shown, rng.beta(20 * rate, 20 * (1 - rate), count))
    return np.stack([shown, clicks, rng.binomial(clicks, 0.3)], axis=1)


def clustered() -> tuple[Arm, Arm]:
    first, second = users(1, 0.10, 300), users(2, 0.13, 280)
    a, b = (
        Arm(name, int(u[:, 0].sum()), int(u[:, 1].sum()), int(u[:, 2].sum()), u)
        for name, u in (("a", first), ("b", second))
    )
    return a, b


def test_units_agree_with_cluster_robust_regression() -> None:
    """statsmodels' OLS of single impressions on the arm, errors clustered by user."""
    a, b = clustered()
    assert a.units is not None
    assert b.units is not None
    outcome, arm, user = [], [], []
    for number, unit in enumerate([*a.units, *b.units]):
        shown, clicks = int(unit[0]), int(unit[1])
        outcome += [1] * clicks + [0] * (shown - clicks)
        arm += [int(number >= len(a.units))] * shown
        user += [number] * shown
    regression = sm.OLS(np.array(outcome), sm.add_constant(np.array(arm)))
    fit = regression.fit(cov_type="cluster", cov_kwds={"groups": np.array(user), "use_correction": False}, use_t=False)
    lift = compare(a, b).lifts[0]
    assert lift.clustered
    assert lift.difference == pytest.approx(fit.params[1], abs=1e-12)
    # n / (n - 1) by arm is ours; statsmodels has one correction for both arms, here left out.
    assert lift.z == pytest.approx(fit.tvalues[1], rel=3e-3)
    assert (lift.difference_low, lift.difference_high) == pytest.approx(tuple(fit.conf_int()[1]), abs=2e-4)
    naive = compare(Arm("a", a.impressions, a.clicks), Arm("b", b.impressions, b.clicks)).lifts[0]
    assert naive.z is not None
    assert lift.z is not None
    assert abs(naive.z) > 1.1 * abs(lift.z)
    assert lift.a.high - lift.a.low > naive.a.high - naive.a.low


def test_intervals_of_units_cover() -> None:
    """Users without a difference: 5 % false alarms over units, far more over impressions."""
    alarms = np.zeros(2)
    for seed in range(400):
        pair = [users(1000 + 2 * seed + side, 0.1, 120) for side in (0, 1)]
        sums = [unit.sum(axis=0) for unit in pair]
        by_unit = [Arm(str(n), int(s[0]), int(s[1]), None, u) for n, (s, u) in enumerate(zip(sums, pair, strict=True))]
        flat = [Arm(str(n), int(s[0]), int(s[1])) for n, s in enumerate(sums)]
        alarms += [compare(*by_unit).lifts[0].significant, compare(*flat).lifts[0].significant]
    assert alarms[0] / 400 == pytest.approx(0.05, abs=0.03)
    assert alarms[1] / 400 > 0.08


def test_orders_are_divided_by_clicks_or_by_impressions() -> None:
    a, b = Arm("a", 10_000, 300, 30), Arm("b", 10_000, 400, 38)
    ctr, cvr = compare(a, b).lifts
    assert (ctr.metric, cvr.metric) == ("CTR", "CVR")
    assert cvr.a.value == 0.1
    assert compare(a, b, per="impressions").lifts[1].a.value == 0.003
    assert [lift.metric for lift in compare(a, Arm("b", 10, 1)).lifts] == ["CTR"]
    by_unit = compare(*clustered()).lifts[1]
    assert by_unit.clustered
    assert by_unit.of == "orders of clicks"


def test_planned_looks_widen_everything() -> None:
    a, b = arms(310, 10_000, 372, 10_000)
    once, early = compare(a, b), compare(a, b, looks=5, look=2)
    assert once.lifts[0].significant
    assert not early.lifts[0].significant
    assert early.limit == pytest.approx(2.040 * (5 / 2) ** 0.5, abs=2e-3)
    assert early.lifts[0].difference_low < 0 < once.lifts[0].difference_low
    assert early.lifts[0].p == once.lifts[0].p
    assert compare(a, b, looks=5).look == 5


def test_a_peek_is_named() -> None:
    found = compare(*arms(310, 10_000, 372, 10_000), planned=100_000)
    assert any(w.startswith("This is a peek: 20000 of 100000 planned impressions (20%)") for w in found.warnings)
    assert any("in 14% of tests with 5 looks" in w for w in found.warnings)
    assert not any("peek" in w for w in compare(*arms(310, 10_000, 372, 10_000), planned=20_000).warnings)


def test_sample_ratio_mismatch_agrees_with_scipy() -> None:
    fine = compare(*arms(10, 10_000, 10, 10_150))
    assert fine.mismatch.p == pytest.approx(chisquare([10_000, 10_150]).pvalue)
    assert not fine.mismatch.found
    off = compare(*arms(10, 10_000, 10, 10_700))
    assert off.mismatch.chi_squared == pytest.approx(chisquare([10_000, 10_700]).statistic)
    assert off.mismatch.found
    assert off.warnings[0].startswith("Sample-ratio mismatch: 10000 and 10700 impressions, planned 50% and 50%")
    assert not compare(*arms(10, 9_000, 10, 1_000), split=0.1).mismatch.found
    assert compare(*clustered()).mismatch.counted == "units"


def test_nothing_seen_says_nothing() -> None:
    none = compare(*arms(0, 100, 0, 100)).lifts[0]
    assert (none.z, none.p, none.ratio, none.ratio_low, none.significant) == (None, None, None, None, False)
    assert none.difference_low < 0 < none.difference_high
    assert none.few
    one = compare(*arms(0, 100, 8, 100)).lifts[0]
    assert (one.ratio, one.ratio_high) == (None, None)
    gone = compare(*arms(8, 100, 0, 100)).lifts[0]
    assert (gone.ratio, gone.ratio_low) == (-1.0, None)
    json.dumps(compare(*arms(8, 100, 0, 100)).row(), allow_nan=False)


def test_plan_agrees_with_r_and_statsmodels() -> None:
    """R: power.prop.test(p1 = .01, p2 = .02, power = .8) gives n = 2318.165 a group.

    https://rstudio-pubs-static.s3.amazonaws.com/306681_e1f8f6c1303941d3bd0fb667b7b36b2e.html
    """
    found = plan(0.01, 1.0)
    assert found.single / 2 == pytest.approx(2318.165, abs=1e-2)
    assert (found.a, found.b, found.total) == (2319, 2319, 4638)
    for base, lift, power, alpha in ((0.03, 0.05, 0.8, 0.05), (0.2, -0.1, 0.9, 0.01)):
        wanted = samplesize_proportions_2indep_onetail(base * lift, base, power, alpha=alpha, alternative="two-sided")
        assert plan(base, lift, power=power, alpha=alpha).single / 2 == pytest.approx(wanted, rel=1e-6)
    assert plan(0.2, 0.02, absolute=True).single == pytest.approx(plan(0.2, 0.1).single)


def test_a_plan_has_its_power() -> None:
    wanted, looks = plan(0.1, 0.3, split=0.25, looks=3), 3
    rng = np.random.default_rng(8)
    assert wanted.b == pytest.approx(wanted.a / 3, abs=1)
    assert wanted.total > wanted.single
    hits = 0
    for _ in range(600):
        steps_a, steps_b = rng.binomial(wanted.a // looks, 0.1, looks), rng.binomial(wanted.b // looks, 0.13, looks)
        for look in range(1, looks + 1):
            a = Arm("a", look * (wanted.a // looks), int(steps_a[:look].sum()))
            b = Arm("b", look * (wanted.b // looks), int(steps_b[:look].sum()))
            if compare(a, b, looks=looks, look=look, split=0.25).lifts[0].significant:
                hits += 1
                break
    assert hits / 600 == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Arm("a", 10, -1), "found -1 clicks; a count is 0 or more"),
        (lambda: Arm("a", 10, 11), "found 11 clicks of 10 impressions"),
        (lambda: Arm("a", 10, 5, 6), "found 6 orders of 5 clicks"),
        (lambda: Arm("a", 0, 0), "found 0 impressions"),
        (lambda: compare(*arms(1, 9, 1, 9), alpha=1.5), "found alpha 1.5"),
        (lambda: compare(*arms(1, 9, 1, 9), split=0), "found the share planned for b 0"),
        (lambda: compare(*arms(1, 9, 1, 9), planned=0), "found 0 impressions planned"),
        (lambda: compare(*arms(1, 9, 1, 9), looks=3, look=4), "found look 4 of 3 planned"),
        (lambda: plan(0.5, 1.2), "which gives 1.1; wanted another rate from 0 to 1"),
        (lambda: plan(0.5, 0.0), "wanted another rate"),
        (lambda: plan(3.0, 0.1), "found base rate 3"),
        (lambda: plan(0.1, 0.1, power=0.04), "not above alpha"),
    ],
)
def test_what_cannot_be_meant_is_refused(call: Callable[[], object], text: str) -> None:
    with pytest.raises(SettingsError, match=text) as caught:
        call()
    assert caught.value.code in ("bad_counts", "bad_test")


# Files ---------------------------------------------------------------------------------------------------------------


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def single_events() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for arm, units in (("control", users(1, 0.1, 30)), ("new", users(2, 0.2, 30))):
        for number, unit in enumerate(units):
            for event, count in zip(("impression", "click", "order"), unit, strict=True):
                rows += [{"arm": arm, "unit": f"{arm}-{number}", "event": event}] * int(count)
    return rows


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_form_of_the_same_events_gives_the_same_arms(tmp_path: Path, suffix: str) -> None:
    found = read_arms(write(tmp_path / f"events{suffix}", single_events()))
    totals = [
        {"arm": arm, "unit": f"{arm}-{n}", "impressions": int(u[0]), "clicks": int(u[1]), "orders": int(u[2])}
        for arm, units in (("control", users(1, 0.1, 30)), ("new", users(2, 0.2, 30)))
        for n, u in enumerate(units)
    ]
    again = read_arms(write(tmp_path / f"totals{suffix}", totals))
    for mine, other in ((found.a, again.a), (found.b, again.b)):
        assert (mine.name, mine.impressions, mine.clicks, mine.orders) == (
            other.name, other.impressions, other.clicks, other.orders,
        )  # fmt: skip
        assert mine.units is not None
        assert other.units is not None
        assert np.array_equal(mine.units, other.units)
    assert (found.a.name, found.b.name, found.crossed) == ("control", "new", 0)
    assert np.array_equal(found.a.units, users(1, 0.1, 30))
    assert row(found) == row(again)


def row(found: Arms) -> dict[str, Any]:
    comparison: Comparison = compare(found.a, found.b, crossed=found.crossed)
    return comparison.row()


def test_units_seen_once_need_no_clusters_and_units_of_both_arms_are_told(tmp_path: Path) -> None:
    rows = [{"arm": arm, "unit": str(n), "impressions": 1, "clicks": n % 2} for arm in "AB" for n in range(50)]
    found = read_arms(write(tmp_path / "e.csv", rows))
    assert (found.a.units, found.crossed, found.rows) == (None, 50, 100)
    assert any(w.startswith("50 units were seen in both arms") for w in row(found)["warnings"])


def test_arms_are_chosen_by_name(tmp_path: Path) -> None:
    rows = [{"arm": arm, "impressions": 10, "clicks": n} for n, arm in enumerate(["old", "new", "best"])]
    path = write(tmp_path / "e.jsonl", rows)
    found = read_arms(path, control="old", treatment="best")
    assert (found.a.clicks, found.b.clicks, found.a.orders) == (0, 2, None)
    for control, treatment, text in (
        (None, None, "name the control with --control"),
        ("old", None, "name the new one with --treatment"),
        ("odl", None, "--control is 'odl'; .* has the arms 'best', 'new', 'old'"),
        ("old", "old", "are both 'old'"),
    ):
        with pytest.raises(SettingsError, match=text) as caught:
            read_arms(path, control=control, treatment=treatment)
        assert caught.value.code == "unknown_arm"
    two = write(tmp_path / "two.jsonl", rows[:2])
    assert read_arms(two, treatment="old").a.name == "new"


@pytest.mark.parametrize(
    ("name", "content", "code", "text"),
    [
        ("e.csv", b"", "empty_events", "found no row"),
        ("e.csv", b"arm,impressions,clicks\n", "empty_events", "found no row"),
        ("e.jsonl", b"\n\n", "empty_events", "found no row"),
        ("e.csv", b"group,views\n1,2\n", "bad_events", "found the columns group, views; wanted arm"),
        ("e.csv", b"arm,impressions,clicks\na,10\n", "bad_events", "line 2: found another number of columns"),
        ("e.csv", b"arm,impressions,clicks\na,10,-1\n", "bad_events", "line 2: found clicks '-1'"),
        ("e.csv", b"arm,impressions,clicks\na,ten,1\n", "bad_events", "found impressions 'ten'"),
        ("e.csv", b"arm,impressions,clicks\n,10,1\n", "bad_events", "found no arm"),
        ("e.csv", b"arm,impressions,clicks\na,10,1\n", "one_arm", "only the arm 'a'"),
        ("e.csv", b"\xff\xfe\x00a", "events_format", "found no CSV in UTF-8"),
        ("e.jsonl", b"[1]\n", "bad_events", "line 1: found list"),
        ("e.jsonl", b"{\n", "bad_events", "line 1: wanted one JSON object"),
        ("e.jsonl", b'{"arm":"a","event":"view"}\n', "bad_events", "found event 'view', allowed are impression"),
        ("e.jsonl", b'{"arm":"a","impressions":NaN,"clicks":1}\n', "bad_events", "found impressions nan"),
        ("e.jsonl", b'{"arm":"a","impressions":true,"clicks":1}\n', "bad_events", "found impressions True"),
        ("e.parquet", b"no", "events_format", "found no Parquet file"),
        ("e.xlsx", b"", "events_format", "found the suffix '.xlsx'"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, code: str, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=text) as caught:
        read_arms(tmp_path / name)
    assert caught.value.code == code


def test_a_missing_file_and_impossible_sums_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found no file at") as caught:
        read_arms(tmp_path / "none.csv")
    assert caught.value.code == "events_not_found"
    rows = [{"arm": arm, "impressions": 10, "clicks": 11} for arm in "ab"]
    with pytest.raises(SettingsError, match="found 11 clicks of 10 impressions"):
        read_arms(write(tmp_path / "e.csv", rows))
