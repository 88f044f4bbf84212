"""Two arms of an online test: CTR and CVR, the lift with its interval, and whether the test itself is sound.

The use is the paper's section 5.2: products shown with sequences chosen by AGPIS against those chosen before. What is
found before the test (`plan`) and after it (`compare`) is here; monitor.py watches reviewers and inputs, which has
another reader and other sources, hence two files.

Without units every impression counts as independent: pooled two-proportion z-test (its square is the chi-squared of the
2 x 2 table), Newcombe's interval for the difference, Katz's log interval for the ratio (D. Katz et al., Biometrics 34
(1978) 469-474). Impressions of one user are alike; with units the variance is that of a ratio of sums over units, by
the delta method (A. Deng, U. Knoblich, J. Lu, Applying the Delta Method in Metric Analytics, KDD '18, section 3.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from agpis.errors import SettingsError
from agpis.looks import inflation, limit_at, peeking
from agpis.proportions import Share, critical, newcombe, pooled_z, share, two_sided

MISMATCH = 0.001
"""p under which arms are not of the planned sizes (A. Fabijan et al., Diagnosing Sample Ratio Mismatch in Online
Controlled Experiments, KDD '19)."""
FEW = 5
"""Expected events and non-events an arm under which the normal approximation does not hold (Cochran 1954)."""

Metric = Literal["CTR", "CVR"]
Base = Literal["clicks", "impressions"]


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """What one arm saw. `units` has a row of impressions, clicks, orders (int64) for each unit, such as a user."""

    name: str
    impressions: int
    clicks: int
    orders: int | None = None
    units: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        counts = {"impressions": self.impressions, "clicks": self.clicks, "orders": self.orders or 0}
        for name, count in counts.items():
            if count < 0:
                raise SettingsError("bad_counts", f"arm {self.name!r}: found {count} {name}; a count is 0 or more")
        if self.impressions == 0:
            raise SettingsError("bad_counts", f"arm {self.name!r}: found 0 impressions; there is nothing to compare")
        for above, below in (("clicks", "impressions"), ("orders", "clicks")):
            if counts[above] > counts[below]:
                raise SettingsError(
                    "bad_counts",
                    f"arm {self.name!r}: found {counts[above]} {above} of {counts[below]} {below}; "
                    f"there are at most as many. Count one {above[:-1]} for each of the {below}.",
                )


@dataclass(frozen=True, slots=True)
class Lift:
    """One metric of two arms. Intervals hold at the level asked for, and at every planned look."""

    metric: Metric
    of: str
    """What is counted, of what: "clicks of impressions"."""
    a: Share
    b: Share
    difference: float
    """b minus a, in shares."""
    difference_low: float
    difference_high: float
    ratio: float | None
    """b / a - 1; None where a is 0."""
    ratio_low: float | None
    """None where a or b is 0: the log interval does not exist."""
    ratio_high: float | None
    z: float | None
    p: float | None
    """None where no event, or nothing but events, was seen."""
    significant: bool
    clustered: bool
    few: bool
    """Fewer than 5 expected events or non-events in an arm: p and the intervals are no more than a hint."""

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "a": self.a.row(), "b": self.b.row()}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Whether the arms' sizes fit the planned split: chi-squared with one degree of freedom."""

    counted: Literal["units", "impressions"]
    a: int
    b: int
    planned: float
    """Share planned for b."""
    chi_squared: float
    p: float

    @property
    def found(self) -> bool:
        """Whether p is below 0.001."""
        return self.p < MISMATCH


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms compared."""

    a: str
    b: str
    lifts: tuple[Lift, ...]
    mismatch: Mismatch
    level: float
    look: int
    looks: int
    limit: float
    """Standard errors from 0 that are significant at this look."""
    warnings: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        mismatch = {name: getattr(self.mismatch, name) for name in self.mismatch.__dataclass_fields__}
        return {
            "a": self.a,
            "b": self.b,
            "metrics": [lift.row() for lift in self.lifts],
            "sample_ratio": {**mismatch, "mismatch": self.mismatch.found},
            "alpha": self.level,
            "look": self.look,
            "looks": self.looks,
            "limit": self.limit,
            "warnings": list(self.warnings),
        }


def compare(
    a: Arm,
    b: Arm,
    *,
    alpha: float = 0.05,
    looks: int = 1,
    look: int | None = None,
    split: float = 0.5,
    per: Base = "clicks",
    planned: int | None = None,
    crossed: int = 0,
) -> Comparison:
    """Compare arm `b` (new) with arm `a` (control): CTR, and CVR where both have orders.

    `looks` looks are planned, equally spaced, of which this is number `look` (the last one when left out); `split` is
    the share planned for b; `per` says what orders are divided by; `planned` are the impressions planned for both arms
    together, to tell a peek from the end; `crossed` units were seen in both arms.
    Raises SettingsError `bad_test`, `bad_counts`.
    """
    _probability("alpha", alpha)
    _probability("the share planned for b", split)
    if planned is not None and planned < 1:
        raise SettingsError("bad_test", f"found {planned} impressions planned, allowed is 1 or more")
    look = looks if look is None else look
    limit = limit_at(look, looks, alpha)
    lifts = [_lift("CTR", "clicks of impressions", a, b, 1, 0, limit)]
    if a.orders is not None and b.orders is not None:
        below = 1 if per == "clicks" else 0
        lifts.append(_lift("CVR", f"orders of {per}", a, b, 2, below, limit))
    mismatch = _mismatch(a, b, split)
    warnings = _warnings(a, b, lifts, mismatch, crossed)
    seen = a.impressions + b.impressions
    if looks == 1 and planned is not None and seen < planned:
        warnings.append(
            f"This is a peek: {seen} of {planned} planned impressions ({seen / planned:.0%}). Stopping when p < "
            f"{alpha:g} gives false alarms in {peeking(5, alpha):.0%} of tests with 5 looks and in "
            f"{peeking(20, alpha):.0%} with 20. Wait for the end, or plan the looks with --looks."
        )
    return Comparison(a.name, b.name, tuple(lifts), mismatch, alpha, look, looks, limit, tuple(warnings))


def _probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise SettingsError("bad_test", f"found {name} {value:g}, allowed is a number between 0 and 1")


@dataclass(frozen=True, slots=True)
class _Rate:
    """One metric of one arm; `variance` over units, None where there are none."""

    count: int
    total: int
    variance: float | None

    @property
    def value(self) -> float:
        return self.count / self.total if self.total else 0.0

    @property
    def of_logarithm(self) -> float:
        """Variance of the logarithm; infinite without a single event."""
        if not self.count:
            return math.inf
        return 1 / self.count - 1 / self.total if self.variance is None else self.variance / self.value**2

    @property
    def share(self) -> Share:
        """With the Wilson interval, over units that of as many independent events as would vary so much."""
        spread = self.value * (1 - self.value)
        if not self.variance or spread <= 0:
            return share(self.count, self.total)
        size = spread / self.variance
        found = share(self.value * size, size)
        return Share(self.count, self.total, found.low, found.high)


def _rate(arm: Arm, above: int, below: int) -> _Rate:
    counts = (arm.impressions, arm.clicks, arm.orders or 0)
    if arm.units is None or not counts[below]:
        return _Rate(counts[above], counts[below], None)
    y, x = arm.units[:, above].astype(np.float64), arm.units[:, below].astype(np.float64)
    residuals = y - x * (y.sum() / x.sum())
    units = len(arm.units)
    return _Rate(counts[above], counts[below], float(units / max(units - 1, 1) * (residuals**2).sum() / x.sum() ** 2))


def _lift(metric: Metric, of: str, first: Arm, second: Arm, above: int, below: int, limit: float) -> Lift:
    a, b = _rate(first, above, below), _rate(second, above, below)
    difference = b.value - a.value
    clustered = a.variance is not None and b.variance is not None
    if a.variance is not None and b.variance is not None:
        error = math.sqrt(a.variance + b.variance)
        z = difference / error if error else None
        low, high = difference - limit * error, difference + limit * error
    else:
        z = pooled_z(a.count, a.total, b.count, b.total)
        low, high = newcombe(a.count, a.total, b.count, b.total, limit)
    ratio = b.value / a.value if a.count else None
    half = limit * math.sqrt(a.of_logarithm + b.of_logarithm)
    bounds = (ratio * math.exp(-half) - 1, ratio * math.exp(half) - 1) if ratio and math.isfinite(half) else None
    pooled = (a.count + b.count) / max(a.total + b.total, 1)
    expected = min(total * part for total in (a.total, b.total) for part in (pooled, 1 - pooled))
    return Lift(
        metric=metric,
        of=of,
        a=a.share,
        b=b.share,
        difference=difference,
        difference_low=low,
        difference_high=high,
        ratio=None if ratio is None else ratio - 1,
        ratio_low=bounds[0] if bounds else None,
        ratio_high=bounds[1] if bounds else None,
        z=z,
        p=None if z is None else two_sided(z),
        significant=z is not None and abs(z) >= limit,
        clustered=clustered,
        few=expected < FEW,
    )


def _mismatch(a: Arm, b: Arm, split: float) -> Mismatch:
    counted: Literal["units", "impressions"] = "impressions"
    count_a, count_b = a.impressions, b.impressions
    if a.units is not None and b.units is not None:
        counted, count_a, count_b = "units", len(a.units), len(b.units)
    total = count_a + count_b
    z = (count_b - total * split) / math.sqrt(total * split * (1 - split))
    return Mismatch(counted, count_a, count_b, split, z * z, two_sided(z))


def _warnings(a: Arm, b: Arm, lifts: list[Lift], mismatch: Mismatch, crossed: int) -> list[str]:
    warnings = []
    if mismatch.found:
        warnings.append(
            f"Sample-ratio mismatch: {mismatch.a} and {mismatch.b} {mismatch.counted}, planned "
            f"{1 - mismatch.planned:.0%} and {mismatch.planned:.0%} (p = {mismatch.p:.2g}, under {MISMATCH:g}). "
            "Something assigns, logs or filters the arms differently: find it first; the lift cannot be trusted."
        )
    if crossed:
        warnings.append(f"{crossed} units were seen in both arms; their answers mix both. Assign by unit, once.")
    if a.units is None or b.units is None:
        warnings.append(
            "Every impression counts as independent. Where one user has several, the intervals are too narrow: "
            "give events with a unit."
        )
    elif min(len(a.units), len(b.units)) < 40:
        warnings.append("Fewer than 40 units in an arm: intervals over units are then too narrow.")
    warnings += [
        f"{lift.metric}: fewer than {FEW} expected events in an arm; too few for these intervals and this p."
        for lift in lifts
        if lift.few
    ]
    return warnings


# Before the test -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a test must be."""

    base: float
    wanted: float
    """Rate of arm b that is to be found."""
    alpha: float
    power: float
    looks: int
    a: int
    """Events (impressions for CTR, clicks for CVR) of arm a at the last look."""
    b: int
    single: float
    """Events of both arms together that one look at the end needs, not rounded."""
    inflation: float

    @property
    def total(self) -> int:
        """Events of both arms."""
        return self.a + self.b

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "total": self.total}


def plan(
    base: float,
    lift: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    split: float = 0.5,
    looks: int = 1,
    absolute: bool = False,
) -> Plan:
    """Sample size with which a lift of rate `base` is found with probability `power`, by a two-sided test.

    `lift` is relative (0.05: five percent more) or, with `absolute`, in shares. J. L. Fleiss, B. Levin, M. C. Paik,
    Statistical Methods for Rates and Proportions, 3rd ed. (2003), section 4.3, without continuity correction; as R's
    power.prop.test. For `looks` planned looks more by O'Brien and Fleming's inflation. Raises SettingsError `bad_test`.
    """
    for name, value in (("base rate", base), ("power", power), ("alpha", alpha), ("the share planned for b", split)):
        _probability(name, value)
    wanted = base + lift if absolute else base * (1 + lift)
    if not 0 < wanted < 1 or wanted == base:
        raise SettingsError(
            "bad_test", f"found a lift of {lift:g} on {base:g}, which gives {wanted:g}; wanted another rate from 0 to 1"
        )
    if power <= alpha:
        raise SettingsError("bad_test", f"found power {power:g}, which is not above alpha {alpha:g}")
    odds = split / (1 - split)  # size of b for each of a
    mean = (base + odds * wanted) / (1 + odds)
    null = math.sqrt(mean * (1 - mean) * (1 + 1 / odds))
    alternative = math.sqrt(base * (1 - base) + wanted * (1 - wanted) / odds)
    size = ((critical(1 - alpha) * null + NormalDist().inv_cdf(power) * alternative) / (wanted - base)) ** 2
    limit_at(looks, looks, alpha)
    more = inflation(looks, alpha, power)
    return Plan(
        base=base,
        wanted=wanted,
        alpha=alpha,
        power=power,
        looks=looks,
        a=math.ceil(size * more - 1e-9),
        b=math.ceil(size * odds * more - 1e-9),
        single=size * (1 + odds),
        inflation=more,
    )
