"""Watching a running AGPIS: the reject rate, coverage, drift of the input, and rules that rise, by bundle.

The paper's 5.1 watches the share of submitted sequences that reviewers reject, and retrains every three months. Here a
window of some days is compared with a limit, with the window before it, and with the bundle's own record: what its
products looked like when it was first used. Alarms are decided on an interval's bound, never on the point, so few data
raise none; many tests are corrected for their number. A/B tests are in abtest.py: other data, another reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from agpis.drift import Drift, drift
from agpis.errors import SettingsError, SourceError
from agpis.histograms import FEATURES
from agpis.input_record import Record, first_records, read_records
from agpis.proportions import Share, holm, newcombe, pooled_z, share, two_sided
from agpis.tallies import DAY, YEARS, Decided, Reviewed, Tallies, decided, reviewed, tally
from agpis.watched import Alarm, BundleWatch, By, Limits, Period, RuleChange, Watch

PERIODS = 400
"""Most periods that are shown, the last ones."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What `monitor` is asked."""

    days: int = 7
    """Length of the window that is watched, and of the one before it."""
    by: By = "week"
    """Periods of the lines over time."""
    since: date | None = None
    """Leave out what is before."""
    until: date | None = None
    """End of the window, not included. None: with a limit tomorrow, so that it is noticed when nothing comes in any
    more; without one the day after the newest entry."""
    record: Path | None = None
    """File of records, as `write_records` makes it."""
    baseline: str | None = None
    """A source whose decisions are the records."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 1 <= self.days <= 3650:
            raise SettingsError("bad_watch", f"--days is {self.days}; a window has 1 to 3650 days.")
        if self.by not in ("day", "week", "month"):
            raise SettingsError("bad_watch", f"--by is {self.by!r}; it is day, week or month.")
        for name, day in (("--since", self.since), ("--until", self.until)):
            if day and day.year not in YEARS:
                raise SettingsError("bad_watch", f"{name} is {day}; it is from {YEARS[0]} to {YEARS[-1]}.")
        if self.record and self.baseline:
            raise SettingsError("bad_arguments", "Give --record or --baseline, not both.")


def monitor(sources: Sequence[str | Path], options: Options | None = None, *, today: date | None = None) -> Watch:
    """Watch stores, verdict files and output folders; `today` is the UTC day unless given.

    Raises SourceError (`source_not_found`, `bad_source`, `empty_source`, `bad_record`, and `nothing_in_window` or
    `no_record` where a limit is given that nothing can be held against) and SettingsError (`bad_watch`).
    """
    options = options or Options()
    return watch(tally(sources, since=options.since), options, today=today)


def watch(tallies: Tallies, options: Options, *, today: date | None = None) -> Watch:
    """The same, of what is counted already; bundles with something in the window come first."""
    newest = max(tallies.days, default=None)
    now = today or datetime.now(UTC).date()
    until = options.until or ((now if options.limits.some or newest is None else newest) + DAY)
    since = until - options.days * DAY
    records = _records(tallies, options, since)
    watched = tuple(_bundle(name, tallies, options, since, until, records.get(name)) for name in tallies.bundles)
    watched = tuple(sorted(watched, key=lambda one: not (one.reject_now.total or one.coverage_now.total)))
    notes = []
    if tallies.untimed:
        notes.append(f"{tallies.untimed} verdicts have no time; they are left out.")
    if tallies.bad:
        notes.append(f"{len(tallies.bad)} lines are no verdicts; the first: {tallies.bad[0].message}")
    tied = sum(reviewed(days, since, until).disagreed for days in tallies.reviewed.values())
    if tied:
        notes.append(f"{tied} sequences of the window are neither accepted nor rejected: their reviewers disagree.")
    if newest is not None and newest < since:
        notes.append(f"Nothing in the window {since} to {until - DAY}; the newest entry is of {newest}.")
    alarms = _alarms(watched, options.limits, notes[-1] if notes else "")
    return Watch(since, until, options.days, options.by, watched, options.limits, alarms, tuple(notes))


def _bundle(
    name: str, tallies: Tallies, options: Options, since: date, until: date, record: Record | None
) -> BundleWatch:
    made, judged = tallies.decided.get(name, {}), tallies.reviewed.get(name, {})
    earlier = since - options.days * DAY
    now, before = decided(made, since, until), decided(made, earlier, since)
    said, said_before = reviewed(judged, since, until), reviewed(judged, earlier, since)
    drifts: tuple[Drift, ...] = ()
    if record and now.products:
        found = [
            drift(feature, record.counted.histograms[feature.name], now.histograms[feature.name], len(FEATURES))
            for feature in FEATURES
        ]
        some = [one for one in found if one]
        drifts = tuple(replace(one, corrected=p) for one, p in zip(some, holm([one.p for one in some]), strict=True))
    return BundleWatch(
        bundle=name,
        rejects=_over_time(judged, options.by, until, _reject_rate),
        coverage=_over_time(made, options.by, until, _coverage),
        reject_now=_reject_rate([said]),
        reject_before=_reject_rate([said_before]),
        coverage_now=_coverage([now]),
        coverage_before=_coverage([before]),
        drifts=drifts,
        record=record,
        no_record="" if record else _no_record(options, bool(made)),
        named=_changes(said_before.rules, said_before.total, said.rules, said.total),
        found=_changes(before.reasons, before.products, now.reasons, now.products),
    )


def _reject_rate(days: Iterable[Reviewed]) -> Share:
    found = list(days)
    return share(sum(one.rejected for one in found), sum(one.total for one in found))


def _coverage(days: Iterable[Decided]) -> Share:
    found = list(days)
    return share(sum(one.statuses["generated"] for one in found), sum(one.products for one in found))


def _changes(
    before: Mapping[str, int], total_before: int, now: Mapping[str, int], total_now: int
) -> tuple[RuleChange, ...]:
    """What rises first, then what falls; nothing where one of the windows is empty."""
    if not total_before or not total_now:
        return ()
    found = []
    for rule in sorted({*before, *now}):
        old, new = before.get(rule, 0), now.get(rule, 0)
        low, high = newcombe(old, total_before, new, total_now)
        p = two_sided(pooled_z(old, total_before, new, total_now) or 0.0)
        sides = share(old, total_before), share(new, total_now)
        found.append(RuleChange(rule, *sides, sides[1].value - sides[0].value, low, high, p, p))
    corrected = holm([one.p for one in found])
    changed = [replace(one, corrected=p) for one, p in zip(found, corrected, strict=True)]
    return tuple(sorted(changed, key=lambda one: (one.corrected >= 0.05, -one.difference)))


# Periods -------------------------------------------------------------------------------------------------------------


def _over_time(days: Mapping[date, T], by: By, until: date, rate: Callable[[list[T]], Share]) -> tuple[Period, ...]:
    """Every period from the first day to the window's end, empty ones too; the last 400."""
    if not days:
        return ()
    grouped: dict[date, list[T]] = {}
    for day, counted in days.items():
        if day < until:
            grouped.setdefault(_start(day, by), []).append(counted)
    found: list[Period] = []
    at = _start(until - DAY, by)
    while grouped and at >= min(grouped) and len(found) < PERIODS:
        share = rate(grouped.get(at, []))
        found.append(Period(_label(at, by), at, share if share.total else None))
        at = _start(at - DAY, by)
    while found and found[0].share is None:
        found.pop(0)
    return tuple(reversed(found))


def _start(day: date, by: By) -> date:
    if by == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if by == "month" else day


def _label(start: date, by: By) -> str:
    if by == "week":
        year, week, _ = start.isocalendar()
        return f"{year}-W{week:02}"
    return f"{start:%Y-%m}" if by == "month" else str(start)


# Records -------------------------------------------------------------------------------------------------------------


def _records(tallies: Tallies, options: Options, since: date) -> dict[str, Record]:
    if options.record:
        return read_records(options.record)
    if options.baseline:
        given = first_records(tally([options.baseline]), None)
        if not given:
            raise SourceError("bad_record", f"{options.baseline}: found no decision that could be a record")
        return given
    return first_records(tallies, since, options.days)


def records_to_keep(tallies: Tallies, options: Options) -> dict[str, Record]:
    """What `--write-record` writes: all decisions of the baseline, or each bundle's first days.

    Raises SourceError `bad_record` where there is no decision.
    """
    if options.baseline:
        return _records(tallies, options, date.max)
    if not (found := first_records(tallies, None, options.days)):
        raise SourceError(
            "bad_record", "found no decision that could be a record: verdicts alone do not describe inputs"
        )
    return found


def _no_record(options: Options, made: bool) -> str:
    """Why a bundle has none."""
    if not made:
        return "no decisions"
    if options.record or options.baseline:
        return f"{options.record or options.baseline} holds none of this bundle"
    return "all its decisions are of the window that is watched"


# Alarms --------------------------------------------------------------------------------------------------------------


def _alarms(watched: Sequence[BundleWatch], limits: Limits, note: str) -> tuple[Alarm, ...]:
    """Limits that are crossed. Raises SourceError where a limit is given that nothing can be held against."""
    found = []
    if limits.reject_rate is not None:
        _needed(any(one.reject_now.total for one in watched), "verdict", "--max-reject-rate", note)
        for one in watched:
            rate = one.reject_now
            if rate.total and rate.low > limits.reject_rate:
                said = f"{rate} of {rate.total:.0f} sequences are rejected; the limit is {limits.reject_rate:g}"
                found.append(Alarm("reject_rate", one.bundle, limits.reject_rate, rate.low, said))
    if limits.coverage is not None:
        _needed(any(one.coverage_now.total for one in watched), "decision", "--min-coverage", note)
        for one in watched:
            rate = one.coverage_now
            if rate.total and rate.high < limits.coverage:
                said = f"{rate} of {rate.total:.0f} products have a sequence; the limit is {limits.coverage:g}"
                found.append(Alarm("coverage", one.bundle, limits.coverage, rate.high, said))
    if limits.drift is not None:
        _needed(any(one.coverage_now.total for one in watched), "decision", "--max-drift", note)
        if not any(one.drifts for one in watched):
            raise SourceError(
                "no_record",
                "--max-drift has nothing to compare with: all decisions are of the window that is watched. Give "
                "--record FILE (agpis monitor --write-record FILE) or --baseline SOURCE.",
            )
        for one in watched:
            for moved in one.drifts:
                if moved.enough and moved.psi.low > limits.drift:
                    said = (
                        f"{moved.feature.title} moved, PSI {moved.psi.value:.2f} "
                        f"[{moved.psi.low:.2f}, {moved.psi.high:.2f}]; the limit is {limits.drift:g}"
                    )
                    found.append(Alarm("drift", one.bundle, limits.drift, moved.psi.low, said))
    return tuple(found)


def _needed(there: bool, what: str, option: str, note: str) -> None:
    if not there:
        raise SourceError("nothing_in_window", f"{option}: found no {what} in the window. {note}".strip())
