"""Image tokens of a frozen model, made once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from agpis.data import Image
from agpis.errors import TrainingError, output_error
from agpis.images import Limits
from agpis.pixels import BadImage, Pixels
from agpis.prepare import DECODE_TARGET
from agpis.shards import replace_file

UInt8 = npt.NDArray[np.uint8]
Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

COMMIT = 5.0
"""Seconds of work that a kill may cost: finished chunks are written down that often."""
SAY = 10.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True, slots=True, eq=False)
class Cached:
    """Tokens of M images, on disk. Pickles as its path."""

    tokens: Float16
    """(M, P, D), a read-only memmap; zeros where not ok."""
    ok: Bool
    """(M,)."""
    bad: tuple[BadImage, ...]
    path: Path
    """The JSON file; its .npy lies beside it. Remove both to have the pictures read again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_cached, (self.path,)


def cached_tokens(
    images: Sequence[Image],
    tokens_of: Callable[[UInt8], Float32],
    size: int,
    folder: str | Path,
    key: str,
    *,
    batch: int = 32,
    limits: Limits = Limits(),
    progress: bool = True,
) -> Cached:
    """Tokens of all images, made once and read from the file afterwards.

    Pictures are decoded in threads while the graph runs; memory holds three batches, whatever M is. The file is named
    by a hash of `key`, size, and the images' locations (and bytes and time of change, where they are files). After a
    kill the next call goes on where this one stopped; a second process waits for the first and reads its file.

    Args:
        tokens_of: uint8 (N, S, S, 3) to float32 (N, P, D), N at most `batch`.
        key: identity of the model: other weights must give another key.

    Raises:
        TrainingError: `no_readable_image`; `bad_checkpoint` when tokens have another shape than (N, P, D) or do not
            fit half precision.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    name = _cache_name(images, size, key)
    path = folder / f"{name}.json"
    found = _finished(path)
    if found is not None:  # also where nothing may be written
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    with _waiting_lock(folder / f"{name}.lock"):
        found = _finished(path)
        if found is None:
            with Pixels(images, size, limits) as pixels:
                _Writer(folder, name, images).fill(tokens_of, pixels, batch, progress)
            found = _open_cached(path)
    return found


def _cache_name(images: Sequence[Image], size: int, key: str) -> str:
    digest = hashlib.sha256(json.dumps(["tokens 1", key, size, DECODE_TARGET]).encode())
    for image in images:
        location, stamp = image.location, ""
        if image.data is not None:
            stamp = hashlib.sha256(image.data).hexdigest()
        elif "://" not in location:
            with suppress(OSError, ValueError):  # a missing file is found out, and named, when it is read
                status = os.stat(location)  # noqa: PTH116 (twice as fast as Path, and there may be millions)
                stamp = f"{status.st_size} {status.st_mtime_ns}"
        digest.update(f"{location}\0{stamp}\n".encode(errors="surrogatepass"))
    return f"tokens-{digest.hexdigest()[:24]}"


def _open_cached(path: Path) -> Cached:
    """Reads the JSON and maps the array. Raises OSError, ValueError, KeyError or TypeError where they do not fit."""
    content = json.loads(path.read_text(encoding="utf-8"))
    tokens = np.load(path.with_suffix(".npy"), mmap_mode="r")
    if tokens.dtype != np.float16 or list(tokens.shape) != content["shape"] or content["name"] != path.stem:
        raise ValueError(f"{path} does not describe the array beside it")
    ok = np.ones(len(tokens), np.bool_)
    ok[[bad["row"] for bad in content["bad"]]] = False
    return Cached(tokens, ok, tuple(BadImage(b["uri"], b["code"], b["message"]) for b in content["bad"]), path)


def _finished(path: Path) -> Cached | None:
    try:
        return _open_cached(path)
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError):
        return None


@contextmanager
def _waiting_lock(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: two processes then do the same work, each into the same places
        yield
        return
    try:
        file = path.open("wb")
    except OSError as error:
        raise output_error(error, path) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Writer:
    """One cache in the making: NAME.part (the array) and NAME.journal (a line for every finished chunk)."""

    def __init__(self, folder: Path, name: str, images: Sequence[Image]) -> None:
        self.images = images
        self.part, self.journal = folder / f"{name}.part", folder / f"{name}.journal"
        self.array, self.marker = folder / f"{name}.npy", folder / f"{name}.json"
        self.bad: dict[int, BadImage] = {}
        self.done = np.zeros(len(images), np.bool_)
        self.shape: tuple[int, int, int] | None = None
        self.waiting: list[dict[str, Any]] = []
        self.offset = 0

    def fill(self, tokens_of: Callable[[UInt8], Float32], pixels: Pixels, batch: int, progress: bool) -> None:
        """Makes what is missing, then writes the JSON and gives the array its name: together they say it is whole."""
        self._resume()
        left = np.flatnonzero(~self.done)
        chunks = [left[at : at + batch] for at in range(0, len(left), batch)]
        try:
            with self.part.open("r+b" if self.part.exists() else "w+b") as file, self.journal.open("ab") as journal:
                begin = told = last = time.monotonic()
                try:
                    for rows, (drawn, ok) in _ahead(pixels, chunks):
                        self._write(file, rows[ok], tokens_of(drawn[ok]) if ok.any() else None)
                        self._note(rows, {int(row): pixels.bad(row) for row in rows[~ok]})
                        now = time.monotonic()
                        if now - last > COMMIT:
                            self._commit(file, journal)
                            last = now
                        if progress and (now - told > SAY or self.done.all()):
                            told = now
                            self._say((int(self.done.sum()) - len(self.images) + len(left)) / max(now - begin, 1e-9))
                finally:
                    self._commit(file, journal)  # also what was made before an interruption
            self._finish()
        except OSError as error:
            raise output_error(error, self.part) from error

    def _note(self, rows: Int64, bad: dict[int, BadImage]) -> None:
        self.bad |= bad
        self.done[rows] = True
        self.waiting.append({"rows": rows.tolist(), "bad": [self._bad_row(row) for row in bad]})

    def _say(self, rate: float) -> None:
        made = f"tokens {self.done.sum()}/{len(self.images)}  {len(self.bad)} unreadable  {rate:.0f} pictures/s"
        print(made, file=sys.stderr, flush=True)

    def _bad_row(self, row: int) -> dict[str, Any]:
        bad = self.bad[row]
        return {"row": row, "uri": bad.uri, "code": bad.code, "message": bad.message}

    def _write(self, file: BinaryIO, rows: Int64, tokens: Float32 | None) -> None:
        """Plain writes: a full disk is then an error, where a memmap would kill the process."""
        if tokens is None:
            return
        wanted = (len(self.images), *tokens.shape[1:])
        if tokens.ndim != 3 or len(tokens) != len(rows) or (self.shape and self.shape != wanted):
            raise TrainingError(
                "bad_checkpoint",
                f"the image model gave shape {tokens.shape} for {len(rows)} pictures, wanted ({len(rows)}, P, D) and"
                f" the same P and D as before ({self.shape}); give a model that has tokens",
            )
        if self.shape is None:
            self.shape = (len(self.images), int(tokens.shape[1]), int(tokens.shape[2]))
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, _header(self.shape))
            self.offset = file.tell()
            file.truncate(self.offset + 2 * math.prod(self.shape))
        half = tokens.astype(np.float16) if np.abs(tokens).max(initial=0.0) < 65504 else None  # NaN fails as well
        if half is None:
            uri = self.images[int(rows[0])].uri
            raise TrainingError(
                "bad_checkpoint",
                f"the image model's tokens of {uri} or of the {len(rows) - 1} pictures with it are no numbers of half"
                " precision; look at its weights",
            )
        for row, values in zip(rows, half, strict=True):
            file.seek(self.offset + int(row) * values.nbytes)
            file.write(values.tobytes())

    def _commit(self, file: BinaryIO, journal: BinaryIO) -> None:
        """The array reaches the disk before the lines that vouch for it; without a shape there is none yet."""
        if self.shape is None or not self.waiting:
            return
        file.flush()
        os.fsync(file.fileno())
        journal.write(b"".join(json.dumps(line).encode() + b"\n" for line in self.waiting))
        journal.flush()
        os.fsync(journal.fileno())
        self.waiting.clear()

    def _resume(self) -> None:
        """Takes over what an earlier process has finished; drops files that do not fit."""
        for path in (self.marker, self.array):
            path.unlink(missing_ok=True)
        try:
            with self.part.open("rb") as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    raise ValueError("another version")
                shape, order, kind = np.lib.format.read_array_header_1_0(file)
                self.offset = file.tell()
            whole = self.offset + 2 * math.prod(shape)
            if len(shape) != 3 or shape[0] != len(self.images) or order or kind != np.float16:
                raise ValueError("another array")
            if self.part.stat().st_size != whole:
                raise ValueError("another length")
            lines = self.journal.read_bytes().split(b"\n")[:-1]
            self.shape = shape
        except (OSError, ValueError):
            self.part.unlink(missing_ok=True)
            self.journal.unlink(missing_ok=True)
            return
        good = []
        for line in lines:
            try:
                content = json.loads(line)
                bad = {b["row"]: BadImage(b["uri"], b["code"], b["message"]) for b in content["bad"]}
                self.done[content["rows"]] = True
                self.bad |= bad
            except (ValueError, KeyError, TypeError, IndexError):
                break  # torn by a kill: this chunk and all behind it are made again
            good.append(line + b"\n")
        replace_file(self.journal, b"".join(good))

    def _finish(self) -> None:
        if self.shape is None:
            first = next((f"; the first: {self.bad[row].message}" for row in sorted(self.bad)), "")
            self.part.unlink(missing_ok=True)
            self.journal.unlink(missing_ok=True)
            raise TrainingError(
                "no_readable_image",
                f"none of {len(self.images)} pictures could be read{first or '.'} Correct the samples.",
            )
        bad = [self._bad_row(row) for row in sorted(self.bad)]
        content = {"name": self.marker.stem, "shape": list(self.shape), "bad": bad}
        replace_file(self.marker, json.dumps(content).encode())
        self.part.replace(self.array)
        self.journal.unlink(missing_ok=True)


def _header(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}


def _ahead(pixels: Pixels, chunks: Sequence[Int64]) -> Iterator[tuple[Int64, tuple[UInt8, Bool]]]:
    """Chunks with their pixels, in order; the next two are decoded while the caller works."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming = [(rows, pool.submit(pixels, rows)) for rows in chunks[:2]]
        for at in range(len(chunks)):
            rows, future = coming.pop(0)
            found = future.result()
            if at + 2 < len(chunks):
                coming.append((chunks[at + 2], pool.submit(pixels, chunks[at + 2])))
            yield rows, found
