"""How far a distribution has moved from its record: the population stability index and a two-sample test.

PSI, the sum of (p - q) ln(p / q) over bins, says how far: under 0.1 little, over 0.25 far (N. Siddiqi, Credit Risk
Scorecards, Wiley 2006). The test, Kolmogorov and Smirnov's or that of two shares, says whether chance alone does that.

So that few data do not look like drift: both count independent values (`Histogram.effective`), and what chance alone
gives a PSI, (bins - 1)(1/n + 1/m), is taken off (B. Yurdakul, J. Naranjo, Statistical properties of the population
stability index, Journal of Risk Model Validation 14 (2020) 89-100).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agpis.histograms import Feature, Histogram, median
from agpis.proportions import critical, pooled_z, two_sided

BINS = 10
"""Bins of equal counts in the record, as PSI is used to be taken; a value with more than a bin's share has its own."""
FLOOR = 0.005
"""Smaller shares count as this one, so that a single value in an empty bin cannot make a large PSI."""
LITTLE, FAR = 0.1, 0.25
LEAST = 50
"""Independent values on either side under which nothing is said."""


# Bins ----------------------------------------------------------------------------------------------------------------


def edges(record: Histogram, feature: Feature) -> list[int]:
    """First cells of the bins but the first, which like the last is open: about equal counts of the record a bin."""
    if feature.grid == "kinds":
        return list(range(1, len(feature.kinds)))
    found: set[int] = set()
    share, gathered = record.size / BINS, 0
    ordered = sorted(record.counts)
    for place, cell in enumerate(ordered):
        count = record.counts[cell]
        if count >= share:  # a value of its own: whatever lies beside it is another bin
            found.update((cell, cell + 1))
            gathered = 0
            continue
        gathered += count
        if gathered >= share and place < len(ordered) - 1:
            found.add(cell + 1)
            gathered = 0
    return sorted(found)


def binned(histogram: Histogram, starts: Sequence[int]) -> list[int]:
    """Counts by bin."""
    counts = [0] * (len(starts) + 1)
    for cell, count in histogram.counts.items():
        counts[bisect_right(starts, cell)] += count
    return counts


@dataclass(frozen=True, slots=True)
class Stability:
    """A PSI with its interval."""

    value: float
    """Less what chance alone gives; not under 0."""
    low: float
    high: float
    plain: float
    """As usually computed."""


def stability(before: Sequence[float], after: Sequence[float], n: float, m: float, z: float) -> Stability:
    """PSI of two lists of shares by bin, measured on `n` and `m` independent values, with an interval of `z` errors."""
    shares = [(max(q, FLOOR), max(p, FLOOR), q > FLOOR, p > FLOOR) for q, p in zip(before, after, strict=True)]
    plain = sum((p - q) * math.log(p / q) for q, p, _, _ in shares)
    seen = sum(old or new for _, _, old, new in shares)
    chance = max(seen - 1, 0) * (1 / n + 1 / m)
    # Delta method in either multinomial; a share on the floor does not move the sum.
    slopes_q = [(q, (-math.log(p / q) + 1 - p / q) * old) for q, p, old, _ in shares]
    slopes_p = [(p, (math.log(p / q) + 1 - q / p) * new) for q, p, _, new in shares]
    variance = _spread(slopes_q) / n + _spread(slopes_p) / m + 2 * max(seen - 1, 0) * (1 / n + 1 / m) ** 2
    value, half = plain - chance, z * math.sqrt(variance)
    return Stability(max(0.0, value), max(0.0, value - half), max(0.0, value + half), plain)


def _spread(slopes: Iterable[tuple[float, float]]) -> float:
    pairs = list(slopes)
    mean = sum(share * slope for share, slope in pairs)
    return max(0.0, sum(share * slope * slope for share, slope in pairs) - mean * mean)


# Tests ---------------------------------------------------------------------------------------------------------------


def gap(before: Histogram, after: Histogram) -> float:
    """Kolmogorov and Smirnov's D: the largest difference of the cumulative shares, over the grid's cells."""
    largest = below_before = below_after = 0.0
    for cell in sorted({*before.counts, *after.counts}):
        below_before += before.counts[cell] / before.size
        below_after += after.counts[cell] / after.size
        largest = max(largest, abs(below_before - below_after))
    return largest


def gap_p(d: float, n: float, m: float) -> float:
    """Probability of such a gap by chance, by Kolmogorov's limit; on a grid a little too large, never too small."""
    x = d * math.sqrt(n * m / (n + m))
    if x < 0.2:  # the series has not converged, the probability is 1 to 15 digits
        return 1.0
    return min(1.0, max(0.0, 2 * sum((1.0 if j % 2 else -1.0) * math.exp(-2 * (j * x) ** 2) for j in range(1, 101))))


def largest_kind(before: Histogram, after: Histogram, kinds: int) -> tuple[int, float, float]:
    """Of shares by kind: the kind that moved most, by how much, and p corrected for the number of kinds."""
    n, m = before.effective, after.effective
    shares = [(before.counts[kind] / before.size, after.counts[kind] / after.size) for kind in range(kinds)]
    ps = [two_sided(pooled_z(q * n, n, p * m, m) or 0.0) for q, p in shares]
    kind = max(range(kinds), key=lambda place: abs(shares[place][1] - shares[place][0]))
    tests = max(1, sum(p + q > 0 for q, p in shares) - 1)
    return kind, shares[kind][1] - shares[kind][0], min(1.0, min(ps) * tests)


@dataclass(frozen=True, slots=True)
class Drift:
    """One feature of one bundle, now against its record."""

    feature: Feature
    before: float
    """Effective values of the record."""
    after: float
    psi: Stability
    effect: float
    """KS gap, or the change of the share that moved most; 0 to 1."""
    middle_before: float
    """Median, or that share."""
    middle_after: float
    kind: str
    """Of grid `kinds`: whose share that is."""
    p: float
    corrected: float
    """p corrected for all features of the bundle (Holm)."""
    starts: tuple[int, ...]
    shares_before: tuple[float, ...]
    shares_after: tuple[float, ...]
    """By bin."""

    @property
    def enough(self) -> bool:
        """Whether both sides have values enough to say something."""
        return min(self.before, self.after) >= LEAST

    @property
    def words(self) -> str:
        """How large it is, for a person."""
        if not self.enough:
            return f"too few to say ({min(self.before, self.after):.0f} of {LEAST})"
        if self.corrected >= 0.05:
            return "no change seen"
        if self.psi.value < LITTLE:
            return "moved a little"
        return "moved" if self.psi.value < FAR else "moved far"

    def middle(self, *, now: bool) -> str:
        """The median, or the share of the kind that moved most, for a person."""
        value = self.middle_after if now else self.middle_before
        if self.kind:
            return f"{100 * value:.1f} %"
        unit = f" {self.feature.unit}" if self.feature.unit else ""
        return f"{float(f'{value:.3g}'):g}{unit}"

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "feature": self.feature.name,
            "before": round(self.before, 1),
            "after": round(self.after, 1),
            "psi": round(self.psi.value, 4),
            "psi_low": round(self.psi.low, 4),
            "psi_high": round(self.psi.high, 4),
            "psi_plain": round(self.psi.plain, 4),
            "effect": round(self.effect, 4),
            "kind": self.kind,
            "middle_before": self.middle_before,
            "middle_after": self.middle_after,
            "p": self.p,
            "p_corrected": self.corrected,
            "words": self.words,
        }


def drift(feature: Feature, before: Histogram, after: Histogram, features: int) -> Drift | None:
    """One feature against its record, its PSI interval for `features` at once at 95 %; None where a side is empty.

    `corrected` is still p: the caller has all of them.
    """
    if not before.size or not after.size:
        return None
    n, m = before.effective, after.effective
    starts = edges(before, feature)
    shares = [[count / side.size for count in binned(side, starts)] for side in (before, after)]
    psi = stability(shares[0], shares[1], n, m, critical(1 - 0.05 / features))
    if feature.grid == "kinds":
        place, change, p = largest_kind(before, after, len(feature.kinds))
        if len(feature.kinds) == 2:
            place, change = 1, after.counts[1] / after.size - before.counts[1] / before.size
        kind, effect = feature.kinds[place], abs(change)
        middles: list[float] = [side.counts[place] / side.size for side in (before, after)]
    else:
        kind, effect = "", gap(before, after)
        p = gap_p(effect, n, m)
        middles = [feature.value(median(side) + 0.5) for side in (before, after)]
    return Drift(
        feature=feature,
        before=n,
        after=m,
        psi=psi,
        effect=effect,
        middle_before=middles[0],
        middle_after=middles[1],
        kind=kind,
        p=p,
        corrected=p,
        starts=tuple(starts),
        shares_before=tuple(shares[0]),
        shares_after=tuple(shares[1]),
    )
