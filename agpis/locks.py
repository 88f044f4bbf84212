"""One process at a time in a folder; the lock dies with the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agpis.errors import OutputError, output_error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder`/.lock. Raises OutputError: `locked` where another process has it, and those of writing."""
    path = folder / ".lock"
    try:
        file = path.open("w")
    except OSError as error:
        raise output_error(error, path) from error
    with file:
        try:
            _lock(file)
            held = os.path.samestat(os.fstat(file.fileno()), path.stat())  # not one that was just removed
        except OSError:
            held = False
        if not held:
            raise OutputError("locked", f"Another run is writing to {folder}. Wait for it, or choose another.")
        yield
        if sys.platform != "win32":
            path.unlink(missing_ok=True)  # while it is held: the next one cannot take a file that goes away
    if sys.platform == "win32":
        path.unlink(missing_ok=True)


def _lock(file: IO[str]) -> None:
    """Take the system's lock on an open file, or raise OSError at once."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
