"""Two shares against each other: the interval of their difference, the test, correction for many tests.

Newcombe's interval is built of two Wilson intervals (`agpis.shares`) and, like them, keeps its coverage with few counts
and with shares near 0 and 1, where difference +- 1.96 SE does not: R. G. Newcombe, Interval estimation for the
difference between independent proportions, Statistics in Medicine 17 (1998) 873-890, method 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from agpis.shares import Z95, wilson


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

    def __str__(self) -> str:
        if not self.total:
            return "nothing"
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

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
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def two_sided(z: float) -> float:
    """Probability of a standard normal at least as far from 0 as `z`, exact far out in the tail."""
    return math.erfc(abs(z) / math.sqrt(2))


def share(count: float, total: float) -> Share:
    """`count` of `total` with its 95 % Wilson interval."""
    found = wilson(count, total)
    return Share(count, total, found.low, found.high)


def newcombe(count_a: float, total_a: float, count_b: float, total_b: float, z: float = Z95) -> tuple[float, float]:
    """Newcombe's hybrid score interval of share b minus share a; (-1, 1) where one of them is of nothing."""
    if total_a <= 0 or total_b <= 0:
        return -1.0, 1.0
    a, b = wilson(count_a, total_a, z), wilson(count_b, total_b, z)
    difference = b.value - a.value
    return (
        difference - math.hypot(b.value - b.low, a.high - a.value),
        difference + math.hypot(b.high - b.value, a.value - a.low),
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


def p_value(p: float) -> str:
    """A p-value for a person, as exact as anybody needs."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def percent(share: float) -> str:
    """A share for a person."""
    return f"{100 * share:.1f} %"
