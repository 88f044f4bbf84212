"""Pixels of images by row, decoded in threads. A picture that cannot be read is a `BadImage`, never pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from agpis.data import Image
from agpis.errors import ImageError, MissingExtra, TrainingError
from agpis.fetch import Fetcher
from agpis.images import Limits, Size, decode, letterbox
from agpis.prepare import DECODE_TARGET

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

THREADS = min(max(4, os.cpu_count() or 1), 16)
"""Threads of one `Pixels`: at least 4, since pictures on the network are waited for; beyond 16 the interpreter lock
is the limit, and more processes (DataLoader workers) help instead."""


@dataclass(frozen=True, slots=True)
class BadImage:
    """A picture that could not be read: where it is, the code of docs/errors.md, and a text for a person."""

    uri: str
    code: str
    message: str


class Pixels:
    """Pixels of images by row, through the same decoding and THE one resize as in serving.

    Decodes in `threads` threads. Pickles as its arguments, and opens its own threads and connections in every process
    that it comes to, so that DataLoader workers may be forked or spawned.
    """

    def __init__(
        self, images: Sequence[Image], size: int, limits: Limits = Limits(), *, threads: int = THREADS
    ) -> None:
        if size < 1 or threads < 1:
            raise TrainingError("bad_config", f"found size {size}, threads {threads}; both must be 1 or more")
        self.images = tuple(images)
        self.size = size
        self.limits = limits
        self.threads = threads
        self._bad: dict[int, BadImage] = {}
        self._process = 0
        self._pool: ThreadPoolExecutor
        self._fetcher: Fetcher

    def __reduce__(self) -> tuple[Any, ...]:
        return _pixels, (self.images, self.size, self.limits, self.threads)

    def __len__(self) -> int:
        return len(self.images)

    def __enter__(self) -> Pixels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and connections of this process; they come back when it is used again."""
        if self._process == os.getpid():
            self._process = 0
            self._pool.shutdown()
            self._fetcher.close()

    def __call__(self, rows: npt.NDArray[np.integer[Any]] | Sequence[int]) -> tuple[UInt8, Bool]:
        """Rows (m,) of `images` to uint8 (m, S, S, 3) and bool (m,); where that is False the pixels mean nothing."""
        self._start()
        out = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        ok = np.zeros(len(rows), np.bool_)

        def read(task: tuple[int, int]) -> None:
            place, row = task
            ok[place] = self._read(row, out[place])

        # Several in one task would be less work for the pool, but decoding takes a thousand times what a task does.
        for _ in self._pool.map(read, enumerate(int(row) for row in rows)):
            pass
        return out, ok

    def bad(self, row: int) -> BadImage:
        """Why `row` was not ok. In another process than the one that read it, it is read once more."""
        row = int(row)
        if row not in self._bad:
            self._start()
            if self._read(row, np.empty((self.size, self.size, 3), np.uint8)):
                uri = self.images[row].uri
                return BadImage(uri, "read_failed", f"{uri}: could not be read before, and can be now; run it again.")
        return self._bad[row]

    def _read(self, row: int, out: UInt8) -> bool:
        image = self.images[row]
        try:
            data = self._fetcher(image.location) if image.data is None else image.data
            picture = decode(data, name=image.uri, target=DECODE_TARGET, limits=self.limits)
            out[:] = letterbox(picture.pixels, Size(width=self.size, height=self.size))
        except (ImageError, MissingExtra) as error:
            self._bad[row] = BadImage(image.uri, error.code, error.message)
            return False
        self._bad.pop(row, None)
        return True

    def _start(self) -> None:
        """Threads and connections of a parent do not live on in a forked child, and must not be shared with it."""
        if self._process != os.getpid():
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="pixels")
            self._fetcher = Fetcher(self.limits)
            self._process = os.getpid()


def _pixels(images: tuple[Image, ...], size: int, limits: Limits, threads: int) -> Pixels:
    return Pixels(images, size, limits, threads=threads)
