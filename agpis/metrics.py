"""AUC, recall at precision, calibration error, bootstrap intervals. Plain numpy; agrees with scikit-learn in tests.

Scores are higher for positives. Every function takes 1-d arrays of the same length and raises ValueError otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Metric = Callable[[Floats, npt.NDArray[np.bool_]], float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _checked(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.bool_]]:
    s, p = np.asarray(scores, dtype=np.float64), np.asarray(positive).astype(bool)
    if s.ndim != 1 or s.shape != p.shape:
        raise ValueError(f"scores {s.shape} and labels {p.shape} must be two 1-d arrays of the same length")
    if not np.isfinite(s).all():
        raise ValueError(f"{int((~np.isfinite(s)).sum())} of {len(s)} scores are not finite")
    return s, p


def auc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    NaN when one of the two kinds is absent.
    """
    s, p = _checked(scores, positive)
    positives, negatives = int(p.sum()), int((~p).sum())
    if not positives or not negatives:
        return float("nan")
    # Mann-Whitney: mean rank among equal scores.
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - (counts - 1) / 2)[inverse]
    return float((rank[p].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def precision_recall(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and the threshold (score >= threshold counts as positive) at every distinct score, falling."""
    s, p = _checked(scores, positive)
    order = np.argsort(-s, kind="stable")
    s, p = s[order], p[order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True)) if len(s) else np.zeros(0, dtype=np.int64)
    hits = np.cumsum(p)[ends]
    total = max(1, int(p.sum()))
    return hits / (ends + 1), hits / total, s[ends]


def recall_at_precision(scores: npt.ArrayLike, positive: npt.ArrayLike, precision: float) -> float:
    """Largest recall among thresholds with at least that precision (the paper's R@P0.80, 0.85, 0.90); 0 if none."""
    precisions, recalls, _ = precision_recall(scores, positive)
    reached = recalls[precisions >= precision]
    return float(reached.max()) if len(reached) else 0.0


def threshold_for_false_alarms(negative_scores: npt.ArrayLike, share: float) -> float:
    """Smallest threshold that at most `share` of the negatives exceed (score > threshold)."""
    s = np.sort(np.asarray(negative_scores, dtype=np.float64))
    if not len(s):
        raise ValueError("no negatives to set a threshold on")
    allowed = int(np.floor(share * len(s) + 1e-9))
    return float(s[len(s) - 1 - allowed]) if allowed < len(s) else float(s[0])


def expected_calibration_error(probabilities: npt.ArrayLike, positive: npt.ArrayLike, bins: int = 10) -> float:
    """Mean distance of confidence and frequency over equal bins of probability, weighed by their counts."""
    s, p = _checked(probabilities, positive)
    if not len(s):
        return float("nan")
    place = np.clip((s * bins).astype(np.int64), 0, bins - 1)
    error = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            error += float(inside.mean()) * abs(float(s[inside].mean()) - float(p[inside].mean()))
    return error


def bootstrap(
    metric: Metric,
    scores: npt.ArrayLike,
    positive: npt.ArrayLike,
    *,
    groups: Sequence[object] | None = None,
    rounds: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`metric` with a percentile bootstrap interval; draws in which it is NaN are left out.

    Args:
        groups: what is drawn as one (the sku of each row): rows of one product are not independent.
    """
    s, p = _checked(scores, positive)
    rng = np.random.default_rng(seed)
    if groups is None:
        rows = [np.array([i]) for i in range(len(s))]
    else:
        if len(groups) != len(s):
            raise ValueError(f"{len(groups)} groups for {len(s)} scores")
        _, inverse = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        rows = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
    found = []
    for _ in range(rounds):
        chosen = rng.integers(len(rows), size=len(rows))
        index = np.concatenate([rows[i] for i in chosen])
        value = metric(s[index], p[index])
        if np.isfinite(value):
            found.append(value)
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(found, [tail, 1.0 - tail]) if found else (float("nan"), float("nan"))
    return Interval(float(metric(s, p)), float(low), float(high))
