"""Where the time goes: seconds and items per named stage, summed over threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Thread-safe sums of wall seconds. Stages that run in several threads can add up to more than the run took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = {}
        self.items: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str, items: int = 1) -> Iterator[None]:
        """Add the time of the body to stage `name`, counted as `items` items."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + spent
                self.items[name] = self.items.get(name, 0) + items
