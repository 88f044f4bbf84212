"""AUC, precision and recall, thresholds, calibration, bootstrap intervals. Plain numpy; tests hold it to scikit-learn.

Scores are higher for positives. Every function takes 1-d arrays of the same length and raises ValueError otherwise.

A `Statistic` is a figure whose rows can be weighed: it takes weights (rounds, n) and gives the figure of each round, so
that a thousand bootstrap draws of a thousand rows are a few array operations; see `Resample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Metric = Callable[[Floats, Bools], float]
Statistic = Callable[[Floats], Floats]
"""Weights of the rows (rounds, n) -> the figure of each round (rounds,); NaN where it does not exist."""

CELLS = 2_000_000
"""Weights held at once by `Resample`: 16 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _checked(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, Bools]:
    s, p = np.asarray(scores, dtype=np.float64), np.asarray(positive).astype(bool)
    if s.ndim != 1 or s.shape != p.shape:
        raise ValueError(f"scores {s.shape} and labels {p.shape} must be two 1-d arrays of the same length")
    if not np.isfinite(s).all():
        raise ValueError(f"{int((~np.isfinite(s)).sum())} of {len(s)} scores are not finite")
    return s, p


# Ranking -------------------------------------------------------------------------------------------------------------


def auc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    NaN when one of the two kinds is absent.
    """
    return _once(auc_statistic(scores, positive), len(np.asarray(scores)))


def auc_statistic(scores: npt.ArrayLike, positive: npt.ArrayLike) -> Statistic:
    """`auc` of weighed rows: Mann-Whitney over groups of equal scores."""
    s, p = _checked(scores, positive)
    order = np.argsort(s, kind="stable")
    starts = np.flatnonzero(np.append(True, s[order][1:] != s[order][:-1]))

    def statistic(weights: Floats) -> Floats:
        if not len(s):
            return np.full(len(weights), np.nan)
        ranked = weights[:, order]
        positives = np.add.reduceat(ranked * p[order], starts, axis=1)  # (rounds, distinct scores)
        negatives = np.add.reduceat(ranked * ~p[order], starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives
        return _divided((positives * (below + negatives / 2)).sum(1), positives.sum(1) * negatives.sum(1))

    return statistic


def balanced_auc(scores: npt.ArrayLike, positive: npt.ArrayLike, *, draws: int = 20, seed: int = 0) -> float:
    """Mean AUC over `draws` seeded subsets with as many positives as negatives (the paper's 4.1, one subset a scope).

    All rows of the rarer kind are in every subset, the others are drawn without replacement. NaN without both kinds.
    """
    s, p = _checked(scores, positive)
    kinds = sorted((np.flatnonzero(p), np.flatnonzero(~p)), key=len)
    if not len(kinds[0]):
        return float("nan")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        rows = np.concatenate([kinds[0], rng.choice(kinds[1], len(kinds[0]), replace=False)])
        found.append(auc(s[rows], p[rows]))
    return float(np.mean(found))


def _steps(
    scores: npt.ArrayLike, positive: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Positives and negatives that score at least each distinct score, and that score, falling."""
    s, p = _checked(scores, positive)
    order = np.argsort(-s, kind="stable")
    s, p = s[order], p[order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True)) if len(s) else np.zeros(0, dtype=np.int64)
    hits = np.cumsum(p, dtype=np.int64)[ends]
    return hits, ends + 1 - hits, s[ends]


def roc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, Floats]:
    """False and true positive rate at every distinct score, falling, from (0, 0) to (1, 1)."""
    hits, alarms, _ = _steps(scores, positive)
    rates = [np.append(0.0, counts / max(1, counts[-1] if len(counts) else 0)) for counts in (alarms, hits)]
    return rates[0], rates[1]


def precision_recall(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and the threshold (score >= threshold counts as positive) at every distinct score, falling."""
    hits, alarms, thresholds = _steps(scores, positive)
    return hits / (hits + alarms), hits / max(1, hits[-1] if len(hits) else 0), thresholds


def recall_at_precision(scores: npt.ArrayLike, positive: npt.ArrayLike, precision: float) -> float:
    """Largest recall among thresholds with at least that precision (the paper's R@P0.80, 0.85, 0.90); 0 if none."""
    precisions, recalls, _ = precision_recall(scores, positive)
    reached = recalls[precisions >= precision]
    return float(reached.max()) if len(reached) else 0.0


def recall_statistic(scores: npt.ArrayLike, positive: npt.ArrayLike, precision: float) -> Statistic:
    """`recall_at_precision` of weighed rows; NaN without positives."""
    s, p = _checked(scores, positive)
    order = np.argsort(-s, kind="stable")
    ends = np.flatnonzero(np.append(s[order][1:] != s[order][:-1], True))

    def statistic(weights: Floats) -> Floats:
        if not len(s):
            return np.full(len(weights), np.nan)
        ranked = weights[:, order]
        submitted = np.cumsum(ranked, axis=1)[:, ends]
        hits = np.cumsum(ranked * p[order], axis=1)[:, ends]
        reached = _divided(hits, submitted) >= precision  # NaN, where nothing is submitted, is not
        return _divided(np.where(reached, hits, 0.0).max(1), hits[:, -1])

    return statistic


# Thresholds ----------------------------------------------------------------------------------------------------------


def threshold_for_precision(scores: npt.ArrayLike, positive: npt.ArrayLike, precision: float) -> float | None:
    """Smallest threshold (score >= threshold) with at least that precision, so the one with most recall; None if none.

    One minus the precision is the paper's reject rate: the share that reviewers refuse of what is submitted (5.1).
    """
    precisions, _, thresholds = precision_recall(scores, positive)
    reached = thresholds[precisions >= precision]
    return float(reached[-1]) if len(reached) else None


def threshold_for_withheld(scores: npt.ArrayLike, share: float) -> float:
    """Largest threshold that at most `share` of all rows stay below (score < threshold: not submitted)."""
    s = np.sort(np.asarray(scores, dtype=np.float64))
    if not len(s):
        raise ValueError("no scores to set a threshold on")
    allowed = int(np.floor(share * len(s) + 1e-9))
    return float(s[allowed]) if allowed < len(s) else float(np.nextafter(s[-1], np.inf))


def threshold_for_false_alarms(negative_scores: npt.ArrayLike, share: float) -> float:
    """Smallest threshold that at most `share` of the negatives exceed (score > threshold)."""
    s = np.sort(np.asarray(negative_scores, dtype=np.float64))
    if not len(s):
        raise ValueError("no negatives to set a threshold on")
    allowed = int(np.floor(share * len(s) + 1e-9))
    return float(s[len(s) - 1 - allowed]) if allowed < len(s) else float(s[0])


# Calibration ---------------------------------------------------------------------------------------------------------


def brier(probabilities: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Mean squared distance of probability and outcome; 0 is perfect. NaN without rows."""
    s, p = _checked(probabilities, positive)
    return float(np.mean((s - p) ** 2)) if len(s) else float("nan")


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose probability lies in [low, high); the last bin holds 1 too."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean probability; NaN without rows."""
    frequency: float
    """Share of positives; NaN without rows."""


def _places(probabilities: Floats, bins: int) -> npt.NDArray[np.int64]:
    return np.clip((probabilities * bins).astype(np.int64), 0, bins - 1)


def reliability(probabilities: npt.ArrayLike, positive: npt.ArrayLike, bins: int = 10) -> tuple[Bin, ...]:
    """Confidence and frequency in equal bins of probability, the empty ones among them."""
    s, p = _checked(probabilities, positive)
    found = []
    for index in range(bins):
        inside = _places(s, bins) == index
        means = (float(s[inside].mean()), float(p[inside].mean())) if inside.any() else (float("nan"),) * 2
        found.append(Bin(index / bins, (index + 1) / bins, int(inside.sum()), *means))
    return tuple(found)


def expected_calibration_error(probabilities: npt.ArrayLike, positive: npt.ArrayLike, bins: int = 10) -> float:
    """Mean distance of confidence and frequency over equal bins of probability, weighed by their counts."""
    return _once(calibration_statistic(probabilities, positive, bins), len(np.asarray(probabilities)))


def calibration_statistic(probabilities: npt.ArrayLike, positive: npt.ArrayLike, bins: int = 10) -> Statistic:
    """`expected_calibration_error` of weighed rows."""
    s, p = _checked(probabilities, positive)
    members = [np.flatnonzero(_places(s, bins) == index) for index in range(bins)]

    def statistic(weights: Floats) -> Floats:
        # count / n * |confidence - frequency| of a bin is |sum of (probability - outcome)| / n
        gaps = sum(np.abs(weights[:, rows] @ (s - p)[rows]) for rows in members)
        return _divided(np.asarray(gaps), weights.sum(1))

    return statistic


def mean_statistic(values: npt.ArrayLike, among: npt.ArrayLike | None = None) -> Statistic:
    """Mean of `values` (n,) over weighed rows, or over those of them in `among` (bool (n,))."""
    v = np.asarray(values, dtype=np.float64)
    kept = np.ones(len(v), dtype=bool) if among is None else np.asarray(among).astype(bool)
    filled = np.where(kept, v, 0.0)
    return lambda weights: _divided(weights @ filled, weights @ kept.astype(np.float64))


def _once(statistic: Statistic, count: int) -> float:
    return float(statistic(np.ones((1, count)))[0])


def _divided(above: Floats, below: Floats) -> Floats:
    """Quotient; NaN where `below` is 0."""
    quotient = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


# Bootstrap -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resample:
    """Seeded bootstrap draws of `count` rows; equal settings give equal draws, so that figures can be paired."""

    count: int
    groups: Sequence[object] | None = None
    """What is drawn as one (the sku of each row): rows of one product are not independent. None: each row alone."""
    rounds: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.groups is not None and len(self.groups) != self.count:
            raise ValueError(f"{len(self.groups)} groups for {self.count} scores")

    def weights(self) -> Iterator[Floats]:
        """How often each row is drawn: arrays (rounds at once, count) with `rounds` rows altogether."""
        rng = np.random.default_rng(self.seed)
        group = np.arange(self.count)
        if self.groups is not None:
            _, group = np.unique(np.asarray([str(g) for g in self.groups]), return_inverse=True)
        number = int(group.max(initial=-1)) + 1
        step = max(1, CELLS // max(1, self.count))
        for begin in range(0, self.rounds, step):
            drawn = np.zeros((min(step, self.rounds - begin), self.count))
            for row in drawn:
                row[:] = np.bincount(rng.integers(number, size=number), minlength=number)[group] if number else 0.0
            yield drawn

    def spread(self, statistic: Statistic) -> Floats:
        """The statistic of every draw, (rounds,)."""
        return np.concatenate([statistic(weights) for weights in self.weights()])

    def interval(self, statistic: Statistic) -> Interval:
        """Its value on the rows as they are, with the percentile interval; draws where it is NaN are left out."""
        return Interval(_once(statistic, self.count), *self._tails(self.spread(statistic)))

    def paired(self, first: Statistic, second: Statistic) -> Difference:
        """`first` minus `second` on the same draws."""
        gap = self.spread(first) - self.spread(second)
        gap = gap[np.isfinite(gap)]
        a, b = _once(first, self.count), _once(second, self.count)
        # A draw at exactly 0 speaks for both sides; the one more is the sample itself.
        p = 2 * (1 + min(int((gap <= 0).sum()), int((gap >= 0).sum()))) / (1 + len(gap))
        return Difference(a, b, Interval(a - b, *self._tails(gap)), min(1.0, p) if len(gap) else float("nan"))

    def _tails(self, values: Floats) -> tuple[float, float]:
        values = values[np.isfinite(values)]
        if not len(values):
            return float("nan"), float("nan")
        tail = (1.0 - self.confidence) / 2
        low, high = np.quantile(values, [tail, 1.0 - tail])
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Difference:
    """Two figures on the same rows, what lies between them, and how easily that is chance."""

    first: float
    second: float
    difference: Interval
    p: float
    """Two-sided, of the bootstrap: twice the smaller share of draws on either side of 0; at least 2 / (rounds + 1)."""


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
    rows = np.arange(len(s))

    def statistic(weights: Floats) -> Floats:
        drawn = (np.repeat(rows, row.astype(np.int64)) for row in weights)
        return np.array([metric(s[index], p[index]) for index in drawn])

    return Resample(len(s), groups, rounds, seed, confidence).interval(statistic)
