"""A reviewer's verdict: kept once, however often it is sent; taken back, but not forgotten."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from agpis.data import Verdict
from agpis.decision_rows import item
from agpis.errors import LeaseLost, StoreError
from agpis.leases import holders, locked, named, settle, take
from agpis.records import Given, Item, Kept
from agpis.schema import leases, plain, verdicts
from agpis.verdict_rows import Entry, check_texts, insert

_v = verdicts.c
_SAID = (
    sa.select(_v.id, _v.key, _v.decision, _v.reviewer, _v.accepted)
    .where(sa.or_(_v.key == sa.bindparam("key"), sa.and_(_v.decision == sa.bindparam("at"), _v.undone.is_(None))))
    .order_by(_v.id)
)
"""The verdict of a key, and those on a decision that stand."""
_END = leases.delete().where(leases.c.decision == sa.bindparam("at"), leases.c.reviewer == sa.bindparam("who"))


def give(connection: sa.Connection, now: datetime, given: Given) -> Kept:
    """See `Store.give`."""
    reviewer = named(given.reviewer)
    if not 0 < len(given.key) <= 200 or plain(given.key) != given.key:
        raise StoreError("bad_verdict", f"found the key {given.key[:60]!r}, wanted 1 to 200 letters, such as a UUID")
    row = locked(connection, given.decision)
    votes = []
    for said in connection.execute(_SAID, {"key": given.key, "at": row.id}):
        if said.key == given.key:
            if said.decision != row.id or said.reviewer != reviewer:
                raise StoreError("verdict_key", f"the key {given.key!r} is that of another verdict; make a new one")
            return Kept(verdict_id=said.id, again=True)
        votes.append(said)
    verdict = _verdict(given, item(connection, row.id), reviewer, now)
    judges = [said.reviewer for said in votes]
    if reviewer in judges:
        raise LeaseLost("lease_lost", f"{reviewer} has judged decision {row.id} already; undo that verdict first")
    if len(judges) >= row.wanted:
        raise LeaseLost("lease_lost", f"{' and '.join(judges)} judged decision {row.id} meanwhile")
    running = [who for who, until in holders(connection, row.id).items() if until > now]
    if reviewer not in running and len(running) >= row.wanted - len(judges):
        raise LeaseLost("lease_lost", f"decision {row.id} was given to somebody else when the time for it had run out")
    entry = Entry(given.key, verdict, row.id, now, given.seconds, given.blind)
    id = insert(connection, [entry])[given.key]
    if len(judges) + 1 < row.wanted:  # otherwise all its leases end
        connection.execute(_END, {"at": row.id, "who": reviewer})
    settle(connection, now, row, [*(said.accepted for said in votes), int(given.accepted)])
    return Kept(verdict_id=id, again=False)


def _verdict(given: Given, item: Item, reviewer: str, now: datetime) -> Verdict:
    decision = item.decision
    candidates = tuple(candidate.uri for candidate in decision.candidates)
    verdict = Verdict(
        sku=decision.sku,
        title=decision.title,
        category=decision.category,
        base=item.base,
        candidates=candidates,
        sequence=decision.sequence,
        accepted=given.accepted,
        rules=given.rules,
        image_index=given.image_index,
        box=given.box,
        feedback=given.feedback,
        corrected=given.corrected,
        reviewer=reviewer,
        time=now.isoformat(),
        bundle=decision.bundle,
        p_qualified=decision.p_qualified,
    )
    check_texts(verdict)
    wrong = _wrong(given, verdict)
    if wrong:
        raise StoreError("bad_verdict", f"decision {item.id}: {wrong}")
    return verdict


def _wrong(given: Given, verdict: Verdict) -> str:
    """How the verdict contradicts itself or its decision, or ""."""
    length = len(verdict.sequence)
    if verdict.accepted and (verdict.rules or verdict.corrected):
        return "found accepted with broken rules or a corrected sequence; it is one or the other"
    if not length and not verdict.corrected:
        return "it has no sequence: all that can be said of it is a corrected sequence"
    if not length and verdict.accepted:
        return "it has no sequence that could be accepted"
    if verdict.image_index is not None and not 0 <= verdict.image_index < length:
        return f"found image_index {verdict.image_index}, allowed is 0 to {length - 1}"
    if verdict.box is not None and (verdict.image_index is None or min(verdict.box.w, verdict.box.h) < 1):
        return "a box needs an image_index, and a width and height of at least 1 pixel"
    if verdict.box is not None and min(verdict.box.x, verdict.box.y) < 0:
        return f"found a box at {verdict.box.x}, {verdict.box.y}, outside its image"
    foreign = [uri for uri in verdict.corrected if uri not in {*verdict.candidates, *verdict.sequence}]
    if foreign:
        return f"found {foreign[0][:60]!r} in the corrected sequence, which is none of its candidates"
    if len(set(verdict.corrected)) != len(verdict.corrected):
        return "found an image twice in the corrected sequence"
    if not (math.isfinite(given.seconds) and given.seconds >= 0):
        return f"found {given.seconds} seconds, allowed is 0 and more"
    return ""


def undo(connection: sa.Connection, now: datetime, reviewer: str, key: str, seconds: float) -> Item | None:
    """See `Store.undo`."""
    v, reviewer = verdicts.c, named(reviewer)
    found = sa.select(v.id, v.decision).where(v.reviewer == reviewer, v.decision.is_not(None))
    found = found.where(v.key == plain(key)) if key else found.where(v.undone.is_(None), ~v.key.startswith("import-"))
    last = connection.execute(found.order_by(v.id.desc()).limit(1)).first()
    if last is None:
        return None
    row = locked(connection, last.decision)
    stood = connection.execute(
        verdicts.update().where(v.id == last.id, v.undone.is_(None)).values(undone=now).returning(v.id)
    ).first()
    if stood is not None:
        settle(connection, now, row)
    taken = take(connection, now, reviewer, row.id, seconds)
    return taken or replace(item(connection, row.id), until=None)
