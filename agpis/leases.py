"""Who has which decision before him, and until when.

A decision needs `wanted` verdicts (1, or 2 under double review) and has so many places: a verdict takes one for good, a
lease until it ends. `free_at` is the time from which a place is free; since it stands in the decision's own row, a
database that locks rows (SKIP LOCKED) sees at the lock what another has just taken. SQLite lets one write at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from agpis.decision_rows import LARGEST_ID, item, items, unknown, waiting
from agpis.errors import SettingsError
from agpis.filters import conditions, ordering
from agpis.records import Item, Query
from agpis.schema import DONE, EMPTY, EPOCH, OPEN, decision_rules, decisions, leases, plain, verdicts

Row = Any
"""A row of `decisions`; the parameters of sa.Row are others in SQLAlchemy 2.0 than in 2.1."""
MOST = 100
"""Most decisions of one lease."""
LONGEST = timedelta(days=7)

# Made once where nothing in them changes: SQLAlchemy takes longer to put a statement together than SQLite to run it.
_c, _l, _v = decisions.c, leases.c, verdicts.c
_ID: Any = sa.bindparam("which")
_IDS: Any = sa.bindparam("ids", expanding=True)
_WHO: Any = sa.bindparam("who")
_COLUMNS = _c.id, _c.wanted, _c.verdicts, _c.lot, _c.status, _c.state
_HIS_ORDER = _l.taken, _l.place, _c.id
"""The order in which a reviewer got what he holds; also that of locking, so that his pages wait for each other."""
_LOCKED = sa.select(*_COLUMNS).where(_c.id == _ID).with_for_update()
_VOTES = sa.select(_v.accepted).where(_v.decision == _ID, _v.undone.is_(None)).order_by(_v.id)
_HIS_VERDICTS = sa.select(_v.decision).where(_v.decision.in_(_IDS), _v.reviewer == _WHO, _v.undone.is_(None))
_LEASES = sa.select(_l.decision, _l.reviewer, _l.until).where(_l.decision.in_(_IDS))
_LENGTHEN = leases.update().where(_l.decision.in_(_IDS), _l.reviewer == _WHO).values(until=sa.bindparam("end"))
_DROP_ALL = leases.delete().where(_l.decision == _ID)
_DROP_RUN_OUT = leases.delete().where(_l.decision.in_(_IDS), _l.reviewer != _WHO, _l.until <= sa.bindparam("now"))
_GRANTED = decisions.update().where(_c.id.in_(_IDS)).values(wanted=sa.bindparam("places"), free_at=sa.bindparam("at"))
_SETTLED = (
    decisions.update()
    .where(_c.id == _ID)
    .values({name: sa.bindparam(f"new_{name}") for name in ("verdicts", "accepted", "state", "free_at")})
)
_SETTLED_RULES = decision_rules.update().where(decision_rules.c.decision == _ID).values(state=sa.bindparam("new_state"))


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
    mine = leases.c.decision == c.id, leases.c.reviewer == reviewer
    his = (
        sa.select(*_COLUMNS)
        .join_from(decisions, leases, sa.and_(*mine))
        .where(*wanted, sa.or_(leases.c.until > now, c.free_at <= now), _unjudged(reviewer))
    )
    rows = _lock(connection, his.order_by(*_HIS_ORDER), count)
    if len(rows) < count:
        free = sa.select(*_COLUMNS).where(
            *wanted,
            c.free_at <= now,
            c.id.not_in([row.id for row in rows]),
            sa.or_(c.verdicts == 0, _unjudged(reviewer)),
        )
        rows += _lock(connection, free.order_by(*ordering(query)), count - len(rows), skip_locked=True)
    if not rows:
        return []
    ids = [row.id for row in rows]
    _grant(connection, now, reviewer, until, rows, _leases(connection, ids), double)
    whole = items(connection, c.id.in_(ids), until)
    return [whole[id] for id in ids]


def take(connection: sa.Connection, now: datetime, reviewer: str, decision_id: int, seconds: float) -> Item | None:
    """See `Store.take`."""
    if not renew(connection, now, reviewer, [decision_id], seconds):
        item(connection, decision_id)
        return None
    return replace(item(connection, decision_id), until=end(now, seconds))


def renew(
    connection: sa.Connection, now: datetime, reviewer: str, decision_ids: Sequence[int], seconds: float
) -> list[int]:
    """See `Store.renew`."""
    until, reviewer = end(now, seconds), named(reviewer)
    wanted = {id for id in decision_ids if 0 < id <= LARGEST_ID}
    if not wanted:
        return []
    c = decisions.c
    mine = sa.and_(leases.c.decision == c.id, leases.c.reviewer == reviewer)
    them = sa.select(*_COLUMNS).join_from(decisions, leases, mine, isouter=True)
    them = them.where(c.id.in_(wanted), c.state.in_((OPEN, EMPTY))).order_by(*_HIS_ORDER)
    rows = connection.execute(them.with_for_update(of=decisions)).all()
    ids = [row.id for row in rows]
    held = _leases(connection, ids)
    said = [row.id for row in rows if row.verdicts]
    judged = set(connection.execute(_HIS_VERDICTS, {"ids": said, "who": reviewer}).scalars()) if said else set()
    kept = [row for row in rows if row.id not in judged and _has_place(row, held.get(row.id, {}), reviewer, now)]
    _grant(connection, now, reviewer, until, kept, held)
    got = {row.id for row in kept}
    return [id for id in dict.fromkeys(decision_ids) if id in got]


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
    if not 0 < decision_id <= LARGEST_ID:
        raise unknown(decision_id)
    row = connection.execute(_LOCKED, {"which": decision_id}).first()
    if row is None:
        raise unknown(decision_id)
    return row


def holders(connection: sa.Connection, decision_id: int) -> dict[str, datetime]:
    """Reviewer -> end of his lease of the decision, leases that have run out among them."""
    return _leases(connection, [decision_id]).get(decision_id, {})


def settle(connection: sa.Connection, now: datetime, row: Row, votes: Sequence[int] | None = None) -> None:
    """Set what follows from the decision's verdicts and leases; its row must be locked.

    Args:
        row: with `id`, `wanted` and `state`, as it was.
        votes: what the verdicts say that stand, in their order; read where None.
    """
    which = {"which": row.id}
    if votes is None:
        votes = connection.execute(_VOTES, which).scalars().all()
    places = row.wanted - len(votes)
    state = row.state
    free_at = EPOCH
    if places <= 0:
        state = DONE
        connection.execute(_DROP_ALL, which)
    else:
        if row.state == DONE:
            state = waiting(item(connection, row.id).decision)
        free_at = _free_at(places, holders(connection, row.id).values(), now)
    last = votes[-1] if votes else None
    new = {"new_verdicts": len(votes), "new_accepted": last, "new_state": state, "new_free_at": free_at}
    connection.execute(_SETTLED, {**which, **new})
    if state != row.state:
        connection.execute(_SETTLED_RULES, {**which, "new_state": state})


def _free_at(places: int, ends: Iterable[datetime], now: datetime) -> datetime:
    """When a decision with so many places can be leased next; of leases that have run out nothing is left."""
    running = sorted(end for end in ends if end > now)
    return running[len(running) - places] if len(running) >= places else EPOCH


def _lock(connection: sa.Connection, found: Any, count: int, *, skip_locked: bool = False) -> list[Row]:
    """The first `count` rows that a select of `_COLUMNS` finds, locked, as they are under the lock.

    PostgreSQL (READ COMMITTED) looks at a row anew for whose lock it has waited, but at leases and verdicts as they
    were before: what the other transaction did to those is not seen unless they are asked for again. Of what nobody
    holds or has judged by the row itself there are none. SQLite's transaction has been alone from its beginning.
    """
    rows = list(connection.execute(found.limit(count).with_for_update(of=decisions, skip_locked=skip_locked)))
    if connection.dialect.name == "sqlite" or not rows or (skip_locked and not any(row.verdicts for row in rows)):
        return rows
    now_so = found.where(decisions.c.id.in_([row.id for row in rows])).order_by(None)
    there = {row.id: row for row in connection.execute(now_so)}
    return [there[row.id] for row in rows if row.id in there]


def _unjudged(reviewer: str) -> sa.ColumnElement[bool]:
    """The reviewer has no verdict on the decision that stands."""
    v = verdicts.c
    return ~sa.exists().where(v.decision == decisions.c.id, v.reviewer == reviewer, v.undone.is_(None))


def _leases(connection: sa.Connection, ids: Sequence[int]) -> dict[int, dict[str, datetime]]:
    """Decision -> reviewer -> end of his lease, leases that have run out among them."""
    found: dict[int, dict[str, datetime]] = {}
    for row in connection.execute(_LEASES, {"ids": ids}):
        found.setdefault(row.decision, {})[row.reviewer] = row.until
    return found


def _has_place(row: Row, held: Mapping[str, datetime], reviewer: str, now: datetime) -> bool:
    """Whether the reviewer holds the decision or could, by its leases."""
    running = [who for who, until in held.items() if until > now]
    return reviewer in running or len(running) < row.wanted - row.verdicts


def _grant(
    connection: sa.Connection,
    now: datetime,
    reviewer: str,
    until: datetime,
    rows: Sequence[Row],
    held: Mapping[int, Mapping[str, datetime]],
    double: float = 0.0,
) -> None:
    """Lease locked rows that have a place free; what is the reviewer's already only lasts longer.

    Args:
        held: leases of these rows, from `_leases`.
    """
    his, new, run_out = [], [], []
    changed: dict[tuple[int, datetime], list[int]] = {}
    for place, row in enumerate(rows):
        others = {who: end for who, end in held.get(row.id, {}).items() if who != reviewer}
        if any(end <= now for end in others.values()):
            run_out.append(row.id)
        if len(others) < len(held.get(row.id, {})):
            his.append(row.id)
        else:
            new.append({"decision": row.id, "reviewer": reviewer, "taken": now, "place": place, "until": until})
        wanted = 2 if row.verdicts == 0 and row.lot < double else row.wanted
        free_at = _free_at(wanted - row.verdicts, [until, *others.values()], now)
        changed.setdefault((wanted, free_at), []).append(row.id)
    if run_out:
        connection.execute(_DROP_RUN_OUT, {"ids": run_out, "who": reviewer, "now": now})
    if his:
        connection.execute(_LENGTHEN, {"ids": his, "who": reviewer, "end": until})
    if new:
        connection.execute(leases.insert(), new)
    for (wanted, free_at), ids in changed.items():
        connection.execute(_GRANTED, {"ids": ids, "places": wanted, "at": free_at})
