"""What the pages of a day and of the team say: counts, shares with intervals, agreement; and their plots.

Reject rates are of sequences, each counted once, as its reviewers left it (`agpis.consensus`); throughput, and what a
reviewer did, are of verdicts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from typing import TypeVar

from markupsafe import Markup

from agpis.charts import Point, count_chart, interval_bar, share_chart
from agpis.consensus import Consensus
from agpis.records import Day, Pair
from agpis.review_item import rule_name
from agpis.shares import kappa, wilson
from agpis.store import Store
from agpis.wording import say

K = TypeVar("K")
ROWS = 12
"""Longest table of the team page; further rows are summed up by the monitor's report."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: `count` of `total`, with a 95 % Wilson interval."""

    name: str
    count: int
    total: int
    value: float
    low: float
    high: float
    bar: Markup


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two reviewers on the same sequences."""

    pairs: int
    same: int
    kappa: float
    """Of accepted or rejected; NaN where it means nothing."""
    kappa_reason: float
    """Of accepted, or the first rule named."""


@dataclass(frozen=True, slots=True)
class Team:
    """Everything on the team page."""

    total: int
    """Sequences that were settled."""
    rejected: Row
    by_day: Markup
    throughput: Markup
    bundles: list[Row]
    categories: list[Row]
    rules: list[Row]
    """Of all sequences that were settled."""
    reviewers: list[Row]
    """Of each one's verdicts."""
    agreement: Agreement


def team(store: Store, until: datetime, days: int, names: Mapping[str, str]) -> Team | None:
    """The last `days` UTC days up to the one of `until`; None without a verdict in them."""
    last = until.date()
    first = last - timedelta(days=days - 1)
    since = datetime(first.year, first.month, first.day, tzinfo=until.tzinfo)
    verdicts = {count.day: count.accepted + count.rejected for count in store.tally(since, until, by=("day",))}
    if not verdicts:
        return None
    settled = [one for one in store.consensus(since, until) if one.accepted is not None]
    by_day = _sums(settled, lambda one: one.time.date())
    rules = Counter(rule for one in settled for rule in one.rules)
    dates = [first + timedelta(days=n) for n in range(days)]
    return Team(
        total=len(settled),
        rejected=_row("", sum(not one.accepted for one in settled), len(settled)),
        by_day=share_chart([_point(day, *by_day.get(day, (0, 0))) for day in dates], say("reject_rate_by_day")),
        throughput=count_chart(
            [f"{day:%d %b}" for day in dates], [verdicts.get(day, 0) for day in dates], say("throughput")
        ),
        bundles=_rows(_sums(settled, lambda one: one.bundle)),
        categories=_rows(_sums(settled, lambda one: one.category)),
        rules=_scaled([(rule_name(rule, names), n, len(settled)) for rule, n in sorted(rules.items())]),
        reviewers=_rows(
            {c.reviewer: (c.rejected, c.accepted + c.rejected) for c in store.tally(since, until, by=("reviewer",))}
        ),
        agreement=agreement(store.pairs(since, until)),
    )


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Cohen's kappa of doubly reviewed sequences."""
    verdicts = [tuple(judged.verdict for judged in pair.verdicts) for pair in pairs]
    answers = [(a.accepted, b.accepted) for a, b in verdicts]
    reasons = [tuple("yes" if v.accepted else next(iter(v.rules), "other") for v in both) for both in verdicts]
    return Agreement(len(answers), sum(a == b for a, b in answers), kappa(answers), kappa([(a, b) for a, b in reasons]))


def _sums(settled: Sequence[Consensus], group: Callable[[Consensus], K]) -> dict[K, tuple[int, int]]:
    """Group -> how many sequences of it are rejected, and how many there are."""
    found: dict[K, tuple[int, int]] = {}
    for one in settled:
        rejected, total = found.get(group(one), (0, 0))
        found[group(one)] = rejected + (not one.accepted), total + 1
    return found


def _rows(sums: Mapping[str | None, tuple[int, int]]) -> list[Row]:
    """The largest groups."""
    found = [(name or say("none"), count, total) for name, (count, total) in sums.items()]
    return _scaled(sorted(found, key=lambda row: (-row[2], row[0]))[:ROWS], order=False)


def _scaled(found: Sequence[tuple[str, int, int]], *, order: bool = True) -> list[Row]:
    """Rows whose bars share a scale: the highest interval fills it."""
    kept = sorted(found, key=lambda row: -row[1])[:ROWS] if order else list(found)
    top = max((wilson(count, total).high for _, count, total in kept), default=1.0)
    return [_row(name, count, total, top) for name, count, total in kept]


def _row(name: str, count: int, total: int, top: float = 1.0) -> Row:
    share = wilson(count, total)
    bar = interval_bar(share.value, share.low, share.high, top)
    return Row(name, count, total, share.value, share.low, share.high, bar)


def _point(day: date, rejected: int, total: int) -> Point:
    if not total:
        return Point(f"{day:%d %b}", None)
    share = wilson(rejected, total)
    note = f"{day:%d %b}: {100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f}), n = {total}"
    return Point(f"{day:%d %b}", share.value, share.low, share.high, note)


def typical_seconds(day: Day) -> float | None:
    """Median time of a verdict that stood; None without one."""
    times = [judged.seconds for judged in day.judged if judged.undone is None and judged.seconds > 0]
    return median(times) if times else None


def by_hour(moments: Sequence[datetime]) -> Markup:
    """Bars of verdicts by hour of the day, from the first to the last hour with one."""
    hours = Counter(moment.hour for moment in moments)
    span = range(min(hours), max(hours) + 1) if hours else range(0)
    return count_chart([f"{hour}:00" for hour in span], [hours[hour] for hour in span], say("by_hour"))


def percent(share: float) -> str:
    """`share` for a person; a dash where there is none."""
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"
