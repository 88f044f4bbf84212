"""What the store gives out: the queue, its filters and the leases. On both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agpis.data import Decision
from agpis.errors import LeaseLost, SettingsError, StoreError
from agpis.records import Query
from agpis.store import Store
from tests.stores import FakeClock, clock, database, decision, empty_databases, no, postgres, store, yes

__all__ = ["clock", "database", "empty_databases", "postgres", "store"]  # fixtures


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
