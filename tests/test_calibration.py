"""Calibration of the single rules' logits on shops that the model has not seen."""

from __future__ import annotations

import numpy as np

from agpis.calibration import fit_rules


def test_rules_find_the_scale_they_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (6000, 3))
    drawn = rng.random((6000, 3)) < 1 / (1 + np.exp(-(logits * [0.5, 1.5, 1.0] + [-1.0, 2.0, 0.0])))
    known = np.ones_like(drawn)
    known[:3000, 2] = False
    drawn[:3000, 2] = False  # nobody judged: must not count
    found = fit_rules(logits, drawn, known)
    np.testing.assert_allclose(found, [[0.5, -1.0], [1.5, 2.0], [1.0, 0.0]], atol=0.12)


def test_a_rule_that_ranks_backwards_has_no_say() -> None:
    logits = np.linspace(-4, 4, 400)[:, None]
    broken = logits < -2
    scale, shift = fit_rules(logits, broken, np.ones_like(broken))[0]
    assert scale == 0.0
    np.testing.assert_allclose(1 / (1 + np.exp(-shift)), broken.mean(), atol=1e-6)


def test_separable_and_one_sided_rules_stay_finite() -> None:
    logits = np.array([[-300.0, 1.0], [-200.0, 2.0], [200.0, 3.0], [400.0, 4.0]])
    broken = np.array([[False, True], [False, True], [True, True], [True, True]])
    found = fit_rules(logits, broken, np.ones_like(broken))
    assert np.isfinite(found).all()
    assert found[0, 0] > 0
    assert found[1].tolist() == [1.0, 0.0]
