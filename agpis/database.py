"""Opening of the store's database, SQLite or PostgreSQL: connections, transactions, migrations, errors in words.

SQLite: one file in WAL mode, so that readers and the one writer do not wait for each other; a writing transaction takes
the lock at its start (BEGIN IMMEDIATE) and every commit is on the disk before it returns (synchronous=FULL).
PostgreSQL: READ COMMITTED with row locks; a transaction that the server gave up for a deadlock is run again.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from agpis.errors import MissingExtra, StoreError, output_error
from agpis.schema import VERSION, VERSION_TABLE, metadata

T = TypeVar("T")

BUSY_SECONDS = 30.0
"""How long a transaction waits for others to end theirs."""
IDLE_SECONDS = 60
"""PostgreSQL ends a transaction whose client has fallen silent, so that its locks do not stay."""
ATTEMPTS = 8
"""How often a transaction is tried that PostgreSQL gives up for the sake of another."""
MIGRATION_LOCK = 0x4147504953  # PostgreSQL's advisory lock: "AGPIS"

_SQLITE_CODES = {  # https://www.sqlite.org/rescode.html
    5: ("database_busy", "others kept it locked for too long. Try again."),
    6: ("database_busy", "others kept it locked for too long. Try again."),
    8: ("not_writable", "it, or its folder, is read-only, or the right to write is missing."),
    10: ("database_failed", "the disk failed while reading or writing."),
    11: ("database_foreign", "the file is damaged. Put a copy in its place."),
    13: ("disk_full", "the disk is full. Free some space and do the same again."),
    14: ("not_writable", "the file cannot be opened; may its folder be written to?"),
    26: ("database_foreign", "the file is no SQLite database. Choose another path."),
}
_SQLSTATES = {  # https://www.postgresql.org/docs/current/errcodes-appendix.html
    "53100": ("disk_full", "the server's disk is full. Free some space and do the same again."),
    "25006": ("not_writable", "the server allows reading only."),
    "42501": ("not_writable", "the user has not the rights for it."),
    "55P03": ("database_busy", "others kept it locked for too long. Try again."),
    "40001": ("database_busy", "others kept changing the same rows. Try again."),
    "40P01": ("database_busy", "others kept changing the same rows. Try again."),
}
_AGAIN = ("40001", "40P01")


class Database:
    """An open database at the newest schema; see `agpis.store.open_store` for the arguments and errors."""

    def __init__(self, where: str | Path, *, make: bool = True) -> None:
        url = _url(where)
        self.sqlite = url.get_backend_name() == "sqlite"
        if self.sqlite and not make and not Path(str(url.database)).is_file():
            raise StoreError("database_missing", f"found no store at {url.database}; give the file of one")
        self.name = url.render_as_string(hide_password=True)
        self._writing = threading.Lock()
        """Threads of one process wait here in turn; SQLite's own waiting is sleep and luck."""
        self._engine = self._sqlite(url) if self.sqlite else self._postgres(url)
        self._reading = self._engine
        if not self.sqlite:  # saves the server BEGIN and ROLLBACK around every question
            self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """`work`, which only reads. Each statement of it sees what is committed by then."""
        with self._words(), self._reading.connect() as connection:
            return work(connection)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """`work` in a transaction that is committed before this returns; it can be run more than once."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._words(), self._alone(), self._engine.connect() as connection:
                    connection = connection.execution_options(agpis_write=True)
                    with connection.begin():
                        return work(connection)
            except StoreError as error:
                given_up = getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) in _AGAIN
                if not given_up or attempt == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0.0, 0.01 * 2**attempt))
        raise AssertionError("unreachable")

    def analyze(self) -> None:
        """Let the database count what its tables hold, so that it chooses the right index after a large change."""
        if self.sqlite:
            self.write(lambda connection: connection.exec_driver_sql("PRAGMA analysis_limit = 1000"))
        self.write(lambda connection: connection.exec_driver_sql("ANALYZE"))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.sqlite:
            yield
            return
        if not self._writing.acquire(timeout=BUSY_SECONDS):
            raise StoreError("database_busy", f"{self.name}: {_SQLITE_CODES[5][1]}")
        try:
            yield
        finally:
            self._writing.release()

    @contextlib.contextmanager
    def _words(self) -> Iterator[None]:
        """The database's errors as StoreError."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise self._error(error) from error
        except sa.exc.TimeoutError as error:  # no connection of the pool became free
            raise StoreError("database_busy", f"{self.name}: too many at once ({error}). Try again.") from error

    def _error(self, error: sa.exc.DBAPIError) -> StoreError:
        original: Any = error.orig
        said = str(original).strip().replace("\n", " ")
        if self.sqlite:
            code = getattr(original, "sqlite_errorcode", 0) & 0xFF
            known = _SQLITE_CODES.get(code)
        else:
            known = _SQLSTATES.get(getattr(original, "sqlstate", None) or "")
            if known is None and error.connection_invalidated:
                known = ("database_lost", "the connection broke. Do the same again: what was done is not done twice.")
        if known is None:
            return StoreError("database_failed", f"{self.name}: {said}")
        return StoreError(known[0], f"{self.name}: {known[1]} ({said})")

    # Opening --------------------------------------------------------------------------------------------------------

    def _sqlite(self, url: sa.URL) -> sa.Engine:
        if url.database and not url.query.get("uri"):
            _make_file(Path(url.database))
        wait = {} if "timeout" in url.query else {"timeout": BUSY_SECONDS}
        engine = sa.create_engine(url, connect_args=wait, pool_size=10, max_overflow=40)

        @sa.event.listens_for(engine, "connect")
        def connected(connection: Any, record: object) -> None:
            connection.isolation_level = None  # transactions are begun below, not by the driver
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")

        @sa.event.listens_for(engine, "begin")
        def begun(connection: sa.Connection) -> None:
            write = connection.get_execution_options().get("agpis_write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

        return engine

    def _postgres(self, url: sa.URL) -> sa.Engine:
        options = f"-c lock_timeout={BUSY_SECONDS:.0f}s -c idle_in_transaction_session_timeout={IDLE_SECONDS}s"
        own = {} if "options" in url.query else {"options": options}
        try:
            return sa.create_engine(
                url,
                connect_args={"connect_timeout": 10, **own},
                isolation_level="READ COMMITTED",
                pool_pre_ping=True,
                pool_size=10,
                max_overflow=40,
            )
        except ModuleNotFoundError as error:
            raise MissingExtra("psycopg", "postgres", "A PostgreSQL database") from error

    def _migrate(self) -> None:
        try:
            if self.sqlite:
                self._use_wal()
            if self.read(self._version) == VERSION:
                return
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, sa.exc.OperationalError) and not self.sqlite:  # psycopg could not connect
                raise StoreError("database_unreachable", f"{self.name}: {str(cause.orig).strip()}") from cause
            raise
        self.write(self._upgrade)

    def _use_wal(self) -> None:
        """SQLite does not wait by itself where two processes make the file at the same time."""
        end = time.monotonic() + BUSY_SECONDS
        while True:
            raw = None
            try:
                with self._words():
                    raw = self._engine.raw_connection()
                    cursor = raw.cursor()
                    cursor.execute("PRAGMA journal_mode = WAL")
                    return
            except Exception as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code == 5 and time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                if code:  # a raw connection's errors do not pass through SQLAlchemy
                    known = _SQLITE_CODES.get(code, ("database_failed", "it cannot be opened."))
                    raise StoreError(known[0], f"{self.name}: {known[1]} ({error})") from error
                raise
            finally:
                if raw is not None:
                    raw.close()

    def _version(self, connection: sa.Connection) -> str | None:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return None
        found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        version = None if found is None else str(found)
        if version is not None and version > VERSION:
            raise StoreError(
                "database_newer",
                f"{self.name} has the schema {version} of a later AGPIS; this one knows up to {VERSION}. "
                "Install the newest: pip install --upgrade agpis",
            )
        return version

    def _upgrade(self, connection: sa.Connection) -> None:
        """Run what migrations are missing; of several processes one does it and the others wait."""
        from alembic import command
        from alembic.config import Config

        if not self.sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        version = self._version(connection)
        if version == VERSION:
            return
        if version is None:
            there = set(sa.inspect(connection).get_table_names())
            strange = there if self.sqlite else there & set(metadata.tables)
            if strange:
                raise StoreError(
                    "database_foreign",
                    f"{self.name} holds tables that are not of AGPIS ({', '.join(sorted(strange)[:5])}). "
                    "Choose an empty database.",
                )
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "head")


def _url(where: str | Path) -> sa.URL:
    if isinstance(where, Path) or "://" not in where:
        return sa.URL.create("sqlite", database=str(where))
    try:
        url = sa.make_url(where)
    except (sa.exc.ArgumentError, ValueError):
        raise StoreError(
            "database_url", f"found {_hidden(where)!r}, which cannot be read as a URL. {_WANTED}"
        ) from None
    kind = url.drivername
    if kind in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if kind not in ("sqlite", "sqlite+pysqlite"):
        raise StoreError("database_url", f"found a URL for {kind!r}. {_WANTED}")
    if url.database in (None, "", ":memory:"):
        raise StoreError("database_url", f"found {where!r}: a database in memory cannot be shared. {_WANTED}")
    return url


_WANTED = "Wanted the path of a file, sqlite:///path, or postgresql://user:password@host/database."


def _hidden(where: str) -> str:
    """The URL without what may be a password."""
    scheme, _, rest = where.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else where


def _make_file(path: Path) -> None:
    """An empty file that only its owner may read: there will be password hashes in it."""
    if path.is_file():
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        refused = output_error(error, path)
        raise StoreError(refused.code, refused.message) from error
