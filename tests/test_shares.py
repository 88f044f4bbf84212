"""Wilson intervals and Cohen's kappa against statsmodels, scikit-learn and worked examples."""

from __future__ import annotations

import math

import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.proportion import proportion_confint

from agpis.shares import kappa, wilson


@pytest.mark.parametrize(("count", "total"), [(0, 10), (10, 10), (1, 29), (81, 263), (500, 100_000)])
def test_wilson_agrees_with_statsmodels(count: int, total: int) -> None:
    found = wilson(count, total)
    low, high = proportion_confint(count, total, method="wilson")
    assert found.value == count / total
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_wilson_of_newcombe() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3.
    assert str(wilson(15, 148)) == "0.101 [0.062, 0.160]"
    assert str(wilson(1, 29)) == "0.034 [0.006, 0.172]"


def test_wilson_of_nothing_knows_nothing() -> None:
    found = wilson(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="found 3 of 2"):
        wilson(3, 2)


def test_kappa_agrees_with_scikit_learn_and_the_textbook() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa 0.4 (Wikipedia, "Cohen's kappa", simple example).
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert kappa(pairs) == pytest.approx(0.4)
    three = [("a", "b"), ("a", "a"), ("b", "b"), ("c", "a"), ("c", "c"), ("a", "c")]
    assert kappa(three) == pytest.approx(cohen_kappa_score(*zip(*three, strict=True)))


def test_kappa_where_it_means_nothing() -> None:
    assert math.isnan(kappa([]))
    assert math.isnan(kappa([("y", "y")] * 5))
