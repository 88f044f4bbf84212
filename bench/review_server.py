"""`agpis review` as a process of its own, which can be killed and started again at the same port."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from types import TracebackType
from typing import Self


class ReviewServer:
    """Context manager; the server runs from the beginning, and is killed at the end.

    Args:
        store: a SQLite file or a database URL.
        options: further options of the command.
    """

    def __init__(self, store: str, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "agpis", "review", "--store", store, "--port", str(self.port), *options]
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server and wait until it listens. Raises RuntimeError where it ends instead."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if "Review pages: http://127.0.0.1" not in said:
            self.kill()
            raise RuntimeError(f"found {said!r}, wanted the address of the review pages from {self._command}")

    def kill(self) -> None:
        """kill -9; nothing where it does not run."""
        if self._process is not None and self._process.stdout is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()
            self._process = None
