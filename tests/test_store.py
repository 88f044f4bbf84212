"""One reviewer or several, one after the other: what the store keeps, gives out and counts. On both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from agpis.data import Box, Decision, Verdict
from agpis.errors import LeaseLost, SettingsError, StoreError
from agpis.records import Added, Count, Given, Query
from agpis.store import Store
from tests.stores import FakeClock, clock, database, decision, empty_databases, postgres, store

__all__ = ["clock", "database", "empty_databases", "postgres", "store"]  # fixtures


def yes(item: int, reviewer: str, key: str = "", **more: object) -> Given:
    return Given(key=key or str(uuid4()), decision=item, reviewer=reviewer, accepted=True, **more)  # type: ignore[arg-type]


def no(item: int, reviewer: str, *rules: str, key: str = "", **more: object) -> Given:
    values = {"key": key or str(uuid4()), "decision": item, "reviewer": reviewer, "accepted": False, "rules": rules}
    return Given(**{**values, **more})  # type: ignore[arg-type]


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


# The queue --------------------------------------------------------------------------------------------------------


def wanted(d: Decision, query: Query) -> bool:
    """What a Query means, said plainly."""
    p = d.p_qualified
    return (
        (not query.status or d.status in query.status)
        and (not query.category or d.category == query.category)
        and (not query.bundle or d.bundle == query.bundle)
        and (not query.sku or d.sku == query.sku)
        and (not query.rule or query.rule in {v.rule for v in d.violations})
        and (query.low is None or (p is not None and p >= query.low))
        and (query.high is None or (p is not None and (p < query.high or query.high == p == 1)))
        and all(word in f"{d.sku} {d.title}".casefold() for word in query.text.casefold().split())
    )


QUERIES = [
    Query(),
    Query(status=("below_threshold",)),
    Query(status=("generated", "below_threshold"), category="C1"),
    Query(rule="blur"),
    Query(rule="border", low=0.2, high=0.7, bundle="b1"),
    Query(low=0.9, high=1.0),
    Query(high=0.1, bundle="b2"),
    Query(sku="S7"),
    Query(text="WOOL s1"),
    Query(category="nothing like it"),
]


@pytest.mark.parametrize("order", ["unsure", "oldest", "newest"])
def test_every_filter_finds_what_it_says_and_pages_miss_and_repeat_nothing(store: Store, order: str) -> None:
    them = [decision(number, bundle="b1" if number % 5 else "b2") for number in range(120)]
    them.append(decision(500, p_qualified=None))
    store.add(them)
    for query in QUERIES:
        query = replace(query, order=order)  # type: ignore[arg-type]
        found = []
        while page := store.find(query, after=found[-1].id if found else None, limit=7):
            found += page
        assert sorted(line.sku for line in found) == sorted(d.sku for d in them if wanted(d, query)), query
        assert store.count(query) == len(found)
        doubts = [1.0 if line.p_qualified is None else abs(line.p_qualified - 0.5) for line in found]
        ids = [line.id for line in found]
        keys = {"unsure": list(zip(doubts, ids, strict=True)), "oldest": ids, "newest": [-id for id in ids]}
        assert keys[order] == sorted(keys[order])


def test_facets_count_what_is_open(store: Store) -> None:
    them = [decision(number) for number in range(60)]
    nothing = decision(99, status="no_primary", sequence=(), violations=())
    store.add([*them, nothing])
    for number in (1, 2, 5):
        item = store.take("ann", store.find(Query(sku=f"S{number}"))[0].id)
        assert item
        store.give(yes(item.id, "ann"))
    left = [d for d in them if d.sku not in ("S1", "S2", "S5")]
    facets = store.facets()
    assert (facets.open, facets.done) == (57, 3)
    assert facets.statuses == {
        "generated": sum(d.status == "generated" for d in left), "below_threshold": 15, "no_primary": 1,
    }  # fmt: skip
    assert facets.categories == {c: sum(d.category == c for d in left) for c in ("C0", "C1")}
    assert facets.bundles == {"b1": 57}
    assert facets.rules == {r: sum(wanted(d, Query(rule=r)) for d in left) for r in facets.rules}
    assert set(facets.rules) == {"blur", "border"}
    store.undo("ann")
    assert store.facets().open == 58
    assert store.facets().rules["border"] == facets.rules["border"] + 1


def test_a_line_of_the_queue_page_says_who_has_it_and_what_was_said(store: Store, clock: FakeClock) -> None:
    store.add([decision(5), decision(2, p_qualified=None)])
    first, second = store.find(Query())
    assert (first.sku, first.rules, first.holder, first.verdicts, first.accepted) == ("S5", ("border",), "", 0, None)
    assert (second.rules, second.added, second.open) == (("border",), clock.time, True)
    store.take("ann", first.id, 60)
    assert store.find(Query())[0].holder == "ann"
    clock.pass_by(61)
    assert store.find(Query())[0].holder == ""
    store.give(no(first.id, "ann", "blur"))
    (line,) = store.find(Query(reviewed="done"))
    assert (line.id, line.open, line.verdicts, line.accepted) == (first.id, False, 1, False)
    assert [line.id for line in store.find(Query(reviewed="any"))] == [first.id, second.id]


def test_products_without_a_sequence_wait_only_where_they_are_asked_for(store: Store) -> None:
    bare = decision(1, status="no_primary", sequence=())
    dead = Decision(sku="dead", status="failed", bundle="b1")
    store.add([bare, dead])
    assert store.lease("ann", Query()) == []
    assert store.lease("ann", Query(status=("failed",))) == []
    (item,) = store.lease("ann", Query(status=("no_primary", "failed")))
    for wrong in (yes(item.id, "ann"), no(item.id, "ann", "blur")):
        with pytest.raises(StoreError, match="no sequence"):
            store.give(wrong)
    corrected = (bare.candidates[1].uri, bare.candidates[0].uri)
    store.give(no(item.id, "ann", corrected=corrected))
    (verdict,) = store.verdicts()
    assert (verdict.accepted, verdict.sequence, verdict.corrected) == (True, corrected, ())
    assert store.undo("ann") is not None
    assert store.count(Query(status=("no_primary",))) == 1
    assert store.count(Query(reviewed="any")) == 2


def test_queries_that_cannot_be_meant_are_refused(store: Store) -> None:
    store.add([decision(0)])
    bad = [Query(low=-0.1), Query(high=float("nan")), Query(status=("lost",)), Query(order="random")]  # type: ignore[arg-type]
    for query in bad:
        with pytest.raises(SettingsError, match="found") as caught:
            store.count(query)
        assert caught.value.code == "bad_query"
    with pytest.raises(SettingsError, match="limit of 0"):
        store.find(Query(), limit=0)
    with pytest.raises(StoreError, match="no decision 77"):
        store.find(Query(), after=77)
    for settings in ({"count": 0}, {"seconds": 0}, {"seconds": float("inf")}, {"double": 1.5}):
        with pytest.raises(SettingsError) as caught:
            store.lease("ann", Query(), **settings)  # type: ignore[arg-type]
        assert caught.value.code == "bad_lease"
    with pytest.raises(SettingsError, match="reviewer"):
        store.lease("", Query())
    for id in (0, -5, 9, 2**70):
        with pytest.raises(StoreError, match="no decision"):
            store.item(id)
        with pytest.raises(StoreError, match="no decision"):
            store.take("ann", id)
        assert store.release("ann", id) == 0


# Leases -----------------------------------------------------------------------------------------------------------


def test_nobody_gets_what_another_holds_or_has_judged(store: Store, clock: FakeClock) -> None:
    store.add(decision(number) for number in range(4))
    ann = store.lease("ann", Query(), count=2)
    bob = store.lease("bob", Query(), count=9)
    assert len(ann) == len(bob) == 2
    assert {item.id for item in ann}.isdisjoint(item.id for item in bob)
    assert store.take("bob", ann[0].id) is None
    store.give(yes(ann[0].id, "ann"))
    assert store.take("ann", ann[0].id) is None
    clock.pass_by(601)
    left = {item.id for item in (*ann[1:], *bob)}
    assert {item.id for item in store.lease("cid", Query(), count=9)} == left


def test_a_reload_gives_the_same_ones_first_with_a_new_end(store: Store, clock: FakeClock) -> None:
    store.add(decision(number) for number in range(6))
    before = store.lease("ann", Query(), count=3)
    assert {item.until for item in before} == {clock.time + timedelta(seconds=600)}
    clock.pass_by(100)
    after = store.lease("ann", Query(), count=4, seconds=60)
    assert [item.id for item in after[:3]] == [item.id for item in before]
    assert {item.until for item in after} == {clock.time + timedelta(seconds=60)}
    passed = store.lease("ann", Query(), count=2, passing=[before[0].id, before[2].id])
    assert [item.id for item in passed] == [before[1].id, after[3].id]
    clock.pass_by(61)  # run out, but nobody took them: the laptop is opened again
    assert [item.id for item in store.lease("ann", Query(), count=4)] == [item.id for item in after]
    clock.pass_by(601)
    store.take("bob", before[0].id)
    assert [item.id for item in store.lease("ann", Query(), count=3)] == [item.id for item in after[1:]]


def test_the_least_sure_comes_first_or_the_oldest(store: Store) -> None:
    store.add(decision(number, p_qualified=p) for number, p in enumerate([0.9, None, 0.45, 0.6]))
    assert [item.decision.sku for item in store.lease("ann", Query(), count=4)] == ["S2", "S3", "S0", "S1"]
    store.release("ann")
    orders = [[item.decision.sku for item in store.lease(r, Query(order=o), count=2)] for r, o in
              (("ann", "oldest"), ("bob", "newest"))]  # type: ignore[arg-type]  # fmt: skip
    assert orders == [["S0", "S1"], ["S3", "S2"]]


def test_released_ones_are_free_at_once(store: Store) -> None:
    store.add(decision(number) for number in range(3))
    first, second = store.lease("ann", Query(), count=2)
    assert store.release("ann", first.id) == 1
    assert store.release("ann", first.id) == 0
    assert store.take("bob", first.id) is not None
    assert store.release("ann") == 1
    assert {item.id for item in store.lease("bob", Query(), count=9)} >= {first.id, second.id}


def test_double_review_gives_a_share_to_exactly_two(store: Store) -> None:
    store.add(decision(number) for number in range(120))
    judges: dict[int, list[str]] = {}
    for reviewer in ("ann", "bob", "cid", "ann"):
        while items := store.lease(reviewer, Query(), count=20, double=0.25):
            for item in items:
                judges.setdefault(item.id, []).append(reviewer)
                store.give(yes(item.id, reviewer) if reviewer == "ann" else no(item.id, reviewer, "blur"))
    twice = [id for id, names in judges.items() if names == ["ann", "bob"]]
    assert 15 <= len(twice) <= 45  # 30 +- 5: a hash, so the same ones every time
    assert all(names == ["ann"] for id, names in judges.items() if id not in twice)
    pairs = store.pairs()
    assert sorted(pair.decision for pair in pairs) == sorted(twice)
    assert {tuple(one.verdict.reviewer for one in pair.verdicts) for pair in pairs} == {("ann", "bob")}
    assert {tuple(one.verdict.accepted for one in pair.verdicts) for pair in pairs} == {(True, False)}


def test_under_double_review_two_hold_it_at_once_but_not_three(store: Store, clock: FakeClock) -> None:
    store.add([decision(0)])
    (item,) = store.lease("ann", Query(), double=1.0)
    assert [i.id for i in store.lease("bob", Query(), double=1.0)] == [item.id]
    assert store.lease("cid", Query(), double=1.0) == []
    store.give(yes(item.id, "bob"))
    assert store.lease("cid", Query(), double=1.0) == []
    assert store.lease("bob", Query(), double=1.0) == []
    again = store.undo("bob")
    assert again
    assert again.until
    assert store.lease("cid", Query(), double=1.0) == []
    clock.pass_by(601)
    assert len(store.lease("cid", Query(), double=1.0)) == 1
    store.give(yes(item.id, "ann"))  # late, but a place is free
    with pytest.raises(LeaseLost):
        store.give(yes(item.id, "bob"))
    store.give(yes(item.id, "cid"))
    assert store.count(Query()) == 0


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


# Accounts ---------------------------------------------------------------------------------------------------------


def test_accounts_and_their_sessions(store: Store, clock: FakeClock) -> None:
    ann = store.add_reviewer("Ann", "hash-1", admin=True)
    store.add_reviewer("bob", "hash-2")
    assert store.reviewer("ANN") == ann
    assert "hash-1" not in repr(ann)
    assert store.reviewer("a\0") is None
    assert [(r.name, r.admin) for r in store.reviewers()] == [("Ann", True), ("bob", False)]
    with pytest.raises(StoreError, match="already"):
        store.add_reviewer("ann", "x")
    for name in ("", " ann", "a\nb", "a\0b", "x" * 101):
        with pytest.raises(StoreError, match="printable"):
            store.add_reviewer(name, "x")
    end = clock.time + timedelta(hours=8)
    made = store.open_session("ann", "token-1", end)
    assert store.session("token-1") == made
    assert made.reviewer == ann
    assert store.session("token-2") is None
    store.set_password("Ann", "hash-3")
    assert store.session("token-1") is None
    assert store.reviewer("Ann").password_hash == "hash-3"  # type: ignore[union-attr]
    store.open_session("bob", "token-3", end)
    store.open_session("bob", "token-4", end)
    store.close_session("token-3")
    assert store.session("token-3") is None
    assert store.session("token-4") is not None
    clock.pass_by(8 * 3600)
    assert store.session("token-4") is None
    for call in (lambda: store.set_password("eve", "x"), lambda: store.disable("eve"),
                 lambda: store.open_session("eve", "t", end)):  # fmt: skip
        with pytest.raises(StoreError, match="no reviewer"):
            call()


def test_a_disabled_reviewer_is_out_and_his_leases_are_free(store: Store, clock: FakeClock) -> None:
    store.add([decision(0)])
    store.add_reviewer("Ann", "hash")
    end = clock.time + timedelta(hours=1)
    store.open_session("Ann", "token", end)
    (item,) = store.lease("Ann", Query())
    store.disable("ann")
    assert store.session("token") is None
    assert store.reviewer("ann").disabled  # type: ignore[union-attr]
    assert [i.id for i in store.lease("bob", Query())] == [item.id]
    with pytest.raises(StoreError, match="no reviewer"):
        store.open_session("ann", "t2", end)
    store.disable("ann", False)
    store.open_session("ann", "t2", end)


def test_failed_logins_are_counted_by_name_and_address(store: Store, clock: FakeClock) -> None:
    begin = clock.time
    for name, address in (("Ann", "10.0.0.1"), ("ann", "10.0.0.2"), ("bob", "10.0.0.1")):
        store.note_failed_login(name, address)
        clock.pass_by(60)
    assert store.failed_logins(begin, name="ANN") == 2
    assert store.failed_logins(begin, address="10.0.0.1") == 2
    assert store.failed_logins(begin, name="ann", address="10.0.0.1") == 1
    assert store.failed_logins(begin + timedelta(seconds=60), name="ann") == 1
    store.clear_failed_logins("ann")
    assert store.failed_logins(begin) == 1
    clock.pass_by(3 * 86400)
    store.note_failed_login("bob", "10.0.0.3")
    assert store.failed_logins(begin) == 1  # the old ones are forgotten
