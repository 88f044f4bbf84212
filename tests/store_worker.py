"""A process that works on a store, to be killed: `python -m tests.store_worker review|add URL ...`; see `main`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from agpis.errors import LeaseLost, StoreError
from agpis.records import Given, Query
from agpis.store import Store, open_store
from tests.stores import decision

T = TypeVar("T")
DOUBLE = 0.3
LEASE_SECONDS = 2.0


def patient(work: Callable[[], T]) -> T:
    """Again and again while the server is away, as a client does."""
    end = time.monotonic() + 60
    while True:
        try:
            return work()
        except StoreError as error:
            if not error.code.startswith("database_") or time.monotonic() > end:
                raise
            time.sleep(0.05)


class Journal:
    """What the reviewer's browser knows: a line each, kept when the process is killed."""

    def __init__(self, path: Path) -> None:
        self.lines = read_journal(path)
        self._file = path.open("a")

    def write(self, **line: Any) -> None:
        self._file.write(json.dumps({**line, "time": time.time()}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Whole lines; one that a kill has torn is none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1] if line.endswith("}")]


def review(url: str, reviewer: str, path: Path, count: int) -> None:
    """Add the decisions (all workers do) and judge until nothing is open. A pending verdict is sent again at first."""
    journal = Journal(path)
    store = patient(lambda: open_store(url))
    patient(lambda: store.add(decision(number) for number in range(count)))
    settled = {line["key"] for line in journal.lines if line["event"] in ("kept", "lost")}
    for line in journal.lines:
        if line["event"] == "send" and line["key"] not in settled:
            send(store, journal, Given(line["key"], line["decision"], reviewer, accepted=True))
    while patient(lambda: store.count(Query())):
        items = patient(lambda: store.lease(reviewer, Query(), double=DOUBLE, seconds=LEASE_SECONDS))
        if not items:
            time.sleep(0.05)
        for item in items:
            key = str(uuid4())
            journal.write(event="have", key=key, decision=item.id, until=item.until.timestamp() if item.until else 0)
            time.sleep(0.01)  # he looks
            journal.write(event="send", key=key, decision=item.id)
            send(store, journal, Given(key, item.id, reviewer, accepted=True))
    store.close()
    journal.close()


def send(store: Store, journal: Journal, given: Given) -> None:
    try:
        patient(lambda: store.give(given))
        patient(lambda: store.give(given))  # the first answer never arrived, say
        journal.write(event="kept", key=given.key, decision=given.decision)
    except LeaseLost:
        journal.write(event="lost", key=given.key, decision=given.decision)


def main(kind: str, url: str, *rest: str) -> None:
    """`review URL REVIEWER JOURNAL COUNT`, or `add URL COUNT`."""
    if kind == "review":
        review(url, rest[0], Path(rest[1]), int(rest[2]))
    else:
        with open_store(url) as store:
            store.add(decision(number) for number in range(int(rest[0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
