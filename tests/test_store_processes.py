"""Several processes on one store: nothing lost, nothing twice, whoever is killed. On both databases."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from agpis import giving
from agpis.database import Database
from agpis.records import Given, Query
from agpis.store import open_store
from tests.conftest import ROOT
from tests.postgres import PostgresServer, start_server
from tests.store_worker import DOUBLE, read_journal
from tests.stores import database, decision, empty_databases, postgres

__all__ = ["database", "empty_databases", "postgres"]  # fixtures

COUNT = 60
REVIEWERS = ("ann", "bob", "cid")


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "error", "-m", "tests.store_worker", *arguments], cwd=ROOT)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_reviewers_are_killed_while_they_write(kind: str, tmp_path: Path) -> None:
    """Three reviewers open a database that is not there yet, all at once; two are killed with -9 in the middle of
    writing and come back; PostgreSQL itself is killed and restarted once."""
    if kind == "sqlite":
        review_with_kills(f"sqlite:///{tmp_path / 'reviews.db'}", tmp_path, None)
        return
    with start_server() as server:
        review_with_kills(server.database(), tmp_path, server)


def review_with_kills(url: str, folder: Path, server: PostgresServer | None) -> None:
    chance = random.Random(5)
    journals = {name: folder / f"{name}.jsonl" for name in REVIEWERS}
    workers = {name: start("review", url, name, str(path), str(COUNT)) for name, path in journals.items()}
    killed = 0
    try:
        for victim, done in ((REVIEWERS[0], 15), (REVIEWERS[1], 35)):
            wait_for(lambda done=done: kept(journals) >= done, workers)  # type: ignore[misc]
            time.sleep(chance.random() * 0.05)
            workers[victim].kill()
            killed += workers[victim].wait() == -9
            if server is not None and victim == REVIEWERS[1]:
                server.kill()
                server.start()
            workers[victim] = start("review", url, victim, str(journals[victim]), str(COUNT))
        assert [worker.wait(120) for worker in workers.values()] == [0, 0, 0]
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    assert killed == 2
    check(url, {name: read_journal(path) for name, path in journals.items()})


def kept(journals: dict[str, Path]) -> int:
    return sum(line["event"] == "kept" for path in journals.values() for line in read_journal(path))


def wait_for(condition: object, workers: dict[str, subprocess.Popen[bytes]]) -> None:
    end = time.monotonic() + 120
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        assert all(worker.poll() is None for worker in workers.values())
        time.sleep(0.01)


def check(url: str, journals: dict[str, list[dict[str, object]]]) -> None:
    with open_store(url) as store:
        pasts = [past for number in range(COUNT) for past in store.history(f"S{number}")]
        assert store.count(Query(reviewed="any")) == store.count(Query(reviewed="done")) == COUNT == len(pasts)
        stored = {one.key: one for past in pasts for one in past.verdicts}
        # Every decision has the verdicts it needs, by different reviewers, and no more.
        twice = 0
        for past in pasts:
            names = [one.verdict.reviewer for one in past.verdicts]
            assert len(names) in (1, 2)
            assert len(set(names)) == len(names)
            twice += len(names) == 2
        assert COUNT * DOUBLE / 3 < twice < COUNT * DOUBLE * 2
        assert len(store.pairs()) == twice
        assert store.facets().rules == {}
    # A verdict that was acknowledged is there; one that was refused is not.
    lines = [(name, line) for name, journal in journals.items() for line in journal]
    acknowledged = {line["key"] for _, line in lines if line["event"] == "kept"}
    assert acknowledged <= set(stored)
    assert acknowledged | {line["key"] for _, line in lines if line["event"] == "send"} >= set(stored)
    assert not {line["key"] for _, line in lines if line["event"] == "lost"} & set(stored)
    # While a lease ran, no more had a decision before them than verdicts were wanted.
    spans: dict[object, list[tuple[float, float]]] = {}
    for _, line in lines:
        if line["event"] == "have":
            begin = float(line["time"])  # type: ignore[arg-type]
            answers = [float(other["time"]) for _, other in lines  # type: ignore[arg-type]
                       if other["key"] == line["key"] and other["event"] != "have"]  # fmt: skip
            end = min(max(answers, default=begin), float(line["until"]))  # type: ignore[arg-type]
            if end > begin:
                spans.setdefault(line["decision"], []).append((begin, end))
    places = {past.item.id: len(past.verdicts) for past in pasts if past.item}
    for id, them in spans.items():
        edges = Counter({time: 0 for span in them for time in span})
        for begin, end in them:
            edges[begin] += 1
            edges[end] -= 1
        now = 0
        for moment in sorted(edges):
            now += edges[moment]
            assert now <= places[id], (id, json.dumps(them))  # type: ignore[index]


def test_a_lease_that_waits_sees_what_it_waited_for(database: str) -> None:
    """Ann's verdict is being kept while her page asks for more: under double review the decision stays open, for
    others."""
    with open_store(database) as store, closing(Database(database)) as other:
        store.add(decision(number) for number in range(3))
        first, second = (item.id for item in store.lease("ann", Query(), count=2, double=1.0))
        written, answered = threading.Event(), threading.Event()

        def give(connection: sa.Connection) -> None:
            giving.give(connection, datetime.now(UTC), Given("key", first, "ann", accepted=True))
            written.set()
            assert not answered.wait(0.5)  # the lease waits for this commit

        def lease() -> list[int]:
            assert written.wait(30)
            found = [item.id for item in store.lease("ann", Query(), count=2, double=1.0)]
            answered.set()
            return found

        with ThreadPoolExecutor() as threads:
            leased = threads.submit(lease)
            other.write(give)
            assert leased.result() == [second, ({1, 2, 3} - {first, second}).pop()]
        assert first in [item.id for item in store.lease("bob", Query(), count=3, double=1.0)]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_adding_is_killed_and_run_again(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'reviews.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.database()
    count = 2000
    with open_store(url) as store:
        worker = start("add", url, str(count))
        end = time.monotonic() + 60
        while store.count(Query()) == 0:
            assert time.monotonic() < end
            assert worker.poll() is None
        worker.kill()
        assert worker.wait() == -9
        there = store.count(Query())
        assert 0 < there < count
        assert there % 500 == 0
        assert list(store.decisions()) == [decision(number) for number in range(there)]  # none without its body
        again = store.add(decision(number) for number in range(count))
        assert (again.new, again.known, again.changed) == (count - there, there, 0)
        assert store.count(Query()) == count
