"""Differences and tests of shares against statsmodels and against published examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportions_chisquare,
    proportions_ztest,
)

from agpis.proportions import critical, holm, newcombe, pooled_z, share, two_sided

# Counts and totals: small, zero, all, large.
COUNTS = [(0, 10), (10, 10), (1, 29), (15, 148), (81, 263), (56, 70), (7, 100_000)]


def test_newcombe_gives_the_published_interval() -> None:
    """Newcombe 1998, Statistics in Medicine 17: 873-890, Table II, method 10: 56/70 minus 48/80."""
    assert newcombe(48, 80, 56, 70) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_differences_agree_with_statsmodels() -> None:
    for count_a, total_a in COUNTS:
        for count_b, total_b in COUNTS:
            wanted = confint_proportions_2indep(count_b, total_b, count_a, total_a, method="newcomb", compare="diff")
            assert newcombe(count_a, total_a, count_b, total_b) == pytest.approx(wanted, abs=1e-9)
            z = pooled_z(count_a, total_a, count_b, total_b)
            if 0 < count_a + count_b < total_a + total_b:
                counts, totals = np.array([count_b, count_a]), np.array([total_b, total_a])
                wanted_z, wanted_p = proportions_ztest(counts, totals)
                assert z == pytest.approx(wanted_z, abs=1e-12)
                assert two_sided(z) == pytest.approx(wanted_p, rel=1e-9)
                assert z * z == pytest.approx(proportions_chisquare(counts, totals)[0], rel=1e-9, abs=1e-12)
            else:
                assert z is None


def test_nothing_counted_says_nothing() -> None:
    assert newcombe(0, 0, 5, 10) == (-1, 1)
    assert pooled_z(0, 0, 5, 10) is None
    assert share(0, 0).row() == {"count": 0, "total": 0, "share": 0, "low": 0, "high": 1}


def test_tails_stay_exact() -> None:
    assert critical(0.95) == pytest.approx(1.959963984540054)
    assert two_sided(12) == pytest.approx(3.55296e-33, rel=1e-5)
    assert two_sided(-1.0) == two_sided(1.0) == pytest.approx(0.31731, abs=1e-5)
    assert not math.isnan(two_sided(60))


def test_holm_agrees_with_statsmodels() -> None:
    values = [0.04, 0.001, 0.2, 0.011, 0.011, 0.9]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    assert holm([]) == []
