"""Where catalogues lie: opening a source and replacing an output, on disk, over http(s), in s3 or gs.

A source is opened as often as it is needed (format guess, reading, writing back), always as a plain byte stream.
An output is written under a temporary name in its own folder and renamed last, so a reader never sees half a file.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from agpis.errors import AgpisError, CatalogueError, MissingExtra, OutputError, output_error

PROTOCOLS = ("file", "http", "https", "s3", "gs", "memory")
_EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs")}
_CHUNK = 1 << 16  # bytes
_HTTP_TIMEOUT = 60.0  # seconds, for connecting and for each read
_REDIRECTS = 5


def protocol(name: str) -> str:
    """The protocol of a source or output, "file" for a plain path. Raises CatalogueError("source_protocol")."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", name)
    scheme = found.group(1).lower() if found else "file"
    if scheme not in PROTOCOLS:
        raise CatalogueError(
            "source_protocol", f"{name} has the protocol {scheme!r}; allowed are a path and {', '.join(PROTOCOLS[:-1])}"
        )
    return scheme


def local_path(name: str) -> Path | None:
    """The path of a source on this machine, None when it lies elsewhere."""
    if protocol(name) != "file":
        return None
    return Path(unquote(urlsplit(name).path)) if name.lower().startswith("file://") else Path(name)


def folder_of(name: str) -> str:
    """The folder (path or URL) that holds a file; relative image addresses are relative to it."""
    path = local_path(name)
    if path is not None:
        return str(path.parent)
    parts = urlsplit(name)
    return f"{parts.scheme}://{parts.netloc}{posixpath.dirname(parts.path)}"


def filesystem(name: str) -> tuple[Any, str]:
    """The fsspec file system of a source and the path in it. Raises MissingExtra when s3fs or gcsfs is absent."""
    import fsspec

    scheme = protocol(name)
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(name))
    except ImportError as error:
        package, extra = _EXTRAS.get(scheme, (scheme, scheme))
        raise MissingExtra(package, extra, f"The address {name}") from error


def is_folder(name: str) -> bool:
    """Whether the source is a folder; never for http(s)."""
    path = local_path(name)
    if path is not None:
        return path.is_dir()
    if protocol(name) in ("http", "https"):
        return False
    with _reading(name):
        system, inside = filesystem(name)
        return bool(system.isdir(inside))


def open_source(name: str) -> BinaryIO:
    """A byte stream over the source, from its start. May be unseekable (http).

    Raises CatalogueError `source_not_found` or `source_unreadable`, also while reading over http.
    """
    path = local_path(name)
    with _reading(name):
        if path is not None:
            return path.open("rb")
        if protocol(name) in ("http", "https"):
            return cast(BinaryIO, io.BufferedReader(_HttpBody(name), _CHUNK))
        system, inside = filesystem(name)
        return cast(BinaryIO, system.open(inside, "rb"))


def open_seekable(name: str) -> BinaryIO:
    """As `open_source`, but seekable: what comes over http is first laid in a temporary file."""
    stream = open_source(name)
    if stream.seekable():
        return stream
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115, the caller closes it
    with stream:
        while chunk := stream.read(_CHUNK):
            copy.write(chunk)
    copy.seek(0)
    return copy


def head(name: str, size: int) -> bytes:
    """The first `size` bytes of the source, fewer when it is shorter."""
    with open_source(name) as stream:
        found = b""
        while len(found) < size and (chunk := stream.read(size - len(found))):
            found += chunk
        return found


@contextlib.contextmanager
def replacing(name: str) -> Iterator[BinaryIO]:
    """A byte sink that becomes the file `name` when the block ends well, and leaves no trace when it does not.

    Raises OutputError with the codes of `agpis.errors.output_error`.
    """
    path = local_path(name)
    if path is None:
        with _replacing_remote(name) as sink:
            yield sink
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = _writing(name, temporary.open, "xb")
    except OutputError as error:
        if not isinstance(error.__cause__, FileExistsError):
            raise
        temporary.unlink()  # left by a killed process that had our number
        file = _writing(name, temporary.open, "xb")
    try:
        with _Sink(name, file) as sink:
            yield cast(BinaryIO, sink)
        _writing(name, os.replace, temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _replacing_remote(name: str) -> Iterator[BinaryIO]:
    if protocol(name) in ("http", "https"):
        raise OutputError("write_failed", f"{name} cannot be written: http is read only; give a path, s3:// or gs://")
    system, inside = filesystem(name)
    temporary = f"{inside}.{os.getpid()}.part"
    try:
        with _Sink(name, _writing(name, system.open, temporary, "wb")) as sink:
            yield cast(BinaryIO, sink)
        _writing(name, system.mv, temporary, inside)
    except BaseException:
        with contextlib.suppress(Exception):
            system.rm(temporary)
        raise


class _Sink(io.RawIOBase):
    """A file whose write errors are OutputErrors, so that they are told apart from errors of the source."""

    def __init__(self, name: str, file: Any) -> None:
        self._name = name
        self._file = file
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        _writing(self._name, self._file.write, data)
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            _writing(self._name, self._file.close)


def _writing(name: str, act: Any, *arguments: Any) -> Any:
    try:
        return act(*arguments)
    except OSError as error:
        raise output_error(error, name) from error


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except AgpisError:
        raise
    except FileNotFoundError as error:
        raise CatalogueError("source_not_found", f"{name} does not exist; give a file, a folder or a URL") from error
    except Exception as error:  # cloud clients raise classes of their own
        raise CatalogueError("source_unreadable", f"{name} cannot be read: {type(error).__name__}: {error}") from error


class _HttpBody(io.RawIOBase):
    """The body of a GET as a raw stream; constant memory."""

    def __init__(self, url: str) -> None:
        import httpx

        self._url = url
        self._errors = (httpx.HTTPError, httpx.InvalidURL)
        self._rest = b""
        self._stack = contextlib.ExitStack()
        try:
            client = httpx.Client(timeout=_HTTP_TIMEOUT, follow_redirects=True, max_redirects=_REDIRECTS)
            self._stack.enter_context(client)
            answer = self._stack.enter_context(client.stream("GET", url))
            if answer.status_code in (404, 410):
                raise CatalogueError("source_not_found", f"{url} answers {answer.status_code}: there is no such file")
            if answer.status_code != 200:
                raise CatalogueError("source_unreadable", f"{url} answers {answer.status_code}, expected 200")
            self._chunks = answer.iter_bytes(_CHUNK)
        except BaseException:
            self._stack.close()
            raise

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            try:
                self._rest = next(self._chunks, b"")
            except self._errors as error:
                raise CatalogueError("source_unreadable", f"{self._url} broke off while reading: {error}") from error
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._stack.close()
        super().close()
