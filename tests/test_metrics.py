"""Metrics against scikit-learn and against arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, precision_recall_curve, roc_auc_score, roc_curve

from agpis.metrics import (
    Resample,
    Statistic,
    auc,
    auc_statistic,
    balanced_auc,
    bootstrap,
    brier,
    calibration_statistic,
    expected_calibration_error,
    mean_statistic,
    precision_recall,
    recall_at_precision,
    recall_statistic,
    reliability,
    roc,
    threshold_for_false_alarms,
    threshold_for_precision,
    threshold_for_withheld,
)


def drawn(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(200) < 0.3
    scores = rng.normal(positive * 0.8, 1.0)
    return (np.round(scores, 1) if ties else scores), positive


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_auc_agrees_with_scikit_learn(seed: int, ties: bool) -> None:
    scores, positive = drawn(seed, ties)
    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_auc_counts_ties_half_and_needs_both_kinds() -> None:
    assert auc([0.5, 0.5], [True, False]) == 0.5
    assert np.isnan(auc([0.1, 0.2], [True, True]))


@pytest.mark.parametrize("wanted", [0.8, 0.85, 0.9])
@pytest.mark.parametrize("ties", [False, True])
def test_recall_at_precision_agrees_with_scikit_learn(wanted: float, ties: bool) -> None:
    scores, positive = drawn(7, ties)
    scores = scores + 1.2 * positive
    precisions, recalls, _ = precision_recall_curve(positive, scores)
    expected = recalls[:-1][precisions[:-1] >= wanted].max(initial=0.0)  # the last point is no threshold
    assert recall_at_precision(scores, positive, wanted) == pytest.approx(expected, abs=1e-12)
    assert 0.0 < expected < 1.0


def test_precision_never_reached() -> None:
    assert recall_at_precision([0.9, 0.1], [False, True], 0.9) == 0.0


def test_precision_recall_by_hand() -> None:
    precision, recall, threshold = precision_recall([0.9, 0.8, 0.8, 0.1], [True, True, False, False])
    assert threshold.tolist() == [0.9, 0.8, 0.1]
    assert precision.tolist() == [1.0, pytest.approx(2 / 3), 0.5]
    assert recall.tolist() == [0.5, 1.0, 1.0]


def test_threshold_for_false_alarms_is_the_smallest_that_holds() -> None:
    negatives = np.arange(100) / 100
    threshold = threshold_for_false_alarms(negatives, 0.05)
    assert (negatives > threshold).sum() == 5
    assert threshold_for_false_alarms(negatives, 0.0) == 0.99
    with pytest.raises(ValueError, match="no negatives"):
        threshold_for_false_alarms([], 0.05)


def test_calibration_error_by_hand() -> None:
    # one bin says 0.25 and is right in 1 of 4, another says 0.95 and is right in none of 4
    probabilities = [0.25] * 4 + [0.95] * 4
    positive = [True, False, False, False] + [False] * 4
    assert expected_calibration_error(probabilities, positive) == pytest.approx(0.5 * 0.95)
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0.0


def test_bootstrap_covers_and_groups_widen_it() -> None:
    scores, positive = drawn(3, False)
    plain = bootstrap(auc, scores, positive, rounds=200)
    assert plain.low < plain.value < plain.high
    assert plain == bootstrap(auc, scores, positive, rounds=200)  # seeded
    # every row ten times: without groups the interval shrinks falsely, with them it is that of the single rows
    many, labels, groups = np.repeat(scores, 10), np.repeat(positive, 10), np.repeat(np.arange(200), 10)
    false = bootstrap(auc, many, labels, rounds=100)
    honest = bootstrap(auc, many, labels, groups=list(groups), rounds=100)
    assert false.high - false.low < 0.5 * (honest.high - honest.low)
    assert str(plain).startswith(f"{plain.value:.3f} [")


@pytest.mark.parametrize(
    ("scores", "positive", "message"),
    [
        ([0.1, 0.2], [True], r"scores \(2,\) and labels \(1,\)"),
        ([[0.1]], [[True]], r"two 1-d arrays"),
        ([0.1, float("nan")], [True, False], "1 of 2 scores are not finite"),
    ],
)
def test_bad_arrays_are_named(scores: list[float], positive: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auc(scores, positive)


def test_bootstrap_refuses_groups_of_another_length() -> None:
    with pytest.raises(ValueError, match="3 groups for 2 scores"):
        bootstrap(auc, [0.1, 0.2], [True, False], groups=[1, 2, 3])


# Curves and calibration against scikit-learn -------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_curves_agree_with_scikit_learn(ties: bool) -> None:
    scores, positive = drawn(5, ties)
    false, true = roc(scores, positive)
    expected = roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, expected[0], atol=1e-12)
    np.testing.assert_allclose(true, expected[1], atol=1e-12)
    assert np.trapezoid(true, false) == pytest.approx(auc(scores, positive), abs=1e-12)
    # scikit-learn rises and ends with the point (1, 0), which no threshold gives
    precisions, recalls, thresholds = precision_recall(scores, positive)
    expected = precision_recall_curve(positive, scores)
    np.testing.assert_allclose(precisions[::-1], expected[0][:-1], atol=1e-12)
    np.testing.assert_allclose(recalls[::-1], expected[1][:-1], atol=1e-12)
    np.testing.assert_allclose(thresholds[::-1], expected[2], atol=0)


def probabilities(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 1, 300)
    return p, rng.random(300) < p**2


def test_calibration_agrees_with_scikit_learn() -> None:
    p, positive = probabilities(2)
    assert brier(p, positive) == pytest.approx(brier_score_loss(positive, p), abs=1e-12)
    bins = reliability(p, positive, bins=10)
    frequency, confidence = calibration_curve(positive, p, n_bins=10)
    filled = [b for b in bins if b.count]
    np.testing.assert_allclose([b.frequency for b in filled], frequency, atol=1e-12)
    np.testing.assert_allclose([b.confidence for b in filled], confidence, atol=1e-12)
    assert sum(b.count for b in bins) == 300
    error = sum(b.count / 300 * abs(b.confidence - b.frequency) for b in filled)
    assert expected_calibration_error(p, positive) == pytest.approx(error, abs=1e-12)


def test_reliability_keeps_empty_bins_and_both_ends() -> None:
    bins = reliability([0.0, 1.0], [False, True], bins=4)
    assert [b.count for b in bins] == [1, 0, 0, 1]
    assert np.isnan(bins[1].confidence)
    assert (bins[3].low, bins[3].high, bins[3].frequency) == (0.75, 1.0, 1.0)


# Subsets and thresholds ----------------------------------------------------------------------------------------------


def test_balanced_auc_is_the_mean_of_balanced_subsets() -> None:
    scores, positive = drawn(11, False)
    few = int(positive.sum())
    rng = np.random.default_rng(4)
    rare, common = np.flatnonzero(positive), np.flatnonzero(~positive)
    subsets = [np.concatenate([rare, rng.choice(common, few, replace=False)]) for _ in range(7)]
    expected = np.mean([roc_auc_score(positive[rows], scores[rows]) for rows in subsets])
    assert balanced_auc(scores, positive, draws=7, seed=4) == pytest.approx(expected, abs=1e-12)
    # which kind is the rarer makes no difference to what is drawn
    assert balanced_auc(-scores, ~positive, draws=7, seed=4) == pytest.approx(expected, abs=1e-12)
    # its expectation is the AUC of all rows
    assert balanced_auc(scores, positive, draws=400) == pytest.approx(auc(scores, positive), abs=0.005)
    assert np.isnan(balanced_auc(scores, np.zeros(200, bool)))


def test_threshold_for_precision_gives_most_recall() -> None:
    scores, positive = drawn(7, True)
    scores = scores + 1.2 * positive
    threshold = threshold_for_precision(scores, positive, 0.85)
    assert threshold is not None
    above = scores >= threshold
    assert positive[above].mean() >= 0.85
    assert above[positive].mean() == pytest.approx(recall_at_precision(scores, positive, 0.85), abs=1e-12)
    assert threshold_for_precision([0.9, 0.1], [False, True], 0.9) is None


@pytest.mark.parametrize(("share", "withheld"), [(0.0, 0), (0.1, 1), (0.19, 1), (0.5, 5), (1.0, 10)])
def test_threshold_for_withheld_is_the_largest_that_holds(share: float, withheld: int) -> None:
    scores = np.arange(10) / 10
    threshold = threshold_for_withheld(scores, share)
    assert (scores < threshold).sum() == withheld
    assert share == 1.0 or (scores < np.nextafter(threshold, 2)).sum() == withheld + 1


def test_threshold_for_withheld_with_ties_never_takes_more() -> None:
    assert threshold_for_withheld([0.5, 0.5, 0.5, 0.9], 0.5) == 0.5
    with pytest.raises(ValueError, match="no scores"):
        threshold_for_withheld([], 0.5)


# Weighed rows and the bootstrap --------------------------------------------------------------------------------------


def recall_80(scores: np.ndarray, positive: np.ndarray) -> float:
    return recall_at_precision(scores, positive, 0.8) if positive.any() else float("nan")


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_weighed_rows_equal_repeated_rows(ties: bool, grouped: bool) -> None:
    scores, positive = drawn(9, ties)
    scores = scores + positive
    p = 1 / (1 + np.exp(-scores))
    groups = [f"sku {i % 37}" for i in range(200)] if grouped else None
    pairs: list[tuple[Statistic, Callable[..., float], np.ndarray]] = [
        (auc_statistic(scores, positive), roc_auc_score_of, scores),
        (recall_statistic(scores, positive, 0.8), recall_80, scores),
        (calibration_statistic(p, positive), expected_calibration_error, p),
        (mean_statistic((p - positive) ** 2), brier, p),
    ]
    for statistic, metric, values in pairs:
        fast = Resample(200, groups, rounds=60, seed=5).interval(statistic)
        slow = bootstrap(metric, values, positive, groups=groups, rounds=60, seed=5)
        np.testing.assert_allclose(
            [fast.value, fast.low, fast.high], [slow.value, slow.low, slow.high], atol=1e-9, equal_nan=True
        )


def roc_auc_score_of(scores: np.ndarray, positive: np.ndarray) -> float:
    return float(roc_auc_score(positive, scores))


def test_mean_among_some_rows() -> None:
    interval = Resample(4, rounds=200).interval(mean_statistic([1, 0, 5, 7], [True, True, False, False]))
    assert interval.value == 0.5
    assert 0.0 <= interval.low < interval.high <= 1.0
    nothing = Resample(2, rounds=10).interval(mean_statistic([1, 2], [False, False]))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_draws_come_in_parts_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(Resample(50, rounds=30).weights()))
    monkeypatch.setattr("agpis.metrics.CELLS", 170)
    parts = list(Resample(50, rounds=30).weights())
    assert len(parts) == 10
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (whole.sum(1) == 50).all()


def test_groups_are_drawn_whole() -> None:
    weights = np.concatenate(list(Resample(6, ["a", "b", "a", "c", "b", "b"], rounds=20).weights()))
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 5])
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()


def test_pairing_sees_a_small_difference_that_two_intervals_do_not() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(2000) < 0.5
    better = rng.normal(positive * 1.0, 1.0)
    worse = better + rng.normal(0, 0.6, 2000)
    resample = Resample(2000, rounds=500)
    found = resample.paired(auc_statistic(better, positive), auc_statistic(worse, positive))
    assert found.first == pytest.approx(roc_auc_score(positive, better))
    assert found.second == pytest.approx(roc_auc_score(positive, worse))
    assert found.difference.value == pytest.approx(found.first - found.second)
    assert 0 < found.difference.low < found.difference.high
    assert found.p < 0.05
    apart = [resample.interval(auc_statistic(s, positive)) for s in (better, worse)]
    assert apart[0].low < apart[1].high  # the two intervals overlap
    back = resample.paired(auc_statistic(worse, positive), auc_statistic(better, positive))
    assert back.p == pytest.approx(found.p)
    assert resample.paired(auc_statistic(better, positive), auc_statistic(better, positive)).p == 1.0


def test_paired_bootstrap_holds_its_level() -> None:
    """Two equally good, independent raters: about 5 % of 200 data sets fall under p = 0.05."""
    rng = np.random.default_rng(3)
    small = 0
    for seed in range(200):
        positive = rng.random(120) < 0.5
        a, b = (auc_statistic(rng.normal(positive * 1.0, 1.0), positive) for _ in range(2))
        small += Resample(120, rounds=200, seed=seed).paired(a, b).p < 0.05
    assert 2 <= small <= 20
