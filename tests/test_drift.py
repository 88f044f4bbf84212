"""PSI, its interval and the two-sample test against scipy and simulations; histograms against plain counting."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import kolmogorov
from scipy.stats import ks_2samp

from agpis.drift import FLOOR, LEAST, binned, drift, edges, gap, gap_p, largest_kind, stability
from agpis.histograms import FEATURES, Histogram, cells
from agpis.proportions import critical
from tests.watched_shop import decisions

BY_NAME = {feature.name: feature for feature in FEATURES}


def histogram(products: Sequence[Sequence[int]]) -> Histogram:
    found = Histogram()
    for values in products:
        found.add(values)
    return found


def singles(values: Sequence[int]) -> Histogram:
    return histogram([[value] for value in values])


def of_shop(seed: int, count: int, name: str, **change: float) -> Histogram:
    return histogram([cells(decision)[name] for decision in decisions(seed, count, **change)])  # type: ignore[arg-type]


# Histograms ----------------------------------------------------------------------------------------------------------


def test_grid_cells_hold_their_values() -> None:
    for name, values in (("p_qualified", (0.002, 0.3, 0.5, 0.97)), ("width", (64, 999, 1000, 1001, 4096))):
        feature = BY_NAME[name]
        for value in values:
            cell = feature.cell(value)
            assert feature.value(cell) <= value * (1 + 1e-12)
            assert value < feature.value(cell + 1)
    assert BY_NAME["width"].value(1) / BY_NAME["width"].value(0) < 1.006
    assert BY_NAME["p_qualified"].cell(0.0) == BY_NAME["p_qualified"].cell(1e-9)
    assert BY_NAME["p_qualified"].cell(1.0) > BY_NAME["p_qualified"].cell(0.999)


def test_cells_of_a_decision() -> None:
    decision = decisions(3, 1, unreadable=0.5)[0]
    found = cells(decision)
    read = [c for c in decision.candidates if c.width]
    assert 0 < len(read) < len(decision.candidates)
    assert found["candidates"] == [len(decision.candidates)]
    assert found["unreadable"] == [int(not c.width) for c in decision.candidates]
    assert found["width"] == [BY_NAME["width"].cell(c.width or 0) for c in read]
    assert len(found["aspect"]) == len(found["p_primary"]) == len(read)


def test_days_add_up_and_come_back_from_json() -> None:
    whole, parts = of_shop(1, 60, "width"), Histogram()
    rows = [cells(decision)["width"] for decision in decisions(1, 60)]
    for start in range(0, 60, 20):
        parts.merge(histogram(rows[start : start + 20]))
    assert parts.counts == whole.counts
    assert (parts.groups, parts.sizes, parts.between) == (60, whole.sizes, pytest.approx(whole.between))
    again = Histogram.from_row(json.loads(json.dumps(whole.row())))
    assert again == whole
    assert again.effective == whole.effective
    for broken in ({}, {**whole.row(), "counts": {"1": -3}}, {**whole.row(), "groups": "many"}):
        with pytest.raises((KeyError, ValueError)):
            Histogram.from_row(broken)


def test_alike_images_count_for_fewer() -> None:
    rng = np.random.default_rng(2)
    independent = histogram(rng.integers(0, 50, (400, 5)).tolist())
    same = histogram([[int(value)] * 5 for value in rng.integers(0, 50, 400)])
    assert independent.effective == pytest.approx(2000, rel=0.1)
    assert same.effective == pytest.approx(400, rel=1e-9)
    assert singles([1, 2, 3]).effective == 3
    assert histogram([[4] * 7]).effective == 1
    # Variance of a mean over products, measured: rho = 0.5, 5 values a product: deff = 1 + 4 * 0.5 = 3.
    products = (rng.normal(0, 10, (3000, 1)) + rng.normal(0, 10, (3000, 5)) + 100).astype(int)
    assert histogram(products.tolist()).effective == pytest.approx(15000 / 3, rel=0.05)


# Bins and PSI --------------------------------------------------------------------------------------------------------


def test_bins_hold_about_equal_counts_and_frequent_values_have_their_own() -> None:
    rng = np.random.default_rng(0)
    record = singles(rng.integers(0, 1000, 5000).tolist())
    starts = edges(record, BY_NAME["p_qualified"])
    assert len(starts) == 9
    assert max(binned(record, starts)) < 1.15 * min(binned(record, starts))
    usual = singles([100] * 500 + [200] * 400 + list(range(300, 400)))
    assert edges(usual, BY_NAME["width"]) == [100, 101, 200, 201]
    moved = singles([150] * 1000)
    assert binned(moved, edges(usual, BY_NAME["width"]))[2] == 1000
    one = singles([7] * 100)
    assert binned(singles([6, 7, 8]), edges(one, BY_NAME["width"])) == [1, 1, 1]


def test_psi_of_a_worked_example() -> None:
    # Two bins, 0.5/0.5 and 0.6/0.4: 0.1 ln 1.2 + (-0.1) ln 0.8 = 0.0405.
    found = stability([0.5, 0.5], [0.6, 0.4], 1e9, 1e9, 1.96)
    assert found.plain == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8), rel=1e-12)
    assert found.value == pytest.approx(found.plain, abs=1e-6)
    assert stability([1.0, 0.0], [0.999, 0.001], 1e9, 1e9, 1.96).plain < 1e-5  # on the floor: hardly anything
    assert stability([1.0, 0.0], [0.0, 1.0], 1e9, 1e9, 1.96).plain == pytest.approx(
        2 * (1 - FLOOR) * np.log(1 / FLOOR), rel=1e-9
    )


def test_chance_is_taken_off_and_the_bound_is_rarely_above_nothing() -> None:
    """Two samples of the same ten bins: PSI near (bins - 1)(1/n + 1/m), and less than 2.5 % of lower bounds above 0."""
    rng = np.random.default_rng(4)
    shares = np.full(10, 0.1)
    for n, m in ((60, 60), (500, 80), (2000, 2000)):
        draws = [
            stability((rng.multinomial(n, shares) / n).tolist(), (rng.multinomial(m, shares) / m).tolist(), n, m, 1.96)
            for _ in range(400)
        ]
        chance = 9 * (1 / n + 1 / m)
        assert np.mean([d.plain for d in draws]) == pytest.approx(chance, rel=0.25)
        assert np.mean([d.low > 0 for d in draws]) <= 0.04


def test_the_interval_covers_a_real_shift() -> None:
    rng = np.random.default_rng(6)
    old, new = np.full(10, 0.1), np.linspace(0.04, 0.16, 10)
    truth = float(((new - old) * np.log(new / old)).sum())
    assert truth > 0.1
    inside = []
    for _ in range(400):
        pair = [(rng.multinomial(n, p) / n).tolist() for n, p in ((600, old), (300, new))]
        found = stability(pair[0], pair[1], 600, 300, 1.96)
        inside.append(found.low <= truth <= found.high)
    assert np.mean(inside) > 0.93


# Tests ---------------------------------------------------------------------------------------------------------------


def test_gap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    for n, m, shift in ((200, 300, 0), (200, 300, 8), (1000, 50, 20)):
        old, new = rng.integers(0, 60, n), rng.integers(0, 60, m) + shift
        wanted = ks_2samp(old, new, method="asymp")
        d = gap(singles(old.tolist()), singles(new.tolist()))
        assert d == pytest.approx(wanted.statistic, abs=1e-12)
        assert gap_p(d, n, m) == pytest.approx(kolmogorov(d * np.sqrt(n * m / (n + m))), abs=1e-10)
        assert gap_p(d, n, m) == pytest.approx(wanted.pvalue, rel=0.2, abs=0.01)
    assert gap_p(0.0, 10, 10) == 1.0


def test_shares_of_kinds() -> None:
    before, after = singles([0] * 90 + [1] * 10), singles([0] * 70 + [1] * 25 + [2] * 5)
    kind, change, p = largest_kind(before, after, 5)
    assert (kind, change) == (0, pytest.approx(-0.2))
    assert 0 < p < 0.01


def test_equal_shops_do_not_drift_and_changed_ones_do() -> None:
    alarms = 0
    shops = [[cells(decision) for decision in decisions(1000 + seed, 70)] for seed in range(40)]
    for before, after in zip(shops[::2], shops[1::2], strict=True):
        for name in ("p_noncompliant", "width", "status"):
            sides = [histogram([row[name] for row in side]) for side in (before, after)]
            found = drift(BY_NAME[name], *sides, 9)
            assert found is not None
            alarms += found.p < 0.05
    assert alarms <= 7  # 3 of 60 expected
    record = of_shop(1, 300, "width")
    moved = drift(BY_NAME["width"], record, of_shop(2, 200, "width", wide=1.5), 9)
    assert moved is not None
    assert moved.words == "moved far"
    assert moved.psi.low > 0.25
    assert moved.middle(now=False) == "999 px"
    assert moved.middle(now=True) == "1500 px"
    assert sum(moved.shares_before) == pytest.approx(1)
    json.dumps(moved.row(), allow_nan=False)


def test_few_data_say_nothing() -> None:
    few = drift(BY_NAME["width"], of_shop(1, 300, "width"), of_shop(2, 20, "width", wide=3.0), 9)
    assert few is not None
    assert not few.enough
    assert few.words == f"too few to say ({few.after:.0f} of {LEAST})"
    assert drift(BY_NAME["width"], Histogram(), of_shop(2, 20, "width"), 9) is None


def test_intervals_are_wider_for_more_features() -> None:
    one = drift(BY_NAME["p_primary"], of_shop(1, 200, "p_primary"), of_shop(2, 200, "p_primary", doubt=1.0), 1)
    nine = drift(BY_NAME["p_primary"], of_shop(1, 200, "p_primary"), of_shop(2, 200, "p_primary", doubt=1.0), 9)
    assert one is not None
    assert nine is not None
    assert nine.psi.high > one.psi.high
    assert critical(1 - 0.05 / 9) > critical(0.95)
