"""Verdicts into the database and out again; verdicts that were given elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from agpis.data import Box, Verdict
from agpis.decision_rows import BATCH, LONGEST, items
from agpis.errors import StoreError
from agpis.leases import locked, settle
from agpis.records import Added, Judged
from agpis.schema import decisions, plain, verdict_bodies, verdict_rules, verdicts
from agpis.verdicts import moment_of


def insert(
    connection: sa.Connection,
    verdict: Verdict,
    *,
    key: str,
    decision: int | None,
    time: datetime | None,
    seconds: float,
    blind: bool,
) -> int:
    """A new verdict; its id. The decision, if any, must be locked and settled afterwards."""
    row = {
        "key": key,
        "decision": decision,
        "sku": verdict.sku,
        "bundle": verdict.bundle,
        "category": plain(verdict.category)[:LONGEST],
        "reviewer": verdict.reviewer,
        "time": time,
        "accepted": int(verdict.accepted),
        "seconds": seconds,
        "blind": int(blind),
        "digest": digest(verdict),
    }
    id = connection.execute(verdicts.insert().values(row).returning(verdicts.c.id)).scalar_one()
    connection.execute(verdict_bodies.insert().values(verdict=id, row=json.dumps(asdict(verdict))))
    rules = [{"verdict": id, "rule": rule} for rule in dict.fromkeys(verdict.rules)]
    if rules:
        connection.execute(verdict_rules.insert(), rules)
    return int(id)


def digest(verdict: Verdict) -> str:
    """Of who said what of which sequence and when; where its files lie and what split it is in do not matter."""
    row = asdict(verdict)
    for name in ("title", "category", "base", "candidates", "p_qualified", "split"):
        del row[name]
    moment = moment_of(verdict.time) if verdict.time else None
    row["time"] = moment.isoformat() if moment else ""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def check_texts(verdict: Verdict) -> None:
    """Raises StoreError (`bad_verdict`) for a sku, bundle, reviewer or rule that no database can hold."""
    for name, text in (
        ("sku", verdict.sku),
        ("bundle", verdict.bundle),
        ("reviewer", verdict.reviewer),
        *(("rule", rule) for rule in verdict.rules),
    ):
        if plain(text) != text or len(text) > LONGEST:
            raise StoreError(
                "bad_verdict",
                f"found the {name} {text[:60]!r}; wanted at most {LONGEST} letters, no NUL and no half surrogate pair",
            )


def judged(connection: sa.Connection, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[Judged]:
    """Whole verdicts in the order in which they came in."""
    v = verdicts.c
    wanted = (
        sa.select(v.id, v.key, v.decision, v.seconds, v.blind, v.undone, verdict_bodies.c.row.label("body"))
        .join_from(verdicts, verdict_bodies)
        .where(*conditions)
        .order_by(v.id)
        .limit(limit)
    )
    return [
        Judged(
            verdict_id=row.id,
            key=row.key,
            decision=row.decision,
            verdict=_verdict(json.loads(row.body)),
            seconds=row.seconds,
            blind=bool(row.blind),
            undone=row.undone,
        )
        for row in connection.execute(wanted)
    ]


def _verdict(row: dict[str, Any]) -> Verdict:
    lists = {name: tuple(row[name]) for name in ("sequence", "candidates", "rules", "corrected")}
    box = Box(**row["box"]) if row["box"] else None
    return Verdict(**{**row, **lists, "box": box})


def window(since: datetime | None, until: datetime | None) -> list[sa.ColumnElement[bool]]:
    """Verdicts that stand, of since <= time < until."""
    v = verdicts.c
    found: list[sa.ColumnElement[bool]] = [v.undone.is_(None)]
    if since is not None:
        found.append(v.time >= since)
    if until is not None:
        found.append(v.time < until)
    return found


def batch(connection: sa.Connection, since: datetime | None, until: datetime | None, after: int) -> list[Judged]:
    """The next verdicts of `Store.verdicts`, behind the one with that id."""
    return judged(connection, verdicts.c.id > after, *window(since, until), limit=BATCH)


def sample(verdict: Verdict) -> Verdict:
    """The verdict as training takes it: a correction of nothing is an approved sequence."""
    if verdict.sequence:
        return verdict
    approved = {"sequence": verdict.corrected, "corrected": (), "accepted": True, "rules": (), "feedback": ""}
    return replace(verdict, **approved)  # type: ignore[arg-type]


def add(connection: sa.Connection, now: datetime, given: Sequence[Verdict]) -> Added:
    """One transaction of `Store.import_verdicts`."""
    wanted: dict[str, Verdict] = {}
    for verdict in given:
        check_texts(verdict)
        if not verdict.sku or not verdict.sequence:
            raise StoreError("bad_verdict", f"found a verdict on {verdict.sku!r} without a sku or without a sequence")
        if verdict.time and moment_of(verdict.time) is None:
            raise StoreError("bad_verdict", f"found time {verdict.time!r} of {verdict.sku!r}, wanted ISO 8601")
        wanted.setdefault(digest(verdict), verdict)
    v, d = verdicts.c, decisions.c
    keys = {f"import-{digest}" for digest in wanted}
    there = sa.select(v.digest).where(sa.or_(v.digest.in_(wanted), v.key.in_(keys)))
    for known in connection.execute(there).scalars():
        wanted.pop(known, None)
    skus = {verdict.sku for verdict in wanted.values()}
    of: dict[tuple[str, str], int] = {}
    sequences: dict[int, tuple[str, ...]] = {}
    if skus:
        whole = items(connection, d.sku.in_(skus))
        of = {(item.decision.sku, item.decision.bundle): id for id, item in whole.items()}
        sequences = {id: item.decision.sequence for id, item in whole.items()}
    ties = {key: of.get((verdict.sku, verdict.bundle)) for key, verdict in wanted.items()}
    ties = {key: id if id is not None and sequences[id] == wanted[key].sequence else None for key, id in ties.items()}
    rows = {id: locked(connection, id) for id in sorted({id for id in ties.values() if id is not None})}
    for key, verdict in wanted.items():
        time = moment_of(verdict.time) if verdict.time else None
        insert(connection, verdict, key=f"import-{key}", decision=ties[key], time=time, seconds=0.0, blind=False)
    for row in rows.values():
        settle(connection, now, row)
    return Added(new=len(wanted), known=len(given) - len(wanted))
