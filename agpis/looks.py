"""Looking at a test before its end: O'Brien and Fleming's limits for a planned number of equally spaced looks.

The statistic of look k of K is significant from C * sqrt(K / k) standard errors on, with C such that a test without any
effect crosses at some look with probability alpha (P. C. O'Brien, T. R. Fleming, A multiple testing procedure for
clinical trials, Biometrics 35 (1979) 549-556). Early looks need strong evidence, the last one little more than a single
test. Intervals made with the same limit are Jennison and Turnbull's repeated intervals: they hold at all looks at once
(C. Jennison, B. W. Turnbull, Group Sequential Methods, Chapman & Hall/CRC 2000, chapters 2.3 and 9).

Probabilities by recursive integration over the sum of K normal steps (P. Armitage, C. K. McPherson, B. C. Rowe, Journal
of the Royal Statistical Society A 132 (1969) 235-244).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from agpis.errors import SettingsError

Floats = npt.NDArray[np.float64]
MOST = 100
"""Looks that can be planned; daily looks of a quarter are 90."""


def crossing(limits: Sequence[float], drift: float = 0.0) -> float:
    """Probability that the statistic is at some look k at least `limits[k - 1]` standard errors from 0, on either side.

    Looks are equally spaced; at the last one the statistic's mean is `drift`.
    """
    looks = len(limits)
    step = drift / math.sqrt(looks)
    nodes, weights = np.polynomial.legendre.leggauss(128)  # at most half a standard deviation apart at 100 looks
    before: tuple[Floats, Floats] | None = None
    mass = 1.0
    for look, limit in enumerate(limits, 1):
        edge = limit * math.sqrt(look)  # of the sum of `look` steps, each normal with mean `step` and variance 1
        places = edge * nodes
        if before is None:
            density = _normal(places - step)
        else:
            density = _normal(places[:, None] - before[0][None, :] - step) @ before[1]
        weighed = density * weights * edge
        before = places, weighed
        mass = float(weighed.sum())
    return 1.0 - mass


def _normal(x: Floats) -> Floats:
    return np.asarray(np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


@lru_cache(maxsize=64)
def constant(looks: int, alpha: float = 0.05) -> float:
    """O'Brien and Fleming's C; 1.96 for one look and alpha 0.05. Raises SettingsError `bad_test`."""
    if not 1 <= looks <= MOST:
        raise SettingsError("bad_test", f"found {looks} looks, allowed are 1 to {MOST}")
    single = NormalDist().inv_cdf(1 - alpha / 2)
    return _root(lambda c: alpha - crossing(_limits(c, looks)), single, 2 * single) if looks > 1 else single


def limit_at(look: int, looks: int, alpha: float = 0.05) -> float:
    """Standard errors from 0 that are significant at look `look` of `looks`. Raises SettingsError `bad_test`."""
    if not 1 <= look <= looks:
        raise SettingsError("bad_test", f"found look {look} of {looks} planned, allowed is 1 to {looks}")
    return constant(looks, alpha) * math.sqrt(looks / look)


def peeking(looks: int, alpha: float = 0.05) -> float:
    """Probability of a false alarm when each of so many equally spaced looks is tested as if it were the only one."""
    return crossing([NormalDist().inv_cdf(1 - alpha / 2)] * looks)


def inflation(looks: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """How many times the sample of a single test the last look must reach, for the same power."""
    if looks == 1:
        return 1.0
    single = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    limits = _limits(constant(looks, alpha), looks)
    drift = _root(lambda d: crossing(limits, d) - power, single, 2 * single)
    return (drift / single) ** 2


def _limits(c: float, looks: int) -> list[float]:
    return [c * math.sqrt(looks / look) for look in range(1, looks + 1)]


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, to 1e-10."""
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
