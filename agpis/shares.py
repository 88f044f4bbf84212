"""Shares of counts: an interval for a reject rate, and how far two reviewers agree beyond chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from agpis.metrics import Interval

Z95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution: two-sided 95 % intervals."""


def wilson(count: float, total: float, z: float = Z95) -> Interval:
    """The share `count` of `total` with its Wilson score interval (Wilson 1927, doi 10.1080/01621459.1927.10502953).

    Unlike the textbook interval it stays inside 0 to 1 and means something for few or no events. Of nothing (`total`
    0) nothing is known: the share is NaN and the interval 0 to 1. Raises ValueError unless 0 <= count <= total.
    """
    if not 0 <= count <= total:
        raise ValueError(f"found {count} of {total}; a count is at least 0 and at most its total")
    if total == 0:
        return Interval(math.nan, 0.0, 1.0)
    share = count / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def kappa(pairs: Iterable[tuple[object, object]]) -> float:
    """Cohen's kappa of two judgements on each thing (Cohen 1960, doi 10.1177/001316446002000104).

    1 is full agreement, 0 what chance would give with the same habits. NaN without pairs, and where both sides gave
    the same single answer throughout: then chance alone agrees fully.
    """
    both = Counter(pairs)
    total = sum(both.values())
    if not total:
        return math.nan
    first: Counter[object] = Counter()
    second: Counter[object] = Counter()
    for (a, b), count in both.items():
        first[a] += count
        second[b] += count
    observed = sum(count for (a, b), count in both.items() if a == b) / total
    expected = sum(first[answer] * second[answer] for answer in first) / total**2
    return math.nan if expected == 1 else (observed - expected) / (1 - expected)
