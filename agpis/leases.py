"""Who has which decision before him, and until when.

A decision needs `wanted` verdicts (1, or 2 under double review) and has so many places: a verdict takes one for good, a
lease until it ends. `free_at` is the time from which a place is free; since it stands in the decision's own row, a
database that locks rows (SKIP LOCKED) sees at the lock what another has just taken. SQLite lets one write at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from agpis.decision_rows import LARGEST_ID, items, unknown, waiting
from agpis.errors import SettingsError
from agpis.filters import conditions, ordering
from agpis.records import Item, Query
from agpis.schema import DONE, EMPTY, EPOCH, OPEN, decision_rules, decisions, leases, plain, verdicts

Row = Any
"""A row of `decisions`; the parameters of sa.Row are others in SQLAlchemy 2.0 than in 2.1."""
MOST = 100
"""Most decisions of one lease."""
LONGEST = timedelta(days=7)


def lease(
    connection: sa.Connection,
    now: datetime,
    reviewer: str,
    query: Query,
    *,
    count: int,
    seconds: float,
    double: float,
    passing: Sequence[int],
) -> list[Item]:
    """See `Store.lease`."""
    until = end(now, seconds)
    if not 1 <= count <= MOST:
        raise SettingsError("bad_lease", f"found a count of {count}, allowed is 1 to {MOST}")
    if not 0 <= double <= 1:
        raise SettingsError("bad_lease", f"found double {double}, a share of decisions; allowed is 0 to 1")
    reviewer = named(reviewer)
    c = decisions.c
    open_ones = conditions(replace(query, reviewed="open"))
    wanted = [*open_ones, c.id.not_in([id for id in passing if 0 < id <= LARGEST_ID])]
    columns = (c.id, c.wanted, c.verdicts, c.lot, c.status, c.state)
    mine = leases.c.decision == c.id, leases.c.reviewer == reviewer
    his = (
        sa.select(*columns)
        .join_from(decisions, leases, sa.and_(*mine))
        .where(*wanted, sa.or_(leases.c.until > now, c.free_at <= now), _unjudged(reviewer))
    )
    held = _lock(connection, his.order_by(leases.c.taken, leases.c.place, c.id), count)
    fresh: Sequence[Row] = ()
    if len(held) < count:
        free = sa.select(*columns).where(
            *wanted,
            c.free_at <= now,
            c.id.not_in([row.id for row in held]),
            sa.or_(c.verdicts == 0, _unjudged(reviewer)),
        )
        fresh = _lock(connection, free.order_by(*ordering(query)), count - len(held), skip_locked=True)
    for row in held:
        _grant(connection, now, row, reviewer, until, double)
    for place, row in enumerate(fresh, len(held)):
        _grant(connection, now, row, reviewer, until, double, place)
    ids = [row.id for row in (*held, *fresh)]
    whole = items(connection, c.id.in_(ids), until) if ids else {}
    return [whole[id] for id in ids]


def take(connection: sa.Connection, now: datetime, reviewer: str, decision_id: int, seconds: float) -> Item | None:
    """See `Store.take`."""
    until, reviewer = end(now, seconds), named(reviewer)
    row = locked(connection, decision_id)
    others, mine = live(connection, now, decision_id, reviewer)
    judged = connection.execute(sa.select(decisions.c.id).where(decisions.c.id == row.id, ~_unjudged(reviewer))).first()
    if row.state not in (OPEN, EMPTY) or judged or (not mine and others >= row.wanted - row.verdicts):
        return None
    known = sa.select(leases.c.place).where(leases.c.decision == row.id, leases.c.reviewer == reviewer)
    place = None if connection.execute(known).first() else 0
    _grant(connection, now, row, reviewer, until, 0.0, place)
    return replace(items(connection, decisions.c.id == row.id)[row.id], until=until)


def release(connection: sa.Connection, now: datetime, reviewer: str, decision_id: int | None) -> int:
    """See `Store.release`."""
    mine = [leases.c.reviewer == plain(reviewer)]
    if decision_id is not None:
        mine.append(leases.c.decision == min(max(decision_id, 0), LARGEST_ID))
    ids = connection.execute(sa.select(leases.c.decision).where(*mine).order_by(leases.c.decision)).scalars().all()
    for id in ids:
        row = locked(connection, id)
        connection.execute(leases.delete().where(*mine, leases.c.decision == id))
        settle(connection, now, row)
    return len(ids)


# Parts ---------------------------------------------------------------------------------------------------------------


def named(reviewer: str) -> str:
    """The reviewer's name as a column holds it. Raises SettingsError (`bad_lease`) for none."""
    if not reviewer or len(reviewer) > 200:
        raise SettingsError("bad_lease", f"found the reviewer {reviewer[:60]!r}; wanted a name of 1 to 200 letters")
    return plain(reviewer)


def end(now: datetime, seconds: float) -> datetime:
    """When a lease of so many seconds from now ends. Raises SettingsError (`bad_lease`)."""
    if not (math.isfinite(seconds) and 0 < seconds <= LONGEST.total_seconds()):
        raise SettingsError(
            "bad_lease", f"found a lease of {seconds} seconds, allowed is up to {LONGEST.total_seconds():.0f}"
        )
    return now + timedelta(seconds=seconds)


def locked(connection: sa.Connection, decision_id: int) -> Row:
    """The decision's row, locked for this transaction. Raises StoreError (`unknown_decision`)."""
    c = decisions.c
    wanted = sa.select(c.id, c.sku, c.bundle, c.base, c.wanted, c.verdicts, c.status, c.state, c.lot)
    if not 0 < decision_id <= LARGEST_ID:
        raise unknown(decision_id)
    row = connection.execute(wanted.where(c.id == decision_id).with_for_update()).first()
    if row is None:
        raise unknown(decision_id)
    return row


def live(connection: sa.Connection, now: datetime, decision_id: int, reviewer: str) -> tuple[int, bool]:
    """How many others hold the decision now, and whether the reviewer does."""
    c = leases.c
    holders = connection.execute(sa.select(c.reviewer).where(c.decision == decision_id, c.until > now)).scalars().all()
    return sum(holder != reviewer for holder in holders), reviewer in holders


def settle(connection: sa.Connection, now: datetime, row: Row, wanted: int | None = None) -> None:
    """Set what follows from the decision's verdicts and leases; its row must be locked.

    Args:
        row: with `id` and `state`, as it was; and `wanted` where that does not change.
    """
    c, v = leases.c, verdicts.c
    wanted = row.wanted if wanted is None else wanted
    given = sa.select(v.accepted).where(v.decision == row.id, v.undone.is_(None)).order_by(v.id)
    votes = connection.execute(given).scalars().all()
    places = wanted - len(votes)
    state = row.state
    free_at = EPOCH
    if places <= 0:
        state = DONE
        connection.execute(leases.delete().where(c.decision == row.id))
    else:
        if row.state == DONE:
            state = waiting(items(connection, decisions.c.id == row.id)[row.id].decision)
        ends = sa.select(c.until).where(c.decision == row.id, c.until > now).order_by(c.until)
        ends_at = connection.execute(ends).scalars().all()
        if len(ends_at) >= places:
            free_at = ends_at[len(ends_at) - places]
    connection.execute(
        decisions.update()
        .where(decisions.c.id == row.id)
        .values(wanted=wanted, verdicts=len(votes), accepted=votes[-1] if votes else None, state=state, free_at=free_at)
    )
    if state != row.state:
        rules = decision_rules
        connection.execute(rules.update().where(rules.c.decision == row.id).values(state=state))


def _lock(connection: sa.Connection, found: Any, count: int, *, skip_locked: bool = False) -> Sequence[Row]:
    """The first `count` rows that a select of `decisions` finds (their id first), locked, as they are under the lock.

    They are asked for twice: after waiting for a lock, PostgreSQL (READ COMMITTED) looks at the locked row anew, but at
    leases and verdicts as they were before; what the other transaction did to those would not be seen.
    """
    locking = found.limit(count).with_for_update(of=decisions, skip_locked=skip_locked)
    ids = connection.execute(locking).scalars().all()
    now_so = found.where(decisions.c.id.in_(ids)).order_by(None)
    rows = {row.id: row for row in connection.execute(now_so)} if ids else {}
    return [rows[id] for id in ids if id in rows]


def _unjudged(reviewer: str) -> sa.ColumnElement[bool]:
    """The reviewer has no verdict on the decision that stands."""
    v = verdicts.c
    return ~sa.exists().where(v.decision == decisions.c.id, v.reviewer == reviewer, v.undone.is_(None))


def _grant(
    connection: sa.Connection,
    now: datetime,
    row: Row,
    reviewer: str,
    until: datetime,
    double: float,
    place: int | None = None,
) -> None:
    """Lease a locked row that has a place free; with no `place` it is the reviewer's already and only lasts longer."""
    c = leases.c
    run_out = c.decision == row.id, c.reviewer != reviewer, c.until <= now
    connection.execute(leases.delete().where(*run_out))
    if place is None:
        mine = c.decision == row.id, c.reviewer == reviewer
        connection.execute(leases.update().where(*mine).values(until=until))
    else:
        connection.execute(leases.delete().where(c.decision == row.id, c.reviewer == reviewer))
        values = {"decision": row.id, "reviewer": reviewer, "taken": now, "place": place, "until": until}
        connection.execute(leases.insert().values(values))
    again = row.verdicts == 0 and row.lot < double
    settle(connection, now, row, 2 if again else row.wanted)
