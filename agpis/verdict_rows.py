"""Verdicts into the database and out again; verdicts that were given elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Entry:
    """A verdict that is to be put in."""

    key: str
    verdict: Verdict
    decision: int | None
    """Must be locked, and settled afterwards."""
    time: datetime | None
    seconds: float = 0.0
    blind: bool = False

    def row(self) -> dict[str, Any]:
        """Columns of `verdicts`."""
        return {
            "key": self.key,
            "decision": self.decision,
            "sku": self.verdict.sku,
            "bundle": self.verdict.bundle,
            "category": plain(self.verdict.category)[:LONGEST],
            "reviewer": self.verdict.reviewer,
            "time": self.time,
            "accepted": int(self.verdict.accepted),
            "seconds": self.seconds,
            "blind": int(self.blind),
            "digest": digest(self.verdict),
        }


def insert(connection: sa.Connection, entries: Sequence[Entry]) -> dict[str, int]:
    """Put new verdicts in, in their order; ids by key."""
    if not entries:
        return {}
    v = verdicts.c
    made = connection.execute(
        verdicts.insert().returning(v.id, v.key, sort_by_parameter_order=True), [entry.row() for entry in entries]
    )
    ids = {row.key: int(row.id) for row in made}
    bodies = [{"verdict": ids[entry.key], "row": json.dumps(asdict(entry.verdict))} for entry in entries]
    connection.execute(verdict_bodies.insert(), bodies)
    rules = [
        {"verdict": ids[entry.key], "rule": rule} for entry in entries for rule in dict.fromkeys(entry.verdict.rules)
    ]
    if rules:
        connection.execute(verdict_rules.insert(), rules)
    return ids


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
    entries = [
        Entry(f"import-{key}", verdict, ties[key], moment_of(verdict.time) if verdict.time else None)
        for key, verdict in wanted.items()
    ]
    insert(connection, entries)
    for row in rows.values():
        settle(connection, now, row)
    return Added(new=len(wanted), known=len(given) - len(wanted))
