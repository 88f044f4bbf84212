"""Shares out of counts: intervals, the test of two shares, correction for many tests. Standard library only.

Wilson's interval and Newcombe's for a difference are methods 3 and 10 of the papers named below; both stay inside
their limits and keep their coverage with few counts and with shares near 0 and 1, where p +- 1.96 SE does not.

R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998) 857-872;
R. G. Newcombe, Interval estimation for the difference between independent proportions, ibid. 873-890.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `total`, with a Wilson interval. `total` may be an effective size, hence floats."""

    count: float
    total: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; 0 where nothing was counted."""
        return self.count / self.total if self.total else 0.0

    def row(self) -> dict[str, float]:
        """JSON-ready."""
        return {
            "count": self.count,
            "total": self.total,
            "share": round(self.value, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
        }


def critical(confidence: float = 0.95) -> float:
    """How many standard errors a two-sided interval of this confidence reaches; 1.96 for 0.95."""
    return _NORMAL.inv_cdf(0.5 + confidence / 2)


def two_sided(z: float) -> float:
    """Probability of a standard normal at least as far from 0 as `z`, exact far out in the tail."""
    return math.erfc(abs(z) / math.sqrt(2))


def wilson(count: float, total: float, confidence: float = 0.95, *, z: float | None = None) -> tuple[float, float]:
    """Wilson's score interval of `count` out of `total`, inside 0 and 1; (0, 1) where nothing was counted.

    `z` takes the place of `confidence`, for intervals of a sequential test.
    """
    if total <= 0:
        return 0.0, 1.0
    z = critical(confidence) if z is None else z
    share = count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # At 0 and at 1 the bound is the share itself but for rounding.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def share(count: float, total: float, confidence: float = 0.95) -> Share:
    """`count` of `total` with its Wilson interval."""
    return Share(count, total, *wilson(count, total, confidence))


def newcombe(
    count_a: float, total_a: float, count_b: float, total_b: float, *, z: float | None = None
) -> tuple[float, float]:
    """Newcombe's hybrid score interval (95 %, or `z` standard errors) of share b minus share a."""
    if total_a <= 0 or total_b <= 0:
        return -1.0, 1.0
    a, b = count_a / total_a, count_b / total_b
    low_a, high_a = wilson(count_a, total_a, z=z)
    low_b, high_b = wilson(count_b, total_b, z=z)
    return (
        b - a - math.hypot(b - low_b, high_a - a),
        b - a + math.hypot(high_b - b, a - low_a),
    )


def pooled_z(count_a: float, total_a: float, count_b: float, total_b: float) -> float | None:
    """Share b minus share a in standard errors of the pooled share; its square is the chi-squared of the 2 x 2 table.

    None where the pooled share is 0 or 1 or an arm is empty: there is nothing to test.
    """
    if total_a <= 0 or total_b <= 0:
        return None
    pooled = (count_a + count_b) / (total_a + total_b)
    if not 0 < pooled < 1:
        return None
    error = math.sqrt(pooled * (1 - pooled) * (1 / total_a + 1 / total_b))
    return (count_b / total_b - count_a / total_a) / error


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number so that the chance of even one false alarm stays below the level.

    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = reached
    return corrected
