"""Many leases at once: lengthened together, and what is seen of others who were quicker. On both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from agpis import giving, leases
from agpis.data import Verdict
from agpis.database import Database
from agpis.errors import LeaseLost, SettingsError
from agpis.records import Given, Query
from agpis.store import Store, open_store
from tests.stores import FakeClock, clock, database, decision, empty_databases, postgres, store

__all__ = ["clock", "database", "empty_databases", "postgres", "store"]  # fixtures


def test_renewing_keeps_what_can_be_kept_and_takes_what_is_free(store: Store, clock: FakeClock) -> None:
    store.add(decision(number) for number in range(6))
    held, judged, given_up, of_bob, free, for_two = (line.id for line in store.find(Query(order="oldest")))
    for id in (judged, given_up):
        assert store.take("ann", id, 60)
    store.give(Given("k1", judged, "ann", accepted=True))
    store.release("ann", given_up)
    assert store.take("bob", given_up)
    assert store.take("bob", of_bob)
    assert [item.id for item in store.lease("ann", Query(order="newest"), double=1.0, seconds=60)] == [for_two]
    assert store.take("bob", for_two)
    assert store.take("ann", held, 60)
    clock.pass_by(50)
    asked = [for_two, held, judged, given_up, of_bob, free, 999, -1, 2**70, held]
    assert store.renew("ann", asked, 60) == [for_two, held, free]
    clock.pass_by(50)  # longer than the first leases
    for id in (for_two, held, free):
        with pytest.raises(LeaseLost):
            store.give(Given(f"c{id}", id, "cid", accepted=True))
    clock.pass_by(11)
    assert {item.id for item in store.lease("cid", Query(), count=9, double=1.0)} == {for_two, held, free}
    assert store.renew("ann", []) == []
    with pytest.raises(SettingsError, match="seconds"):
        store.renew("ann", [held], -1)


def test_leases_that_were_renewed_come_in_the_order_in_which_they_were_taken(store: Store, clock: FakeClock) -> None:
    store.add(decision(number) for number in range(5))
    before = [item.id for item in store.lease("ann", Query(), count=2)]
    clock.pass_by(1)
    before += [item.id for item in store.lease("ann", Query(), count=4)[2:]]
    clock.pass_by(1)
    assert store.renew("ann", before[::-1], 60) == before[::-1]
    after = store.lease("ann", Query(), count=5, seconds=60)
    assert [item.id for item in after[:4]] == before
    assert {item.until for item in after} == {clock.time + timedelta(seconds=60)}


def test_seen_counts_verdicts_that_stand_on_all_decisions_of_a_sku(store: Store) -> None:
    store.add([decision(0), decision(0, bundle="b2"), decision(1), decision(2)])
    for number, item in enumerate(store.lease("ann", Query(), count=4)):
        store.give(Given(f"k{number}", item.id, "ann", accepted=True))
        if item.decision.sku == "S2":
            store.undo("ann")
    store.import_verdicts([Verdict("S1", "", ("elsewhere.jpg",), True), Verdict("S7", "", ("a.jpg",), True)])
    assert store.seen(["S0", "S1", "S2", "S3"]) == {"S0": 2, "S1": 2}
    assert store.seen([]) == {}


def while_written(database: str, write: Callable[[sa.Connection], None], call: Callable[[Store], list[int]]) -> object:
    """What `call` returns that begins while another transaction has written, and must wait for its commit."""
    with open_store(database) as store, closing(Database(database)) as other:
        written, answered = threading.Event(), threading.Event()

        def first(connection: sa.Connection) -> None:
            write(connection)
            written.set()
            assert not answered.wait(0.5)

        def second() -> list[int]:
            assert written.wait(30)
            found = call(store)
            answered.set()
            return found

        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(second)
            other.write(first)
            return waiting.result()


def test_a_lease_that_waits_sees_that_another_has_it_now(database: str) -> None:
    """Ann gives one back in another window, and Bob has it, while her page asks for more."""
    with open_store(database) as store:
        store.add(decision(number) for number in range(3))
        lost, kept = (item.id for item in store.lease("ann", Query(), count=2))
    now = datetime.now(UTC)

    def hand_over(connection: sa.Connection) -> None:
        leases.release(connection, now, "ann", lost)
        assert leases.take(connection, now, "bob", lost, 600)

    got = while_written(database, hand_over, lambda s: [item.id for item in s.lease("ann", Query(), count=3)])
    assert got == [kept, ({1, 2, 3} - {lost, kept}).pop()]


@pytest.mark.parametrize("double", [0.0, 1.0])
def test_renewing_that_waits_sees_what_it_waited_for(database: str, double: float) -> None:
    """Her own verdict is being kept while her page lengthens leases; another decision goes to Bob."""
    with open_store(database) as store:
        store.add(decision(number) for number in range(3))
        judged, lost, kept = (item.id for item in store.lease("ann", Query(), count=3, double=double))
    now = datetime.now(UTC)

    def change(connection: sa.Connection) -> None:
        giving.give(connection, now, Given("key", judged, "ann", accepted=True))
        leases.release(connection, now, "ann", lost)
        for name in ("bob", "cid")[: 1 + (double > 0)]:
            assert leases.take(connection, now, name, lost, 600)

    assert while_written(database, change, lambda s: s.renew("ann", [judged, lost, kept])) == [kept]
