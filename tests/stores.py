"""A store of each database, on real servers, a clock that stands still, and decisions to put in.

A test file that imports the fixtures `store`, `database`, `clock`, `postgres` and `empty_databases` has them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from agpis.data import Candidate, Decision, Violation
from agpis.records import Given
from agpis.schema import metadata
from agpis.store import Store, open_store
from tests.postgres import PostgresServer, start_server

RULES = ("watermark", "blur", "border")


@dataclass
class FakeClock:
    """A clock that only the test moves."""

    time: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def decision(number: int, **changes: object) -> Decision:
    """A drawn decision: sku S0, S1...; p_qualified from the number; every third with a rule."""
    uris = tuple(f"images/{number}-{view}.jpg" for view in range(4))
    rules = RULES[number % 3 :][: number % 3]
    values: dict[str, object] = {
        "sku": f"S{number}",
        "status": "generated" if number % 4 else "below_threshold",
        "title": f"Thing {number} of wool",
        "category": f"C{number % 2}",
        "sequence": uris[:3],
        "p_qualified": (number * 37 % 101) / 100,
        "violations": tuple(Violation(rule, "single", 0.9 - place / 10, uris[0]) for place, rule in enumerate(rules)),
        "candidates": tuple(
            Candidate(uri, 600, 800, 0.5, 0.1, outcome="selected" if place else "primary")
            for place, uri in enumerate(uris)
        ),
        "bundle": "b1",
        "rulebook": "default-1",
    }
    return Decision(**{**values, **changes})  # type: ignore[arg-type]


def yes(item: int, reviewer: str, key: str = "", **more: object) -> Given:
    """A verdict that accepts; its key is new unless given."""
    return Given(key=key or str(uuid4()), decision=item, reviewer=reviewer, accepted=True, **more)  # type: ignore[arg-type]


def no(item: int, reviewer: str, *rules: str, key: str = "", **more: object) -> Given:
    """A verdict that rejects."""
    values = {"key": key or str(uuid4()), "decision": item, "reviewer": reviewer, "accepted": False, "rules": rules}
    return Given(**{**values, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole run of this worker."""
    with start_server() as server:
        yield server


@pytest.fixture(scope="session")
def empty_databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of each kind, a database at the newest schema, made when it is first needed."""
    return {"folder": str(tmp_path_factory.mktemp("databases"))}


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path, empty_databases: dict[str, str]) -> str:
    """URL of an empty database at the newest schema, of each kind in turn; nobody else uses it during the test."""
    made = empty_databases.get(request.param)
    if request.param == "sqlite":
        if made is None:
            made = empty_databases["sqlite"] = str(Path(empty_databases["folder"]) / "empty.db")
            open_store(made).close()
        shutil.copy(made, tmp_path / "reviews.db")
        return f"sqlite:///{tmp_path / 'reviews.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    if made is None:
        made = empty_databases["postgres"] = server.database()
        open_store(made).close()
    server.empty(made, [table.name for table in metadata.sorted_tables])
    return made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(database: str, clock: FakeClock) -> Iterator[Store]:
    """An empty store of each database in turn, with a clock that stands still."""
    with open_store(database, now=clock) as store:
        yield store
