"""The queue page's questions: which decisions a Query finds, how many, and what the filters can be set to."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from agpis.data import STATUSES
from agpis.errors import SettingsError, StoreError
from agpis.records import Facets, Listed, Query
from agpis.schema import DONE, EMPTY, OPEN, SEQUENCED, decision_rules, decisions, leases, plain

MOST = 1000
"""Most decisions of one page."""
WORDS = 10
"""Words of a search text that are looked for; further ones are passed over."""

Condition = sa.ColumnElement[bool]


def conditions(query: Query) -> list[Condition]:
    """What a row of `decisions` must be. Raises SettingsError (`bad_query`)."""
    _check(query)
    c = decisions.c
    found: list[Condition] = []
    if query.reviewed == "open":
        sequenced = {status in SEQUENCED for status in query.status} or {True}
        states = [state for state, kind in ((OPEN, True), (EMPTY, False)) if kind in sequenced]
        found.append(c.state.in_(states) if len(states) > 1 else c.state == states[0])
    elif query.reviewed == "done":
        found.append(c.state == DONE)
    if query.status:
        found.append(c.status.in_(query.status) if len(query.status) > 1 else c.status == query.status[0])
    if query.category:
        found.append(c.category == plain(query.category))
    if query.bundle:
        found.append(c.bundle == plain(query.bundle))
    if query.sku:
        found.append(c.sku == plain(query.sku))
    if query.low is not None:
        found.append(c.p_qualified >= query.low)
    if query.high is not None:
        found.append(c.p_qualified < query.high if query.high < 1 else c.p_qualified <= 1)
    if query.rule:
        found.append(c.id.in_(sa.select(decision_rules.c.decision).where(decision_rules.c.rule == plain(query.rule))))
    for word in plain(query.text).casefold().split()[:WORDS]:
        found.append(c.search.contains(word, autoescape=True))
    return found


def _check(query: Query) -> None:
    unknown = [status for status in query.status if status not in STATUSES]
    if unknown:
        raise SettingsError("bad_query", f"found the status {unknown[0]!r}, allowed are {', '.join(STATUSES)}")
    for name, allowed in (("reviewed", ("open", "done", "any")), ("order", ("unsure", "oldest", "newest"))):
        if getattr(query, name) not in allowed:
            raise SettingsError("bad_query", f"found {name} {getattr(query, name)!r}, allowed are {', '.join(allowed)}")
    for name in ("low", "high"):
        value = getattr(query, name)
        if value is not None and not 0 <= value <= 1:  # not a number is neither
            raise SettingsError("bad_query", f"found {name} {value}, allowed is 0 to 1")


def ordering(query: Query) -> list[sa.ColumnElement[Any]]:
    """Columns to order by; the last is the id."""
    if query.order == "unsure":
        return [decisions.c.doubt.asc(), decisions.c.id.asc()]
    return [decisions.c.id.asc() if query.order == "oldest" else decisions.c.id.desc()]


def count(connection: sa.Connection, query: Query) -> int:
    """See `Store.count`."""
    return connection.execute(sa.select(sa.func.count()).select_from(decisions).where(*conditions(query))).scalar_one()


def find(connection: sa.Connection, now: datetime, query: Query, after: int | None, limit: int) -> list[Listed]:
    """See `Store.find`."""
    if not 1 <= limit <= MOST:
        raise SettingsError("bad_query", f"found a limit of {limit} decisions, allowed is 1 to {MOST}")
    c = decisions.c
    wanted = sa.select(
        c.id, c.sku, c.title, c.category, c.status, c.bundle, c.p_qualified, c.added, c.state, c.verdicts, c.accepted
    ).where(*conditions(query))
    if after is not None:
        wanted = wanted.where(_behind(connection, query, after))
    rows = connection.execute(wanted.order_by(*ordering(query)).limit(limit)).all()
    ids = [row.id for row in rows]
    rules = _rules(connection, ids)
    holders = {
        row.decision: row.reviewer
        for row in connection.execute(
            sa.select(leases.c.decision, leases.c.reviewer)
            .where(leases.c.decision.in_(ids), leases.c.until > now)
            .order_by(leases.c.taken.desc())
        )
    }
    return [
        Listed(
            id=row.id,
            sku=row.sku,
            title=row.title,
            category=row.category,
            status=row.status,
            bundle=row.bundle,
            p_qualified=row.p_qualified,
            rules=tuple(rules.get(row.id, ())),
            added=row.added,
            open=row.state in (OPEN, EMPTY),
            verdicts=row.verdicts,
            accepted=None if row.accepted is None else bool(row.accepted),
            holder=holders.get(row.id, ""),
        )
        for row in rows
    ]


def _behind(connection: sa.Connection, query: Query, after: int) -> Condition:
    """Whether a row comes after that decision in the query's order."""
    c = decisions.c
    if query.order == "oldest":
        return c.id > after
    if query.order == "newest":
        return c.id < after
    doubt = connection.execute(sa.select(c.doubt).where(c.id == after)).scalar()
    if doubt is None:
        raise StoreError("unknown_decision", f"found no decision {after} to go on after; begin with the first page")
    behind: Condition = sa.tuple_(c.doubt, c.id) > sa.tuple_(sa.literal(doubt), sa.literal(after))
    return behind


def _rules(connection: sa.Connection, ids: list[int]) -> dict[int, list[str]]:
    c = decision_rules.c
    found: dict[int, list[str]] = {}
    wanted = sa.select(c.decision, c.rule).where(c.decision.in_(ids)).order_by(c.probability.desc(), c.rule)
    for row in connection.execute(wanted):
        found.setdefault(row.decision, []).append(row.rule)
    return found


def facets(connection: sa.Connection) -> Facets:
    """See `Store.facets`. Both questions are answered by an index alone."""
    c, r = decisions.c, decision_rules.c
    statuses, categories, bundles = Counter[str](), Counter[str](), Counter[str]()
    columns = (c.state, c.status, c.category, c.bundle)
    cube = sa.select(*columns, sa.func.count().label("n")).where(c.state.in_((OPEN, EMPTY))).group_by(*columns)
    total = 0
    for row in connection.execute(cube):
        statuses[row.status] += row.n
        if row.state == OPEN:
            total += row.n
            categories[row.category] += row.n
            bundles[row.bundle] += row.n
    rules = sa.select(r.rule, sa.func.count().label("n")).where(r.state == OPEN).group_by(r.rule)
    done = sa.select(sa.func.count()).select_from(decisions).where(c.state == DONE)
    return Facets(
        statuses=dict(statuses.most_common()),
        rules=dict(Counter({row.rule: row.n for row in connection.execute(rules)}).most_common()),
        categories=dict(categories.most_common()),
        bundles=dict(bundles.most_common()),
        open=total,
        done=connection.execute(done).scalar_one(),
    )
