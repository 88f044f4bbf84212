"""Opening a store: databases of every age, foreign ones, wrong addresses, disks that are full or read-only."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import agpis.database
from agpis.database import Database
from agpis.errors import MissingExtra, StoreError
from agpis.records import Given, Query
from agpis.schema import VERSION, VERSION_TABLE, metadata, reviewers
from agpis.store import open_store
from tests.conftest import ROOT
from tests.postgres import PostgresServer
from tests.stores import decision, postgres

__all__ = ["postgres"]  # a fixture
MIGRATIONS = Path(agpis.database.__file__).with_name("migrations")


@pytest.fixture(params=["sqlite", "postgres"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'reviews.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()


@contextmanager
def code(expected: str, words: str | None = None) -> Iterator[None]:
    with pytest.raises(StoreError, match=words) as caught:
        yield
    assert caught.value.code == expected, caught.value


def engine(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def test_a_new_database_has_the_tables_of_the_schema(fresh: str) -> None:
    open_store(fresh).close()
    there = engine(fresh)
    with there.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    there.dispose()
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert [script.revision for script in scripts.walk_revisions()] == [VERSION, *OLDER]
    assert scripts.get_current_head() == VERSION


OLDER = ["0001"]


@pytest.mark.parametrize("version", OLDER)
def test_an_older_database_is_brought_up_with_all_that_is_in_it(
    fresh: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        then.setattr(agpis.database, "VERSION", version)
        then.setattr(command, "upgrade", lambda config, _, upgrade=command.upgrade: upgrade(config, version))
        with open_store(fresh) as store:
            store.add([decision(0), decision(1)])
            (item,) = store.lease("ann", Query())
            store.give(Given("key", item.id, "ann", accepted=True))
    there = engine(fresh)
    assert not sa.inspect(there).has_table(reviewers.name)
    there.dispose()
    with open_store(fresh) as store:
        assert [verdict.sku for verdict in store.verdicts()] == [item.decision.sku]
        assert store.count(Query()) == 1
        assert store.add_reviewer("ann", "hash").name == "ann"


def test_a_newer_database_is_refused_and_left_alone(fresh: str) -> None:
    open_store(fresh).close()
    there = engine(fresh)
    with there.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9001'"))
    there.dispose()
    with code("database_newer", "9001 of a later AGPIS.*pip install --upgrade agpis"):
        open_store(fresh)


def test_another_programs_database_is_refused_and_left_alone(fresh: str) -> None:
    there = engine(fresh)
    with there.begin() as connection:
        connection.execute(sa.text("CREATE TABLE decisions (x INTEGER)"))
    with code("database_foreign", r"not of AGPIS \(decisions\)"):
        open_store(fresh)
    assert sa.inspect(there).get_table_names() == ["decisions"]
    there.dispose()


def test_opening_is_a_question_only_when_nothing_is_to_be_done(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(fresh).close()
    monkeypatch.setattr(Database, "_upgrade", None)
    open_store(fresh).close()


# Addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://user:secret@host/x", "URL for 'mysql'"),
        ("postgresql://user:secret@host:port/x", "cannot be read as a URL"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_addresses_that_are_none_are_refused_without_showing_a_password(url: str, words: str) -> None:
    with code("database_url", words + ".*postgresql://user:password@host/database"):
        open_store(url)
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_or_has_no_such_database(postgres: PostgresServer) -> None:
    with code("database_unreachable", r"\*\*\*@127.0.0.1:1/x.*refused"):
        open_store("postgresql://user:secret@127.0.0.1:1/x")
    with code("database_unreachable", '"nothing" does not exist'):
        open_store(f"postgres://agpis@127.0.0.1:{postgres.port}/nothing")


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'agpis[postgres]'")):
        open_store("postgresql://127.0.0.1/x")
    program = "import sys; sys.modules['sqlalchemy'] = None; import agpis.store"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert "pip install 'agpis[web]'" in done.stderr


# Files ------------------------------------------------------------------------------------------------------------


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    open_store(tmp_path / "reviews.db").close()
    assert (tmp_path / "reviews.db").stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(tmp_path / "reviews.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    with code("no_folder", "Make its folder"):
        open_store(tmp_path / "missing" / "reviews.db")
    with code("not_a_folder"):
        open_store(str(tmp_path))
    (tmp_path / "text").write_text("no database " * 200)
    with code("database_foreign", "no SQLite database"):
        open_store(tmp_path / "text")
    assert (tmp_path / "text").read_text().startswith("no database")


def test_a_read_only_file_is_refused() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        with open_store(folder / "reviews.db") as store:
            store.add([decision(0)])
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        with as_nobody(), code("not_writable"):
            open_store(folder / "reviews.db").add([decision(1)])
        with as_nobody(), code("not_writable"):
            open_store(folder / "new.db")
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path / "reviews.db") as store:
        store.add(decision(number) for number in range(20))
        engine = store._database._engine
        engine.dispose()

        @sa.event.listens_for(engine, "connect")
        def connected(connection: sqlite3.Connection, record: object) -> None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 3}")

        with code("disk_full", "Free some space"):
            store.add(decision(number) for number in range(20, 400))
        assert store.count(Query()) == 20
    with open_store(tmp_path / "reviews.db") as store:
        assert store.add(decision(number) for number in range(400)).new == 380


def test_a_server_that_may_only_be_read(postgres: PostgresServer) -> None:
    url = postgres.database()
    open_store(url).close()
    there = engine(url)
    with there.begin() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = on"))
    there.dispose()
    with open_store(url) as store:
        assert store.count(Query()) == 0
        with code("not_writable", "reading only"):
            store.add([decision(0)])


def test_a_database_that_stays_locked(tmp_path: Path) -> None:
    open_store(tmp_path / "reviews.db").close()
    other = sqlite3.connect(tmp_path / "reviews.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with open_store(f"sqlite:///{tmp_path / 'reviews.db'}?timeout=0.1") as store:
        assert store.count(Query()) == 0  # readers do not wait
        with code("database_busy", "Try again"):
            store.add([decision(0)])
        other.execute("ROLLBACK")
        store.add([decision(0)])
    other.close()


def test_a_server_that_went_away_and_came_back(postgres: PostgresServer) -> None:
    with open_store(postgres.database()) as store:
        store.add([decision(0), decision(1)])
        ended = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'agpis'"
        )
        with pytest.raises(StoreError) as caught:
            store._database.write(lambda c: (postgres._run(ended), c.execute(sa.text("SELECT 1"))))
        assert caught.value.code == "database_lost"
        assert store.count(Query()) == 2


def test_a_store_that_is_only_read_is_not_made(tmp_path: Path) -> None:
    for where in (tmp_path / "misspelt.db", f"sqlite:///{tmp_path}/misspelt.db"):
        with pytest.raises(StoreError, match="found no store") as refused:
            open_store(where, make=False)
        assert refused.value.code == "database_missing"
    assert not list(tmp_path.iterdir())
    open_store(tmp_path / "misspelt.db").close()
    open_store(tmp_path / "misspelt.db", make=False).close()
