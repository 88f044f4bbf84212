"""What watching finds: shares over time, changes of rules, drift, alarms; and the limits that raise them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from agpis.drift import Drift
from agpis.errors import SettingsError
from agpis.input_record import Record
from agpis.proportions import Share
from agpis.tallies import DAY

By = Literal["day", "week", "month"]
EXPECTED = 5
"""Expected sequences or products with and without a rule, in either window, under which nothing is said of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What raises an alarm; None: nothing does."""

    reject_rate: float | None = None
    """Highest share of judged sequences that are rejected; crossed when the interval's lower bound is above."""
    drift: float | None = None
    """Highest PSI of any feature; crossed when the lower bound is above."""
    coverage: float | None = None
    """Lowest share of products with a sequence; crossed when the upper bound is below."""

    def __post_init__(self) -> None:
        for name, value, top in (
            ("--max-reject-rate", self.reject_rate, 1.0),
            ("--max-drift", self.drift, 10.0),
            ("--min-coverage", self.coverage, 1.0),
        ):
            if value is not None and not 0 <= value <= top:
                raise SettingsError("bad_watch", f"{name} is {value:g}; it is from 0 to {top:g}.")

    @property
    def some(self) -> bool:
        """Whether there is any."""
        return not self.reject_rate is self.drift is self.coverage is None


@dataclass(frozen=True, slots=True)
class Period:
    """A day, week or month."""

    label: str
    start: date
    share: Share | None
    """None where nothing was counted."""


@dataclass(frozen=True, slots=True)
class RuleChange:
    """How often a rule is named or found, in the window and in the one before."""

    rule: str
    before: Share
    now: Share
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    """For the number of rules (Holm)."""

    @property
    def words(self) -> str:
        """What it says, for a person."""
        pooled = (self.before.count + self.now.count) / (self.before.total + self.now.total)
        if min(self.before.total, self.now.total) * min(pooled, 1 - pooled) < EXPECTED:
            return "too few to say"
        if self.corrected >= 0.05:
            return "no change seen"
        if not self.before.count or not self.now.count:
            return "new" if self.difference > 0 else "gone"
        factor = self.now.value / self.before.value
        return f"rises, {factor:.2g} times as often" if factor > 1 else f"falls, {factor:.2g} times as often"

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "rule": self.rule,
            "before": self.before.row(),
            "now": self.now.row(),
            "difference": round(self.difference, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "p": self.p,
            "p_corrected": self.corrected,
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class Alarm:
    """A limit that was crossed."""

    what: Literal["reject_rate", "drift", "coverage"]
    bundle: str
    limit: float
    bound: float
    """The bound of the interval that decided it."""
    message: str

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class BundleWatch:
    """One bundle."""

    bundle: str
    rejects: tuple[Period, ...]
    coverage: tuple[Period, ...]
    reject_now: Share
    reject_before: Share
    coverage_now: Share
    coverage_before: Share
    drifts: tuple[Drift, ...]
    record: Record | None
    no_record: str
    """Why there is none."""
    named: tuple[RuleChange, ...]
    """Rules that reviewers name, of the sequences that they judged."""
    found: tuple[RuleChange, ...]
    """Reasons for which images are removed, of the products."""

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "bundle": self.bundle,
            "reject_rate": {"now": self.reject_now.row(), "before": self.reject_before.row(), **_periods(self.rejects)},
            "coverage": {
                "now": self.coverage_now.row(), "before": self.coverage_before.row(), **_periods(self.coverage),
            },
            "record": self.record.words if self.record else None,
            "drift": [one.row() for one in self.drifts],
            "rules_named": [one.row() for one in self.named],
            "reasons_found": [one.row() for one in self.found],
        }  # fmt: skip


def _periods(periods: Iterable[Period]) -> dict[str, Any]:
    return {"periods": [{"period": one.label, **one.share.row()} for one in periods if one.share]}


@dataclass(frozen=True, slots=True)
class Watch:
    """What was found."""

    since: date
    until: date
    """Not included."""
    days: int
    by: By
    bundles: tuple[BundleWatch, ...]
    limits: Limits
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]

    @property
    def last(self) -> date:
        """Last day of the window."""
        return self.until - DAY

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "window": {"since": str(self.since), "until": str(self.until), "days": self.days},
            "by": self.by,
            "limits": {name: getattr(self.limits, name) for name in self.limits.__dataclass_fields__},
            "alarms": [alarm.row() for alarm in self.alarms],
            "notes": list(self.notes),
            "bundles": [bundle.row() for bundle in self.bundles],
        }
