"""Weights of the evidence: equal to scikit-learn where there is no ridge to speak of, and what the fit cannot do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from agpis import weighing
from agpis.bundle_manifest import Weighing
from agpis.weighing import FEATURES, PRIOR, features, fit, p_qualified

TRUE = np.array([0.6, 1.5, 0.3, 0.8, 0.2, 0.1])


def drawn(n: int = 3000, weights: np.ndarray = TRUE, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features, verdicts by these weights and a bias of 1, and products of ten rows each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 2.0, (n, 6))
    x[:, 1:4] = -np.abs(x[:, 1:4])
    y = rng.random(n) < 1.0 / (1.0 + np.exp(-(x @ weights + 1.0)))
    return x, y, [str(i // 10) for i in range(n)]


def values(found: Weighing) -> np.ndarray:
    return np.array([getattr(found, name) for name in FEATURES])


def test_features_by_hand() -> None:
    kin, apart, clean = [[0.5, 0.5], [1.0, 1.0]], [[0.25], [1.0]], [[1.0, 0.1], [0.0, 1.0]]
    found = features([0.5, 0.9], kin, apart, clean, [0.8, 0.8], [0.5, 0.5])
    odds = [0.0, np.log(9.0)]
    np.testing.assert_allclose(found[:, 0], odds)
    np.testing.assert_allclose(found[:, 1:4], np.log([[0.25, 0.25, 0.1], [1.0, 1.0, weighing.LEAST]]))
    np.testing.assert_allclose(found[:, 4:], np.log([[4.0, 4.0]] * 2))
    assert np.isfinite(features([0.0, 1.0], kin, apart, clean, [1.0, 0.0], [0.0, 1.0])).all()
    one = features([0.7], [[1.0]], np.ones((1, 0)), [[1.0]], [0.9], [0.0])  # K = 1 has no pairs
    assert one[0, 2] == 0.0


def test_the_fit_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, products = drawn()
    monkeypatch.setattr(weighing, "RIDGES", (1e-9,))
    weights = np.random.default_rng(1).uniform(0.2, 2.0, len(y))
    found, _ = fit(x, y, products, weights=weights)
    expected = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(values(found), expected.coef_[0], atol=2e-3)
    assert found.bias == pytest.approx(expected.intercept_[0], abs=2e-3)
    np.testing.assert_allclose(p_qualified(x, found), expected.predict_proba(x)[:, 1], atol=2e-3)


def test_few_verdicts_stay_near_the_product_and_many_leave_it() -> None:
    x, y, products = drawn(40, PRIOR)
    few, _ = fit(x, y, [str(i) for i in range(40)])
    assert np.abs(values(few) - PRIOR).max() < 0.5
    x, y, products = drawn()
    many, outside = fit(x, y, products)
    assert np.abs(values(many) - TRUE).max() < 0.2
    assert outside.shape == y.shape
    assert np.mean(outside) == pytest.approx(np.mean(y), abs=0.02)


def test_a_feature_that_would_fall_is_left_out() -> None:
    found, _ = fit(*drawn(weights=np.array([0.6, -0.8, 0.5, -0.3, -0.2, 0.0])))
    assert (found.kin, found.clean) == (0.0, 0.0)
    assert found.p_qualified > 0.4
    assert found.p_primary < -0.1  # may fall: it is only known to say something


def test_no_row_is_weighed_by_its_own_product(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, products = drawn(400)
    monkeypatch.setattr(weighing, "RIDGES", (3.0,))
    _, before = fit(x, y, products)
    flipped = y.copy()
    flipped[:10] = ~flipped[:10]  # the verdicts of one product
    _, after = fit(x, flipped, products)
    np.testing.assert_array_equal(after[:10], before[:10])
    assert np.abs(after[10:] - before[10:]).max() > 1e-4


def test_the_prior_moves_the_odds_and_nothing_else() -> None:
    x, y, products = drawn()
    found, _ = fit(x, y, products)
    moved, _ = fit(x, y, products, prior=0.8, data="reviews")
    np.testing.assert_array_equal(values(moved), values(found))
    share = y.mean()
    assert moved.bias - found.bias == pytest.approx(np.log(0.8 / 0.2) - np.log(share / (1 - share)), abs=2e-4)
    assert moved.data.endswith("reviews, moved to 0.8 accepted")


@pytest.mark.parametrize(("rows", "products"), [(slice(0, 30), 3), (None, 50)])
def test_too_little_is_refused(rows: slice | None, products: int) -> None:
    x, y, _ = drawn(50)
    y = y if rows is not None else np.ones(50, bool)
    with pytest.raises(ValueError, match=f"{products} products"):
        fit(x, y, [str(i % products) for i in range(50)])
