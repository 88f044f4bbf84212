"""What the pages of a day and of the team say: counts, shares with intervals, agreement; and their plots."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from markupsafe import Markup

from agpis.charts import Point, count_chart, interval_bar, share_chart
from agpis.records import Count, Day, Pair
from agpis.review_item import rule_name
from agpis.shares import kappa, wilson
from agpis.store import Store
from agpis.wording import say

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
    seconds: float = 0.0
    """Mean time a verdict."""


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
    rejected: Row
    by_day: Markup
    throughput: Markup
    bundles: list[Row]
    categories: list[Row]
    rules: list[Row]
    reviewers: list[Row]
    agreement: Agreement


def team(store: Store, until: datetime, days: int, names: Mapping[str, str]) -> Team | None:
    """The last `days` UTC days up to the one of `until`; None without a verdict in them."""
    last = until.date()
    first = last - timedelta(days=days - 1)
    since = datetime(first.year, first.month, first.day, tzinfo=until.tzinfo)
    by_day = {count.day: count for count in store.tally(since, until, by=("day",)) if count.day is not None}
    total, rejected = _sums(list(by_day.values()))
    if not total:
        return None
    dates = [first + timedelta(days=n) for n in range(days)]
    rules = [count for count in store.tally(since, until, by=("rule",)) if count.rule]
    return Team(
        total=total,
        rejected=_row("", rejected, total),
        by_day=share_chart([_point(day, by_day.get(day)) for day in dates], say("reject_rate_by_day")),
        throughput=count_chart(
            [f"{day:%d %b}" for day in dates],
            [by_day[day].accepted + by_day[day].rejected if day in by_day else 0 for day in dates],
            say("throughput"),
        ),
        bundles=_rows(store.tally(since, until, by=("bundle",)), "bundle"),
        categories=_rows(store.tally(since, until, by=("category",)), "category"),
        rules=_scaled([(rule_name(c.rule or "", names), c.rejected, total, 0.0) for c in rules]),
        reviewers=_rows(store.tally(since, until, by=("reviewer",)), "reviewer"),
        agreement=agreement(store.pairs(since, until)),
    )


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Cohen's kappa of doubly reviewed sequences."""
    verdicts = [tuple(judged.verdict for judged in pair.verdicts) for pair in pairs]
    answers = [(a.accepted, b.accepted) for a, b in verdicts]
    reasons = [tuple("yes" if v.accepted else next(iter(v.rules), "other") for v in both) for both in verdicts]
    return Agreement(len(answers), sum(a == b for a, b in answers), kappa(answers), kappa([(a, b) for a, b in reasons]))


def _sums(counts: Sequence[Count]) -> tuple[int, int]:
    rejected = sum(count.rejected for count in counts)
    return rejected + sum(count.accepted for count in counts), rejected


def _rows(counts: Sequence[Count], group: str) -> list[Row]:
    found = []
    for count in counts:
        total = count.accepted + count.rejected
        found.append((str(getattr(count, group) or say("none")), count.rejected, total, count.seconds / max(1, total)))
    return _scaled(sorted(found, key=lambda row: -row[2])[:ROWS], order=False)


def _scaled(found: Sequence[tuple[str, int, int, float]], *, order: bool = True) -> list[Row]:
    """Rows whose bars share a scale: the highest interval fills it."""
    kept = sorted(found, key=lambda row: -row[1])[:ROWS] if order else list(found)
    top = max((wilson(count, total).high for _, count, total, _ in kept), default=1.0)
    return [_row(name, count, total, top, seconds) for name, count, total, seconds in kept]


def _row(name: str, count: int, total: int, top: float = 1.0, seconds: float = 0.0) -> Row:
    share = wilson(count, total)
    bar = interval_bar(share.value, share.low, share.high, top)
    return Row(name, count, total, share.value, share.low, share.high, bar, seconds)


def _point(day: date, count: Count | None) -> Point:
    if count is None or not (total := count.accepted + count.rejected):
        return Point(f"{day:%d %b}", None)
    share = wilson(count.rejected, total)
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
