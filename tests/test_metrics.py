"""Metrics against scikit-learn and against arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score

from agpis.metrics import (
    auc,
    bootstrap,
    expected_calibration_error,
    precision_recall,
    recall_at_precision,
    threshold_for_false_alarms,
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
