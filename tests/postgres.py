"""A real PostgreSQL server in a temporary folder, on a free port. Debian: apt-get install postgresql."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import TracebackType

import pytest


def server_programs() -> Path | None:
    """The folder of initdb and postgres, of the newest version that is installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return folders[-1].parent if folders else None


class PostgresServer:
    """Context manager. The server refuses to run as root; then it runs as `postgres`, or as `nobody`.

    Args:
        durable: every commit waits for the disk, as in production. Off, a kill of the server still loses nothing.
    """

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._programs = programs
        self._durable = durable
        self._numbers = count()
        self._server: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def __enter__(self) -> PostgresServer:
        self._folder = Path(tempfile.mkdtemp(prefix="agpis-postgres-"))
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            owner = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        else:
            self._user = {}
        self._call("initdb", "-D", str(self._data), "-U", "agpis", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments], capture_output=True, cwd="/", text=True, **self._user
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start the server on its port and wait until it answers."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self._durable else "off",
            "max_connections": "200",
            "logging_collector": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        log, end = self._folder / "log", time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < end, log.read_text()
            if self._server is None or self._server.poll() is not None:  # after a kill its processes take a moment
                with log.open("ab") as file:
                    self._server = subprocess.Popen(command, stdout=file, stderr=file, cwd="/", **self._user)  # type: ignore[call-overload]
            time.sleep(0.02)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(f"host=127.0.0.1 port={self.port} user=agpis dbname=postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop the server at once, ending its clients' connections; what was committed is there after `start`."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """kill -9 of the server's first process; its others end themselves when they notice."""
        self._end(signal.SIGKILL)
        end = time.monotonic() + 30
        while self._answers() and time.monotonic() < end:
            time.sleep(0.02)

    def _end(self, how: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(60)
            self._server = None

    def _run(self, statement: str, database: str = "postgres") -> None:
        import psycopg

        where = f"host=127.0.0.1 port={self.port} user=agpis dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(statement.encode())

    def database(self) -> str:
        """URL of a new empty database."""
        name = f"t{os.getpid()}_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name}")
        return f"postgresql://agpis@127.0.0.1:{self.port}/{name}"

    def empty(self, url: str, tables: Sequence[str]) -> None:
        """Drop all rows of these tables."""
        self._run(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE", url.rpartition("/")[2])


def start_server(*, durable: bool = False) -> PostgresServer:
    """A server to be entered; skips where none is installed, never in CI."""
    programs = server_programs()
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have PostgreSQL: apt-get install postgresql")
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    return PostgresServer(programs, durable=durable)
