"""Decisions into the database and out again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from agpis.data import Decision
from agpis.errors import StoreError
from agpis.records import Added, Item
from agpis.schema import DEAD, EMPTY, OPEN, SEQUENCED, decision_bodies, decision_rules, decisions, plain

T = TypeVar("T")

BATCH = 500
"""Decisions of one transaction, or of one reading."""
LARGEST_ID = 2**63 - 1
LONGEST = 300
"""Letters of a sku, bundle or rule: PostgreSQL indexes no more than 2,700 bytes."""


def add(connection: sa.Connection, now: datetime, batch: Sequence[Decision], base: str) -> Added:
    """One transaction of `Store.add`."""
    rows, first = {}, {}
    for decision in batch:
        row = _row(decision, base, now)
        if (row["sku"], row["bundle"]) not in rows:
            rows[row["sku"], row["bundle"]] = row
            first[row["sku"], row["bundle"]] = decision
    c = decisions.c
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    there = {
        (row.sku, row.bundle): row.digest
        for row in connection.execute(sa.select(c.sku, c.bundle, c.digest).where(c.sku.in_({sku for sku, _ in rows})))
        if (row.sku, row.bundle) in rows
    }
    missing = [row for key, row in rows.items() if key not in there]
    ids: dict[tuple[str, str], int] = {}
    if missing:
        new = insert(decisions).on_conflict_do_nothing(index_elements=["sku", "bundle"])
        for made in connection.execute(new.returning(c.id, c.sku, c.bundle, sort_by_parameter_order=False), missing):
            ids[made.sku, made.bundle] = made.id
    if ids:
        bodies = [{"decision": id, "row": _body(first[key])} for key, id in ids.items()]
        connection.execute(decision_bodies.insert(), bodies)
        rules = [
            {"decision": id, "rule": rule, "probability": probability, "state": rows[key]["state"]}
            for key, id in ids.items()
            for rule, probability in _rules(first[key]).items()
        ]
        if rules:
            connection.execute(decision_rules.insert(), rules)
    changed = sum(there.get(key, row["digest"]) != row["digest"] for key, row in rows.items())
    return Added(new=len(ids), known=len(batch) - len(ids), changed=changed)


def _row(decision: Decision, base: str, now: datetime) -> dict[str, Any]:
    for name, text in (("sku", decision.sku), ("bundle", decision.bundle)):
        if plain(text) != text or len(text) > LONGEST:
            raise StoreError(
                "bad_decision",
                f"found the {name} {text[:60]!r}; wanted at most {LONGEST} letters, no NUL and no half surrogate pair",
            )
    if not decision.sku:
        raise StoreError("bad_decision", "found a decision without a sku; every product needs one")
    p = decision.p_qualified
    p = p if p is not None and math.isfinite(p) else None
    lot = hashlib.sha256(f"{decision.sku}\0{decision.bundle}".encode()).digest()[:6]
    title = plain(decision.title)
    return {
        "sku": decision.sku,
        "bundle": decision.bundle,
        "base": plain(base),
        "status": decision.status,
        "category": plain(decision.category)[:LONGEST],
        "title": title,
        "search": f"{decision.sku} {title}".casefold(),
        "p_qualified": p,
        "doubt": 1.0 if p is None else abs(p - 0.5),
        "lot": int.from_bytes(lot, "big") / 2**48,
        "digest": hashlib.sha256(_body(decision).encode()).hexdigest(),
        "added": now,
        "state": waiting(decision),
    }


def waiting(decision: Decision) -> int:
    """Its `state` while it has no verdict."""
    if decision.sequence and decision.status in SEQUENCED:
        return OPEN
    return EMPTY if decision.candidates or decision.sequence else DEAD


def _body(decision: Decision) -> str:
    return json.dumps(decision.row())


def _rules(decision: Decision) -> dict[str, float]:
    found: dict[str, float] = {}
    for violation in decision.violations:
        rule = plain(violation.rule)[:LONGEST]
        found[rule] = max(found.get(rule, 0.0), violation.probability)
    return found


def items(
    connection: sa.Connection, condition: sa.ColumnElement[bool], until: datetime | None = None
) -> dict[int, Item]:
    """Whole decisions by id, in the order of their ids."""
    c = decisions.c
    wanted = (
        sa.select(c.id, c.base, c.added, c.state, decision_bodies.c.row.label("body"))
        .join_from(decisions, decision_bodies)
        .where(condition)
        .order_by(c.id)
    )
    return {
        row.id: Item(
            id=row.id,
            decision=Decision.from_row(json.loads(row.body)),
            base=row.base,
            added=row.added,
            open=row.state in (OPEN, EMPTY),
            until=until,
        )
        for row in connection.execute(wanted)
    }


def item(connection: sa.Connection, decision_id: int) -> Item:
    """See `Store.item`."""
    found = items(connection, decisions.c.id == decision_id) if 0 < decision_id <= LARGEST_ID else {}
    if not found:
        raise unknown(decision_id)
    return found[decision_id]


def unknown(decision_id: int) -> StoreError:
    """The error for an id that is none."""
    return StoreError("unknown_decision", f"found no decision {decision_id}; it may be of another database")


def window(
    connection: sa.Connection, since: datetime | None, until: datetime | None, bundle: str, after: tuple[datetime, int]
) -> list[Item]:
    """The next batch of `Store.decisions`, behind the decision that came in at that time with that id."""
    c = decisions.c
    found: list[sa.ColumnElement[bool]] = [
        sa.tuple_(c.added, c.id) > sa.tuple_(sa.literal(after[0], c.added.type), sa.literal(after[1]))
    ]
    if since is not None:
        found.append(c.added >= since)
    if until is not None:
        found.append(c.added < until)
    if bundle:
        found.append(c.bundle == plain(bundle))
    ids = connection.execute(sa.select(c.id).where(*found).order_by(c.added, c.id).limit(BATCH)).scalars().all()
    whole = items(connection, c.id.in_(ids))
    return [whole[id] for id in ids]


def bundles(connection: sa.Connection) -> dict[str, datetime]:
    """See `Store.bundles`."""
    first = sa.func.min(decisions.c.added, type_=decisions.c.added.type).label("first")
    wanted = sa.select(decisions.c.bundle, first).group_by(decisions.c.bundle).order_by(first)
    return {row.bundle: row.first for row in connection.execute(wanted)}


def chunks(values: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Lists of up to `size`."""
    chunk: list[T] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
