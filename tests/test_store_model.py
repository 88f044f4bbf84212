"""The store against a model of it in a page of Python: any order of leases, verdicts, undoings and waiting."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from agpis.errors import LeaseLost
from agpis.records import Given, Query
from agpis.schema import metadata
from agpis.store import open_store
from tests.postgres import PostgresServer
from tests.stores import FakeClock, decision, postgres

__all__ = ["postgres"]  # a fixture

PEOPLE = ("ann", "bob", "cid")
COUNT = 3
people, places = st.sampled_from(PEOPLE), st.integers(0, COUNT - 1)


@dataclass
class Lease:
    who: str
    taken: tuple[float, int]
    until: float


@dataclass
class Known:
    """What the model knows of a decision."""

    doubt: float
    lot: float
    wanted: int = 1
    leases: list[Lease] = field(default_factory=list)
    given: list[list[Any]] = field(default_factory=list)
    """Who, key, stands."""

    def stands(self) -> list[str]:
        return [who for who, _, stands in self.given if stands]

    def live(self, now: float) -> list[str]:
        return [lease.who for lease in self.leases if lease.until > now]

    def open(self) -> bool:
        return len(self.stands()) < self.wanted

    def free(self, now: float) -> bool:
        return self.open() and len(self.live(now)) + len(self.stands()) < self.wanted

    def of(self, who: str) -> Lease | None:
        return next((lease for lease in self.leases if lease.who == who), None)

    def grant(self, who: str, now: float, until: float, place: int, double: float) -> None:
        self.leases = [lease for lease in self.leases if lease.until > now or lease.who == who]
        mine = self.of(who)
        if mine:
            mine.until = until
        else:
            self.leases.append(Lease(who, (now, place), until))
        if not self.stands() and self.lot < double:
            self.wanted = 2


class Reviewing(RuleBasedStateMachine):
    """Ids are 1 to COUNT, in the order in which decisions were added."""

    url: ClassVar[str]
    keys: ClassVar[Any] = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.reset()
        self.clock = FakeClock()
        self.store = open_store(self.url, now=self.clock)
        them = [decision(number) for number in range(COUNT)]
        self.store.add(them)
        self.now = 0.0
        self.last: list[tuple[str, int, str]] = []
        self.model = {
            id: Known(
                abs((d.p_qualified or 0.0) - 0.5),
                int.from_bytes(hashlib.sha256(f"{d.sku}\0{d.bundle}".encode()).digest()[:6], "big") / 2**48,
            )
            for id, d in enumerate(them, 1)
        }

    def reset(self) -> None:
        raise NotImplementedError

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.pass_by(seconds)
        self.now += seconds

    @rule(
        who=people,
        count=st.integers(1, 3),
        double=st.sampled_from([0.0, 0.5, 1.0]),
        passing=st.just(set()) | st.sets(places, max_size=1),
    )
    def lease(self, who: str, count: int, double: float, passing: set[int]) -> None:
        passing = {place + 1 for place in passing}
        ours = {id: known for id, known in self.model.items() if known.open() and who not in known.stands()}
        ours = {id: known for id, known in ours.items() if id not in passing}
        held = [
            id
            for id, known in ours.items()
            if (lease := known.of(who)) and (lease.until > self.now or known.free(self.now))
        ]
        held.sort(key=lambda id: (self.model[id].of(who).taken, id))  # type: ignore[union-attr]
        fresh = [id for id, known in ours.items() if id not in held and known.free(self.now)]
        fresh.sort(key=lambda id: (self.model[id].doubt, id))
        expected = [*held, *fresh][:count]
        got = self.store.lease(who, Query(), count=count, seconds=60, double=double, passing=sorted(passing))
        assert [item.id for item in got] == expected
        for place, id in enumerate(expected):
            self.model[id].grant(who, self.now, self.now + 60, place, double)

    @rule(who=people, place=places)
    def take(self, who: str, place: int) -> None:
        known = self.model[place + 1]
        mine = known.of(who)
        can = known.open() and who not in known.stands()
        can = can and ((mine is not None and mine.until > self.now) or known.free(self.now))
        assert (self.store.take(who, place + 1, 60) is not None) == can
        if can:
            known.grant(who, self.now, self.now + 60, 0, 0.0)

    @rule(who=people, place=places)
    def release(self, who: str, place: int) -> None:
        known = self.model[place + 1]
        assert self.store.release(who, place + 1) == (known.of(who) is not None)
        known.leases = [lease for lease in known.leases if lease.who != who]

    @rule(who=people, place=places, held=st.sampled_from([True, True, False]))
    def give(self, who: str, place: int, held: bool) -> None:
        mine = [id for id, known in self.model.items() if known.of(who)]
        if held and mine:
            place = mine[place % len(mine)] - 1
        known, key = self.model[place + 1], f"k{next(self.keys)}"
        others = [other for other in known.live(self.now) if other != who]
        can = who not in known.stands() and len(known.stands()) + len(others) < known.wanted
        given = Given(key, place + 1, who, accepted=True)
        if not can:
            with pytest.raises(LeaseLost):
                self.store.give(given)
            return
        assert not self.store.give(given).again
        known.given.append([who, key, True])
        known.leases = [lease for lease in known.leases if lease.who != who] if known.open() else []
        self.last.append((who, place + 1, key))

    @rule(index=st.integers(0, 20))
    def send_again(self, index: int) -> None:
        if self.last:
            who, id, key = self.last[index % len(self.last)]
            assert self.store.give(Given(key, id, who, accepted=True)).again

    @rule(who=people, index=st.integers(0, 20), by_key=st.booleans())
    def undo(self, who: str, index: int, by_key: bool) -> None:
        mine = [(id, key) for name, id, key in self.last if name == who]
        if not by_key:
            mine = [(id, key) for id, key in mine if [who, key, True] in self.model[id].given]
        if not mine:
            assert self.store.undo(who, key="none" if by_key else "") is None
            return
        id, key = mine[index % len(mine)] if by_key else mine[-1]
        known = self.model[id]
        for one in known.given:
            if one[1] == key:
                one[2] = False
        lease = known.of(who)
        can = who not in known.stands() and known.open()
        can = can and ((lease is not None and lease.until > self.now) or known.free(self.now))
        item = self.store.undo(who, key=key if by_key else "", seconds=60)
        assert item
        assert item.id == id
        assert (item.until is not None) == can
        if can:
            known.grant(who, self.now, self.now + 60, 0, 0.0)

    @rule()
    def compare(self) -> None:
        """What the pages would show is what the model knows."""
        lines = {line.id: line for line in self.store.find(Query(reviewed="any"))}
        for id, known in self.model.items():
            assert (lines[id].open, lines[id].verdicts) == (known.open(), len(known.stands()))
            assert (lines[id].holder in known.live(self.now)) if known.live(self.now) else not lines[id].holder
            past = self.store.history(f"S{id - 1}")[0]
            found = [[one.verdict.reviewer, one.key, one.undone is None] for one in past.verdicts]
            assert found == known.given
        assert self.store.facets().open == sum(known.open() for known in self.model.values())


@pytest.mark.parametrize(("kind", "examples"), [("sqlite", 20), ("postgres", 6)])
def test_the_store_does_as_the_model(kind: str, examples: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made = tmp_path / "empty.db"
    server: PostgresServer | None = None
    if kind == "sqlite":
        open_store(made).close()
    else:
        server = request.getfixturevalue("postgres")
        url = server.database()
        open_store(url).close()

    class Machine(Reviewing):
        def reset(self) -> None:
            if server is None:
                for left in tmp_path.glob("reviews.db*"):
                    left.unlink()
                shutil.copy(made, tmp_path / "reviews.db")
            else:
                server.empty(self.url, [table.name for table in metadata.sorted_tables])

    Machine.url = f"sqlite:///{tmp_path / 'reviews.db'}" if server is None else url
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=50, deadline=None, derandomize=True, database=None,
            suppress_health_check=checks,
        ),
    )  # fmt: skip
