"""Reviewers at a server that is killed, in small, on both databases; and that the check finds each broken promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agpis.data import Verdict
from agpis.records import Judged
from bench.http_reviewer import Grant, Habits, Journal, Sent
from bench.reviewers import LEASE, PROMISES, Plan, Stored, check, run
from tests.postgres import PostgresServer
from tests.stores import postgres  # noqa: F401  a fixture


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_server_is_killed(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        where = str(tmp_path / "reviews.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        where = server.database()
    habits = Habits(think=0.3, twice=0.5, hasty=0.2, browses=0.1)
    outcome = run(where, Plan(decisions=300, reviewers=4, seconds=5.0, kills=1, double=0.5, seed=3, habits=habits))
    print(outcome)
    assert outcome.broken == {name: [] for name in PROMISES}
    assert outcome.kept
    (kill,) = outcome.kills
    assert kill.flying > 0
    sent = outcome.journal.sent
    assert {one.state for one in sent} == {"confirmed"}
    assert len({one.reviewer for one in sent}) > 1
    assert sum(one.tries for one in sent) > len(sent)
    assert any(one.again for one in sent)
    assert max(one.answered for one in sent) > kill.back
    assert 0 < sum(outcome.stored.wanted[one.decision] == 2 for one in sent) < len(sent)


def sent(key: str, reviewer: str, decision: int) -> Sent:
    body = {"key": key, "decision": decision, "accepted": False, "rules": ["blur"], "photo": 1, "feedback": ""}
    return Sent(reviewer, body, state="confirmed", answered=5.0, new=1, tries=1)


def stored(key: str, reviewer: str, decision: int) -> Judged:
    verdict = Verdict(
        sku=f"S{decision}", title="", sequence=("b", "c"), accepted=False, candidates=("a", "b", "c"),
        rules=("blur",), image_index=0, reviewer=reviewer,
    )  # fmt: skip
    return Judged(verdict_id=1, key=key, decision=decision, verdict=verdict, seconds=1.0, blind=False, undone=None)


def well() -> tuple[Journal, Stored]:
    """Ann judged decision 1; she and Bob judged 2, which is for two; Bob's lease of 3 ran out, then Ann had it."""
    said = [("k1", "ann", 1), ("k2", "ann", 2), ("k3", "bob", 2)]
    grants = [Grant(who, decision, 0.0, 0.1) for who, decision in (("ann", 1), ("ann", 2), ("bob", 2), ("bob", 3))]
    journal = Journal([sent(*one) for one in said], [*grants, Grant("ann", 3, LEASE + 1.0, LEASE + 1.1)])
    return journal, Stored([stored(*one) for one in said], {1: 1, 2: 2, 3: 1}, {1: 0.5, 2: 0.05, 3: 0.5})


def test_the_check_is_content_with_what_is_right() -> None:
    journal, there = well()
    journal.strange.append("/api/lease: 503 database_busy")
    late = Sent("bob", {**sent("k4", "bob", 3).body}, state="refused", answered=LEASE + 2.0)
    journal.sent.append(late)
    assert check(journal, there, 0.1) == {name: [] for name in PROMISES}


def late_by_far(journal: Journal, there: Stored) -> None:
    """Bob gets decision 1 a day after Ann's verdict was confirmed."""
    journal.grants.append(Grant("bob", 1, 86_400.0, 86_400.1))


DAMAGE: dict[str, tuple[str, Callable[[Journal, Stored], object]]] = {
    "a confirmed verdict is not there": ("lost", lambda j, s: s.verdicts.pop(0)),
    "a confirmed verdict is taken back": (
        "lost",
        lambda j, s: s.verdicts.append(replace(s.verdicts.pop(0), undone=datetime.now(UTC))),
    ),
    "a verdict was never answered": ("lost", lambda j, s: setattr(j.sent[0], "state", "waits")),
    "a key is there twice": ("doubled", lambda j, s: s.verdicts.append(replace(s.verdicts[0], decision=3))),
    "it was new twice": ("doubled", lambda j, s: setattr(j.sent[0], "new", 2)),
    "a reviewer judged twice": (
        "doubled",
        lambda j, s: (s.verdicts.append(stored("k4", "ann", 2)), j.sent.append(sent("k4", "ann", 2))),
    ),
    "two judged what was for one": (
        "doubled",
        lambda j, s: (s.verdicts.append(stored("k4", "bob", 1)), j.sent.append(sent("k4", "bob", 1))),
    ),
    "another photo is blamed": ("changed", lambda j, s: j.sent[0].body.update(photo=2)),
    "it is another reviewer's": ("changed", lambda j, s: setattr(j.sent[0], "reviewer", "bob")),
    "refused, but there": (
        "refused",
        lambda j, s: (setattr(j.sent[0], "state", "refused"), setattr(j.sent[0], "answered", 2 * LEASE)),
    ),
    "refused while the lease ran": (
        "refused",
        lambda j, s: (setattr(j.sent[0], "state", "refused"), s.verdicts.pop(0)),
    ),
    "given to a second": ("given to two", lambda j, s: j.grants.append(Grant("bob", 1, 1.0, 1.1))),
    "given to a third": ("given to two", lambda j, s: j.grants.append(Grant("cid", 2, 1.0, 1.1))),
    "given after its verdict": ("given to two", late_by_far),
    "double review unasked": ("given to two", lambda j, s: s.wanted.update({1: 2})),
    "from nowhere": ("unknown", lambda j, s: s.verdicts.append(stored("k9", "cid", 3))),
    "an error": ("other answers", lambda j, s: j.strange.append("/api/lease: 500 http_500")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_check_finds(name: str) -> None:
    journal, there = well()
    promise, damage = DAMAGE[name]
    damage(journal, there)
    assert check(journal, there, 0.1)[promise]
