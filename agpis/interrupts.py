"""Ctrl-C that lets the work in hand be finished and saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(deaf: float = 0.0) -> Iterator[threading.Event]:
    """The first Ctrl-C (or SIGTERM) sets the event: stop after what is in hand. A later one raises KeyboardInterrupt.

    Outside the main thread, which alone is told of signals, the event is never set.

    Args:
        deaf: seconds after the first in which others are ignored: launchers pass on what the terminal has sent already.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    first = 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if stopped.is_set() and time.monotonic() - first >= deaf:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        stopped.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
