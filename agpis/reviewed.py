"""What was done: the history of a sku, a reviewer's day, counts for the team page and the monitor, double reviews."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, get_args
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from agpis.consensus import Vote
from agpis.data import Verdict
from agpis.decision_rows import items
from agpis.errors import SettingsError
from agpis.records import Count, Day, Group, Judged, Pair, Past
from agpis.schema import EPOCH, decisions, plain, verdict_rules, verdicts
from agpis.verdict_rows import judged, window

QUARTER = 15 * 60  # seconds; every zone's days begin at a whole quarter of an hour of UTC


def history(connection: sa.Connection, sku: str) -> list[Past]:
    """See `Store.history`."""
    sku = plain(sku)
    said = judged(connection, verdicts.c.sku == sku)
    past = [
        Past(item=item, verdicts=tuple(one for one in said if one.decision == id))
        for id, item in items(connection, decisions.c.sku == sku).items()
    ]
    loose = tuple(one for one in said if one.decision is None)
    return [*past, Past(item=None, verdicts=loose)] if loose else past


def seen(connection: sa.Connection, skus: Collection[str]) -> dict[str, int]:
    """See `Store.seen`."""
    v, asked = verdicts.c, {plain(sku): sku for sku in skus}
    if not asked:
        return {}
    wanted = sa.select(v.sku, sa.func.count().label("n")).where(v.sku.in_(asked), v.undone.is_(None)).group_by(v.sku)
    return {asked[row.sku]: row.n for row in connection.execute(wanted)}


def zone_named(name: str) -> tzinfo:
    """The time zone. Raises SettingsError (`bad_zone`)."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a folder's name an OSError
        raise SettingsError(
            "bad_zone", f"found the time zone {name[:60]!r}, wanted one such as Europe/Berlin"
        ) from None


def day(connection: sa.Connection, reviewer: str, on: date, zone: str) -> Day:
    """See `Store.day`."""
    there, v = zone_named(zone), verdicts.c
    begin = datetime.combine(on, time(), there).astimezone(UTC)
    end = datetime.combine(on + timedelta(days=1), time(), there).astimezone(UTC)
    said = judged(connection, v.reviewer == plain(reviewer), v.time >= begin, v.time < end)
    stand = [one for one in said if one.undone is None]
    accepted = sum(one.verdict.accepted for one in stand)
    return Day(
        date=on,
        judged=tuple(said),
        accepted=accepted,
        rejected=len(stand) - accepted,
        corrected=sum(bool(one.verdict.corrected) for one in stand),
        undone=len(said) - len(stand),
        seconds=sum(one.seconds for one in stand),
    )


def tally(
    connection: sa.Connection, since: datetime | None, until: datetime | None, by: Sequence[Group], zone: str
) -> list[Count]:
    """See `Store.tally`."""
    unknown = [group for group in by if group not in get_args(Group)]
    if unknown or not by or len(set(by)) != len(by):
        raise SettingsError("bad_query", f"found by={tuple(by)}, wanted some of {', '.join(get_args(Group))}")
    there, v = zone_named(zone), verdicts.c
    # Constants of grouped columns are written out: PostgreSQL takes two parameters for two values.
    quarter = v.time.op("/", return_type=sa.BigInteger())(sa.literal_column(str(QUARTER * 1_000_000)))
    columns: dict[Group, sa.ColumnElement[Any]] = {
        "day": quarter,
        "bundle": v.bundle,
        "category": v.category,
        "rule": sa.func.coalesce(verdict_rules.c.rule, sa.literal_column("''")),
        "reviewer": v.reviewer,
    }
    groups = [columns[group].label(f"by_{group}") for group in by]
    source = verdicts.outerjoin(verdict_rules) if "rule" in by else verdicts
    sums = sa.func.sum(v.accepted).label("yes"), sa.func.count().label("n"), sa.func.sum(v.seconds).label("seconds")
    wanted = sa.select(*groups, *sums).select_from(source).where(*window(since, until))
    if "day" in by:
        wanted = wanted.where(v.time.is_not(None))
    found: dict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for row in connection.execute(wanted.group_by(*(columns[group] for group in by))):
        values = row._mapping
        key = tuple(_day(values[f"by_{group}"], there) if group == "day" else values[f"by_{group}"] for group in by)
        counts = found[key]
        counts[0] += int(row.yes)
        counts[1] += int(row.n) - int(row.yes)
        counts[2] += float(row.seconds)
    return [
        Count(accepted=int(yes), rejected=int(no), seconds=seconds, **dict(zip(by, key, strict=True)))
        for key, (yes, no, seconds) in sorted(found.items())
    ]


def _day(quarter: int, zone: tzinfo) -> date:
    return (EPOCH + timedelta(seconds=quarter * QUARTER)).astimezone(zone).date()


def votes(
    connection: sa.Connection, since: datetime | None, until: datetime | None, key: Callable[[Verdict], Hashable]
) -> list[Vote]:
    """Every verdict that stands and has a time, on skus that have one in the window.

    Verdicts of one decision are on one sequence. `key` tells the sequences apart of those that were imported without a
    decision, where there is more than one verdict on their sku and bundle.
    """
    v, rules = verdicts.c, verdict_rules.c
    them = [v.undone.is_(None), v.time.is_not(None)]
    if since is not None or until is not None:
        them.append(v.sku.in_(sa.select(v.sku).where(*window(since, until))))
    columns = v.id, v.decision, v.sku, v.bundle, v.category, v.reviewer, v.time, v.accepted
    rows = connection.execute(sa.select(*columns).where(*them).order_by(v.id)).all()
    named: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(sa.select(rules.verdict, rules.rule).join_from(verdict_rules, verdicts).where(*them)):
        named[row.verdict].append(row.rule)
    of: dict[int, Hashable] = {row.id: row.sku if row.decision is None else row.decision for row in rows}
    many = Counter((row.sku, row.bundle) for row in rows)
    loose = {(row.sku, row.bundle) for row in rows if row.decision is None and many[row.sku, row.bundle] > 1}
    unclear = [row.id for row in rows if (row.sku, row.bundle) in loose]
    for begin in range(0, len(unclear), 1000):
        for one in judged(connection, v.id.in_(unclear[begin : begin + 1000])):
            of[one.verdict_id] = key(one.verdict)
    return [
        Vote(
            of=(of[row.id], row.bundle),
            reviewer=row.reviewer,
            time=row.time,
            accepted=bool(row.accepted),
            bundle=row.bundle,
            category=row.category,
            rules=tuple(named.get(row.id, ())),
        )
        for row in rows
    ]


def pairs(connection: sa.Connection, since: datetime | None, until: datetime | None) -> list[Pair]:
    """See `Store.pairs`."""
    first, second = verdicts.alias("first"), verdicts.alias("second")
    both = sa.and_(
        first.c.decision == second.c.decision, first.c.id < second.c.id, first.c.reviewer != second.c.reviewer
    )
    wanted = (
        sa.select(first.c.id.label("one"), second.c.id.label("two"), first.c.decision)
        .join_from(first, second, both)
        .where(first.c.undone.is_(None), second.c.undone.is_(None))
        .order_by(second.c.time, second.c.id, first.c.id)
    )
    if since is not None:
        wanted = wanted.where(second.c.time >= since)
    if until is not None:
        wanted = wanted.where(second.c.time < until)
    twos: dict[int, tuple[int, int]] = {}
    for row in connection.execute(wanted):
        twos.setdefault(row.decision, (row.one, row.two))
    whole: dict[int, Judged] = {}
    ids = [id for two in twos.values() for id in two]
    for begin in range(0, len(ids), 1000):
        for one in judged(connection, verdicts.c.id.in_(ids[begin : begin + 1000])):
            whole[one.verdict_id] = one
    return [
        Pair(
            decision=decision,
            sku=whole[a].verdict.sku,
            category=whole[a].verdict.category,
            bundle=whole[a].verdict.bundle,
            verdicts=(whole[a], whole[b]),
        )
        for decision, (a, b) in twos.items()
    ]
