"""What the store keeps: decisions and verdicts, one reviewer or several, one after the other. On both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from agpis.data import Box, Verdict
from agpis.errors import LeaseLost, SettingsError, StoreError
from agpis.records import Added, Count, Query
from agpis.store import Store
from tests.stores import FakeClock, clock, database, decision, empty_databases, no, postgres, store, yes

__all__ = ["clock", "database", "empty_databases", "postgres", "store"]  # fixtures


# Decisions in -----------------------------------------------------------------------------------------------------


def test_adding_is_idempotent_by_sku_and_bundle(store: Store) -> None:
    first = [decision(number) for number in range(700)]  # more than one transaction
    assert store.add(first, base="shop") == Added(new=700, known=0)
    other = replace(first[1], title="Renamed")
    again = [first[0], other, decision(2, bundle="b2"), decision(900), decision(900)]
    assert store.add(again, base="elsewhere") == Added(new=2, known=3, changed=1)
    assert store.count(Query()) == 702
    kept = store.item(store.find(Query(sku="S1"))[0].id)
    assert (kept.decision, kept.base, kept.until) == (first[1], "shop", None)
    assert set(store.decisions(bundle="b2")) == {again[2]}
    assert list(store.decisions(bundle="b1"))[:700] == first


def test_a_whole_decision_comes_back_as_it_was(store: Store) -> None:
    strange = decision(1, title="Mädchen\0 \ud800 'x'; DROP TABLE decisions; 靴", category="x" * 4000)
    store.add([strange])
    (item,) = store.lease("ann", Query(text="MÄDCHEN droP 靴"))
    assert item.decision == strange
    assert store.count(Query(text="100%")) == store.count(Query(text="_")) == 0


@pytest.mark.parametrize("sku", ["", "a\0b", "\udfff", "x" * 301])
def test_a_sku_that_cannot_be_kept_is_refused(store: Store, sku: str) -> None:
    with pytest.raises(StoreError, match="sku") as caught:
        store.add([decision(0, sku=sku)])
    assert caught.value.code == "bad_decision"


def test_decisions_of_a_window(store: Store, clock: FakeClock) -> None:
    begin = clock.time
    store.add([decision(0)])
    clock.pass_by(60)
    store.add([decision(1), decision(1, bundle="b0")])
    assert [d.sku for d in store.decisions(since=begin + timedelta(seconds=1))] == ["S1", "S1"]
    assert [d.sku for d in store.decisions(until=begin + timedelta(seconds=60))] == ["S0"]
    assert list(store.bundles().items()) == [("b1", begin), ("b0", begin + timedelta(seconds=60))]


# Verdicts ---------------------------------------------------------------------------------------------------------


def test_a_retry_is_the_same_verdict(store: Store, clock: FakeClock) -> None:
    store.add([decision(0), decision(1)])
    first, second = store.lease("ann", Query(), count=2)
    given = no(
        first.id, "ann", "blur", image_index=1, box=Box(1, 2, 30, 40), feedback="Blurred \0\ud800 é", seconds=3.5
    )
    kept = store.give(given)
    clock.pass_by(5000)
    again = store.give(replace(given, feedback="other words"))
    assert (kept.again, again.again, again.verdict_id) == (False, True, kept.verdict_id)
    (verdict,) = store.verdicts()
    d = first.decision
    assert verdict == Verdict(
        sku=d.sku, title=d.title, sequence=d.sequence, accepted=False, category=d.category,
        candidates=tuple(c.uri for c in d.candidates), rules=("blur",), image_index=1, box=Box(1, 2, 30, 40),
        feedback="Blurred \0\ud800 é", reviewer="ann", time="2026-03-01T12:00:00+00:00", bundle="b1",
        p_qualified=d.p_qualified,
    )  # fmt: skip
    for other in (replace(given, decision=second.id), replace(given, reviewer="bob")):
        with pytest.raises(StoreError, match="another verdict") as caught:
            store.give(other)
        assert caught.value.code == "verdict_key"


def test_a_late_verdict_is_kept_unless_somebody_else_has_it(store: Store, clock: FakeClock) -> None:
    store.add(decision(number) for number in range(3))
    items = store.lease("ann", Query(), count=3, seconds=60)
    clock.pass_by(61)
    assert store.give(yes(items[0].id, "ann")).again is False
    assert store.take("bob", items[1].id, 60)
    with pytest.raises(LeaseLost, match="given to somebody else") as caught:
        store.give(yes(items[1].id, "ann"))
    assert caught.value.code == "lease_lost"
    clock.pass_by(61)  # bob went away too, and ann's is still there
    assert store.give(yes(items[1].id, "ann")).again is False
    store.give(no(items[2].id, "bob", "blur"))  # never leased to him, but nobody has it
    with pytest.raises(LeaseLost, match="bob judged"):
        store.give(yes(items[2].id, "ann"))
    with pytest.raises(LeaseLost, match="already"):
        store.give(yes(items[2].id, "bob"))
    assert [v.reviewer for v in store.verdicts()] == ["ann", "ann", "bob"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accepted": True}, "one or the other"),
        ({"accepted": True, "rules": (), "corrected": ("images/0-1.jpg",)}, "one or the other"),
        ({"image_index": 3}, "allowed is 0 to 2"),
        ({"image_index": -1}, "allowed is 0 to 2"),
        ({"box": Box(0, 0, 5, 5)}, "image_index"),
        ({"image_index": 0, "box": Box(0, 0, 0, 5)}, "at least 1 pixel"),
        ({"image_index": 0, "box": Box(-1, 0, 5, 5)}, "outside"),
        ({"corrected": ("/etc/passwd",)}, "none of its candidates"),
        ({"corrected": ("images/0-1.jpg", "images/0-1.jpg")}, "twice"),
        ({"seconds": float("nan")}, "seconds"),
        ({"rules": ("a\0",)}, "rule"),
        ({"key": ""}, "key"),
    ],
)
def test_verdicts_that_contradict_themselves_are_refused(store: Store, changes: dict[str, object], words: str) -> None:
    store.add([decision(0)])
    (item,) = store.lease("ann", Query())
    with pytest.raises(StoreError, match=words) as caught:
        store.give(replace(no(item.id, "ann", "blur"), **changes))  # type: ignore[arg-type]
    assert caught.value.code == "bad_verdict"
    assert list(store.verdicts()) == []


def test_undo_keeps_the_verdict_in_the_history_and_leases_its_decision_again(store: Store, clock: FakeClock) -> None:
    store.add([decision(0), decision(1)])
    assert store.undo("ann") is None
    first, second = store.lease("ann", Query(), count=2)
    store.give(yes(first.id, "ann", "k1"))
    store.give(yes(second.id, "ann", "k2"))
    clock.pass_by(10)
    item = store.undo("ann", key="k2")
    assert item
    assert (item.id, item.until) == (second.id, clock.time + timedelta(seconds=600))
    assert store.undo("ann", key="k2") == item  # a retry
    assert store.undo("ann", key="k9") is None
    assert store.undo("bob", key="k1") is None
    assert len(list(store.verdicts())) == 1
    assert store.give(yes(second.id, "ann", "k2")).again  # a late retry does not bring it back
    assert len(list(store.verdicts())) == 1
    store.give(no(second.id, "ann", "blur", key="k3"))
    (past,) = store.history(second.decision.sku)
    assert past.item
    assert past.item.decision == second.decision
    assert [(one.key, one.undone, one.verdict.accepted) for one in past.verdicts] == [
        ("k2", clock.time, True), ("k3", None, False),
    ]  # fmt: skip
    assert [store.undo("ann").id for _ in range(2)] == [second.id, first.id]  # type: ignore[union-attr]
    assert store.undo("ann") is None


def test_verdicts_of_a_window_come_in_order_and_in_batches(store: Store, clock: FakeClock) -> None:
    begin = clock.time
    kept = []
    store.add(decision(number) for number in range(40))
    for item in store.lease("ann", Query(), count=40):
        kept.append(store.give(yes(item.id, "ann")))
        clock.pass_by(1)
    many = [Verdict(f"X{n}", "", ("a.jpg",), True, time=f"2026-01-01T00:00:00.{n:06d}") for n in range(1100)]
    store.import_verdicts(many)
    assert len(list(store.verdicts())) == 1140
    assert [v.sku for v in store.verdicts(until=begin)] == [v.sku for v in many]
    assert len(list(store.verdicts(since=begin, until=begin + timedelta(seconds=10)))) == 10
    assert len(list(store.verdicts(since=begin, after=kept[29].verdict_id))) == 10


def test_importing_is_idempotent_and_ties_verdicts_to_decisions(store: Store, clock: FakeClock) -> None:
    store.add([decision(0), decision(1), decision(2)])
    (item,) = store.lease("ann", Query())
    store.give(no(item.id, "ann", "blur", feedback="Blurred."))
    (own,) = store.verdicts()
    d = decision((int(item.decision.sku[1:]) + 1) % 3)
    theirs = Verdict(d.sku, d.title, d.sequence, True, reviewer="eve", bundle="b1", time="2026-02-01T10:00:00Z")
    loose = Verdict("elsewhere", "", ("x.jpg",), False, rules=("blur", "border"), feedback="?")
    other = replace(theirs, sequence=d.sequence[::-1])
    assert store.import_verdicts([own, theirs, loose, other]) == Added(new=3, known=1)
    moved = replace(theirs, base="/somewhere", time="2026-02-01T11:00:00+01:00")
    assert store.import_verdicts([moved, loose, own]) == Added(new=0, known=3)
    assert store.count(Query()) == 1
    assert [past.item is None for past in store.history(d.sku)] == [False, True]
    assert store.history("elsewhere")[0].verdicts[0].verdict == loose
    assert sorted(v.reviewer for v in store.verdicts()) == ["", "ann", "eve", "eve"]
    store.undo("ann")
    assert store.import_verdicts([own]) == Added(new=0, known=1)  # stays undone
    assert store.count(Query()) == 2
    for bad in (replace(loose, time="tomorrow"), replace(loose, sku=""), replace(loose, sequence=())):
        with pytest.raises(StoreError, match="found"):
            store.import_verdicts([bad])


# What was done ----------------------------------------------------------------------------------------------------


def test_counts_by_day_bundle_category_rule_and_reviewer(store: Store, clock: FakeClock) -> None:
    clock.time = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)  # 23:30 in Berlin
    store.add(decision(number, bundle=f"b{number % 2}", category="C") for number in range(6))
    items = store.lease("ann", Query(order="oldest"), count=6)
    store.give(yes(items[0].id, "ann", seconds=2.0))
    store.give(no(items[1].id, "ann", "blur", "border", seconds=3.0))
    clock.pass_by(3600)  # the next day in Berlin, not in UTC
    store.give(no(items[2].id, "bob", "blur", seconds=4.0)) if store.release("ann") else None
    store.give(no(items[3].id, "ann"))
    store.give(yes(items[4].id, "ann", "gone"))
    store.undo("ann", key="gone")
    assert store.tally(by=("day",)) == [Count(accepted=1, rejected=3, seconds=9.0, day=date(2026, 3, 1))]
    assert store.tally(by=("day", "reviewer"), zone="Europe/Berlin") == [
        Count(accepted=1, rejected=1, seconds=5.0, day=date(2026, 3, 1), reviewer="ann"),
        Count(accepted=0, rejected=1, seconds=0.0, day=date(2026, 3, 2), reviewer="ann"),
        Count(accepted=0, rejected=1, seconds=4.0, day=date(2026, 3, 2), reviewer="bob"),
    ]
    assert [(c.rule, c.accepted, c.rejected) for c in store.tally(by=("rule",))] == [
        ("", 1, 1), ("blur", 0, 2), ("border", 0, 1),
    ]  # fmt: skip
    assert store.tally(by=("bundle", "category")) == [
        Count(accepted=1, rejected=1, seconds=6.0, bundle="b0", category="C"),
        Count(accepted=0, rejected=2, seconds=3.0, bundle="b1", category="C"),
    ]
    assert store.tally(clock.time, by=("reviewer",))[0] == Count(accepted=0, rejected=1, seconds=0.0, reviewer="ann")
    assert store.tally(until=clock.time - timedelta(hours=1)) == []
    day = store.day("ann", date(2026, 3, 2), "Europe/Berlin")
    assert (day.accepted, day.rejected, day.undone, len(day.judged), day.seconds) == (0, 1, 1, 2, 0.0)
    for zone in ("Mars/Olympus", "../etc/passwd", "", "a\0b"):
        with pytest.raises(SettingsError, match="time zone"):
            store.tally(zone=zone)
    with pytest.raises(SettingsError, match="by="):
        store.tally(by=("hour",))  # type: ignore[arg-type]
