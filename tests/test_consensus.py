"""A sequence counts once, however many judged it: on the team page and in `agpis monitor`, of stores and of files."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from agpis.consensus import Vote, consensus
from agpis.data import Verdict
from agpis.monitor import Options, watch
from agpis.records import Given, Query
from agpis.review_team import team
from agpis.settled import settle, vote
from agpis.store import Store
from agpis.tallies import Reviewed, tally
from tests.stores import FakeClock, clock, database, decision, empty_databases, postgres, store

__all__ = ["clock", "database", "empty_databases", "postgres", "store"]  # fixtures

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def said(of: str, *words: str) -> list[Vote]:
    """Words such as "ann no blur": one an hour."""
    found = []
    for hour, word in enumerate(words):
        reviewer, answer, *rules = word.split()
        found.append(
            Vote(of, reviewer.strip("-"), BEGIN + timedelta(hours=hour), answer == "yes", "b", "C", tuple(rules))
        )
    return found


def test_the_majority_of_last_words_decides() -> None:
    cases = {
        ("ann no blur",): (False, 0, {"blur"}),
        ("ann yes", "bob yes"): (True, 1, set()),
        ("ann yes", "bob no blur"): (None, 1, set()),
        ("ann yes", "bob no blur", "ann no border"): (False, 2, {"blur", "border"}),
        ("ann no blur", "bob no blur border", "cid yes"): (False, 1, {"blur", "border"}),
        ("ann yes", "- yes", "- no blur"): (True, 1, set()),  # who has no name is another each time
    }
    for words, (accepted, hour, rules) in cases.items():
        for order in (said("x", *words), said("x", *words)[::-1]):
            (found,) = consensus(order)
            assert (found.accepted, found.time, found.rules) == (accepted, BEGIN + timedelta(hours=hour), rules), words
    assert len(consensus([*said("x", "ann no"), *said("y", "ann no")])) == 2


def test_it_settles_as_samples_are_settled() -> None:
    dice = random.Random(3)
    names, bundles = ("", "ann", "bob", "cid"), ("b1", "b2")
    given = [
        Verdict(
            f"S{dice.randrange(60)}", "t", (dice.choice("ab"),), dice.random() < 0.6, reviewer=dice.choice(names),
            time=(BEGIN + timedelta(minutes=dice.randrange(9000))).isoformat(), bundle=dice.choice(bundles),
        )
        for _ in range(400)
    ]  # fmt: skip
    settled, found = settle(given), consensus(vote(v, datetime.fromisoformat(v.time)) for v in given)
    kept = sorted((v.accepted, v.time, v.bundle) for v in settled.verdicts)
    assert sorted((one.accepted, one.time.isoformat(), one.bundle) for one in found if one.accepted is not None) == kept
    assert sum(one.accepted is None for one in found) == len(settled.disagreed) > 20
    assert len(kept) > 100


def fill(store: Store, clock: FakeClock) -> None:
    """Six decisions under double review and two loose verdicts on one sequence, over two days: S0 to S5 in order."""
    keys = itertools.count()

    def judge(number: int, reviewer: str, *rules: str) -> None:
        (line,) = store.find(Query(sku=f"S{number}", reviewed="any"))
        assert store.take(reviewer, line.id)
        store.give(Given(f"k{next(keys)}", line.id, reviewer, not rules, rules))

    clock.time = BEGIN
    store.add(decision(number, status="generated") for number in range(6))
    assert len(store.lease("ann", Query(), count=6, double=1.0)) == 6
    for number, rules in enumerate(([], [], ["blur"], ["blur", "border"], ["border"], [])):
        judge(number, "ann", *rules)
    store.undo("ann")  # S5
    store.release("ann")
    clock.pass_by(86400)
    for number, rules in enumerate(([], ["blur"], ["border"], [])):  # accepted; open; rejected; open
        judge(number, "bob", *rules)
    d, late = decision(4), (BEGIN + timedelta(hours=25)).isoformat()
    photos = tuple(candidate.uri for candidate in d.candidates)
    more = Verdict(d.sku, d.title, d.sequence, False, category="C0", candidates=photos, rules=("blur",), bundle="b1")
    store.import_verdicts(replace(more, reviewer=name, time=late) for name in ("cid", "eve"))
    loose = [
        Verdict("X", "", (uri,), name == "ann", reviewer=name, time=late, bundle="b1")
        for name in ("ann", "bob", "cid")
        for uri in ("a.jpg", "b.jpg")
    ]
    store.import_verdicts(loose[:-1])  # a.jpg: rejected by two of three; b.jpg: they disagree


SETTLED = {date(2026, 3, 2): (1, 3, {"blur": 2, "border": 2}, 3)}
"""Day -> accepted (S0), rejected (S2, S4, a.jpg), rules of S2 and S4, and disagreed (S1, S3, b.jpg)."""


def test_team_and_monitor_count_a_sequence_once(store: Store, database: str, clock: FakeClock) -> None:
    fill(store, clock)
    now = clock.time + timedelta(hours=2)
    found = team(store, now, 7, {"blur": "Blurred", "border": "Border"})
    assert found
    assert (found.total, found.rejected.count, found.rejected.value) == (4, 3, 0.75)
    assert [(row.name, row.count, row.total) for row in found.rules] == [("Blurred", 2, 4), ("Border", 2, 4)]
    assert [(row.name, row.count, row.total) for row in found.bundles] == [("b1", 3, 4)]
    assert [(row.name, row.count, row.total) for row in found.categories] == [("C0", 2, 3), ("none", 1, 1)]
    assert {row.name: (row.count, row.total) for row in found.reviewers} == {
        "ann": (3, 7), "bob": (4, 6), "cid": (2, 2), "eve": (1, 1),
    }  # fmt: skip
    assert "01 Mar: 5<" in found.throughput
    assert "02 Mar: 11<" in found.throughput
    assert "02 Mar: 75 %" in found.by_day
    assert found.by_day.count("<circle") == 1

    tallies = tally([database])
    assert shown(tallies.reviewed["b1"]) == SETTLED
    watched = watch(tallies, Options(until=date(2026, 3, 3)))
    assert (watched.bundles[0].reject_now.count, watched.bundles[0].reject_now.total) == (3, 4)
    assert any("3 sequences of the window are neither" in note for note in watched.notes)


def shown(days: dict[date, Reviewed]) -> dict[date, tuple[int, int, dict[str, int], int]]:
    return {day: (one.accepted, one.rejected, dict(one.rules), one.disagreed) for day, one in days.items()}


def test_files_are_settled_together(store: Store, clock: FakeClock, tmp_path: Path) -> None:
    fill(store, clock)
    rows = [{name: value for name, value in asdict(v).items() if value is not None} for v in store.verdicts()]
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for part, path in enumerate(files):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[part::2]))
    assert shown(tally(files).reviewed["b1"]) == SETTLED


def test_a_sequence_is_of_one_window_only(store: Store, database: str, clock: FakeClock) -> None:
    fill(store, clock)
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    assert store.consensus(until=midnight) == []
    assert sorted(str(one.accepted) for one in store.consensus(midnight)) == sorted(
        str(one.accepted) for one in store.consensus()
    )
    assert store.consensus(midnight + DAY) == []
    since = tally([database], since=midnight.date())
    assert since.reviewed["b1"][midnight.date()].total == 4  # with what was said before
    empty = team(store, midnight - timedelta(hours=1), 7, {})
    assert empty
    assert (empty.total, empty.by_day.count("<circle")) == (0, 0)
    assert "01 Mar: 5<" in empty.throughput
