"""Samples to arrays to train on: sequences over distinct images, their pixels, and cached tokens.

Without torch: training, evaluation and benchmarks read the same arrays. A picture that cannot be read is a `BadImage`
with a code of docs/errors.md, never pixels.
"""

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
from agpis.errors import ImageError, MissingExtra, TrainingError, output_error
from agpis.fetch import Fetcher
from agpis.image_labels import (
    Group,
    ImageLabel,
    image_labels,
    label_arrays,
    primary_groups,
    read_image_labels,
)
from agpis.images import Limits, Size, decode, letterbox
from agpis.prepare import DECODE_TARGET
from agpis.rulebook import Rulebook
from agpis.samples import SPLITS, Labelled
from agpis.shards import replace_file

__all__ = [
    "BadImage",
    "Cached",
    "Group",
    "ImageLabel",
    "Pixels",
    "SequenceData",
    "cached_tokens",
    "image_labels",
    "label_arrays",
    "primary_groups",
    "read_image_labels",
    "sequence_data",
]

UInt8 = npt.NDArray[np.uint8]
Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

THREADS = max(4, os.cpu_count() or 1)
"""Threads of one `Pixels`; at least 4, since pictures on the network are waited for."""


# Sequences -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class SequenceData:
    """n sequences over M distinct images. Rows of `images` stay what they are in every selection of sequences."""

    images: tuple[Image, ...]
    """M images, distinct by location."""
    index: Int64
    """(n, K) row in `images`, -1 where the sequence is shorter."""
    labels: Int64
    """(n,) position in the rulebook's classes."""
    titles: tuple[str, ...]
    categories: tuple[str, ...]
    feedbacks: tuple[str, ...]
    """What the decoder shall write; "yes" where accepted."""
    skus: tuple[str, ...]
    splits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mask(self) -> Bool:
        """(n, K) True where there is an image."""
        return self.index >= 0

    def take(self, rows: npt.NDArray[np.integer[Any]] | Sequence[int]) -> SequenceData:
        """The sequences of these rows (m,), in that order; the images stay the same."""
        chosen = np.asarray(rows, dtype=np.int64)
        texts = {
            name: tuple(getattr(self, name)[i] for i in chosen)
            for name in ("titles", "categories", "feedbacks", "skus", "splits")
        }
        return SequenceData(self.images, self.index[chosen], self.labels[chosen], **texts)

    def where(self, split: str) -> SequenceData:
        """The sequences of one split. Raises TrainingError `bad_split`."""
        if split not in SPLITS:
            raise TrainingError("bad_split", f"found split {split!r}, allowed are {', '.join(SPLITS)}")
        return self.take([i for i, side in enumerate(self.splits) if side == split])

    def kept(self, ok: Bool) -> SequenceData:
        """Without the sequences that need an image that is not ok (M,)."""
        if ok.shape != (len(self.images),):
            raise ValueError(f"ok has shape {ok.shape}, wanted ({len(self.images)},)")
        return self.take(np.flatnonzero((ok[self.index] | ~self.mask).all(axis=1)))


def sequence_data(samples: Sequence[Labelled], rulebook: Rulebook, k: int) -> SequenceData:
    """Samples as arrays; `k` images a sequence.

    Of a longer sequence the first image and the image to blame stay, then the first others, all in their order. Where
    k is 1 the image to blame stays alone. Raises TrainingError `bad_config` for k < 1 and for a label that is no class
    of the rulebook.
    """
    if k < 1:
        raise TrainingError("bad_config", f"found k {k}, allowed is 1 or more; give the length of the sequences")
    classes = {name: i for i, name in enumerate(rulebook.classes)}
    foreign = sorted({sample.label for sample in samples} - set(classes))
    if foreign:
        raise TrainingError(
            "bad_config",
            f"found labels {', '.join(foreign)}, which are no classes of the rulebook {rulebook.id!r};"
            " label the samples with the rulebook that is trained for",
        )
    rows: dict[str, int] = {}
    images: list[Image] = []
    index = np.full((len(samples), k), -1, np.int64)
    for i, sample in enumerate(samples):
        verdict = sample.verdict
        for place, at in enumerate(_kept_places(len(verdict.sequence), verdict.image_index, k)):
            image = Image(verdict.sequence[at], verdict.base)
            row = rows.setdefault(image.location, len(images))
            if row == len(images):
                images.append(image)
            index[i, place] = row
    return SequenceData(
        images=tuple(images),
        index=index,
        labels=np.array([classes[sample.label] for sample in samples], np.int64),
        titles=tuple(sample.verdict.title for sample in samples),
        categories=tuple(sample.verdict.category for sample in samples),
        feedbacks=tuple(sample.text for sample in samples),
        skus=tuple(sample.verdict.sku for sample in samples),
        splits=tuple(sample.split for sample in samples),
    )


def _kept_places(length: int, blamed: int | None, k: int) -> list[int]:
    """Positions, in order, of the images of a sequence that the model sees."""
    first = [0] if blamed is None else [0, blamed] if k > 1 else [blamed]
    return sorted(list(dict.fromkeys([*first, *range(length)]))[:k])


# Pixels --------------------------------------------------------------------------------------------------------------


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


# Tokens --------------------------------------------------------------------------------------------------------------

COMMIT = 5.0
"""Seconds of work that a kill may cost: finished chunks are written down that often."""


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    name = _cache_name(images, size, key)
    path = folder / f"{name}.json"
    with _waiting_lock(folder / f"{name}.lock"):
        found = _finished(path)
        if found is None:
            _Writer(folder, name, images).fill(tokens_of, Pixels(images, size, limits), batch, progress)
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
    if tokens.dtype != np.float16 or list(tokens.shape) != content["shape"]:
        raise ValueError(f"{path} does not describe the array beside it")
    ok = np.ones(len(tokens), np.bool_)
    ok[[bad["row"] for bad in content["bad"]]] = False
    return Cached(tokens, ok, tuple(BadImage(b["uri"], b["code"], b["message"]) for b in content["bad"]), path)


def _finished(path: Path) -> Cached | None:
    try:
        return _open_cached(path)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
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
        """Makes what is missing, then gives the files their names; the JSON comes last and says that all is there."""
        self._resume()
        left = np.flatnonzero(~self.done)
        chunks = [left[at : at + batch] for at in range(0, len(left), batch)]
        try:
            with self.part.open("r+b" if self.part.exists() else "w+b") as file, self.journal.open("ab") as journal:
                begin = told = last = time.monotonic()
                for rows, (drawn, ok) in _ahead(pixels, chunks):
                    self._write(file, rows[ok], tokens_of(drawn[ok]) if ok.any() else None)
                    self.bad |= {int(row): pixels.bad(row) for row in rows[~ok]}
                    self.waiting.append(self._line(rows))
                    self.done[rows] = True
                    now = time.monotonic()
                    if now - last > COMMIT:
                        self._commit(file, journal)
                        last = now
                    if progress and (now - told > 10.0 or self.done.all()):
                        told, made = now, int(self.done.sum())
                        rate = (made - len(self.images) + len(left)) / max(now - begin, 1e-9)
                        said = f"tokens {made}/{len(self.images)}  {len(self.bad)} unreadable  {rate:.0f} pictures/s"
                        print(said, file=sys.stderr, flush=True)
                self._commit(file, journal)
            self._finish()
        except OSError as error:
            raise output_error(error, self.part) from error

    def _line(self, rows: Int64) -> dict[str, Any]:
        bad = [self._bad_row(int(row)) for row in rows if int(row) in self.bad]
        return {"rows": rows.tolist(), "bad": bad}

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
                self.bad |= {b["row"]: BadImage(b["uri"], b["code"], b["message"]) for b in content["bad"]}
                self.done[content["rows"]] = True
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
                "no_readable_image", f"none of {len(self.images)} pictures could be read{first} Correct the samples."
            )
        self.part.replace(self.array)
        bad = [self._bad_row(row) for row in sorted(self.bad)]
        replace_file(self.marker, json.dumps({"shape": list(self.shape), "bad": bad}).encode())
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
