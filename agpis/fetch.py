"""Bytes of one image from a path, file URL, http(s) address or anything fsspec reads, within `Limits`.

A fetch either returns the encoded bytes or raises ImageError with one of `images.IMAGE_CODES`. What the bytes are is
`images.decode`'s business: a content type is never believed.
"""

from __future__ import annotations

import email.utils
import errno
import os
import random
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore
import httpx

from agpis import __version__
from agpis.errors import ImageError, MissingExtra
from agpis.images import Limits

# Protocols of fsspec that a package of ours brings: protocol -> (package, extra).
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "gs": ("gcsfs", "gs"), "gcs": ("gcsfs", "gs")}


class Fetcher:
    """Fetches images: `fetcher(location) -> bytes`. A context manager; thread-safe; pickles as its limits.

    HTTP connections are kept and used again, at most `limits.per_host` at a time to one host. HTTP 429, 5xx, time-outs
    and broken connections are tried again, with exponential back-off or as long as the server's Retry-After asks, up to
    `limits.max_wait`. Proxies are taken from the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY).
    `sleep` takes seconds.
    """

    def __init__(self, limits: Limits | None = None, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.limits = limits or Limits()
        self._sleep = sleep
        self._lock = threading.Lock()
        self._hosts: dict[str, threading.Semaphore] = {}
        self._deadline = _Deadline()
        self._client: httpx.Client | None = None

    def __reduce__(self) -> tuple[type[Fetcher], tuple[Limits]]:
        return type(self), (self.limits,)

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections. The fetcher opens new ones if it is used again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __call__(self, location: str) -> bytes:
        """Encoded bytes at `location`, never more than `limits.max_bytes`; may be empty.

        Raises ImageError, and MissingExtra for s3 and gs without their package.
        """
        scheme = location.split("://", 1)[0].lower() if "://" in location else ""
        if "\0" in location or not location.strip():
            raise ImageError("bad_location", f"{location!r} cannot be a path or address; correct the catalogue.")
        if scheme in ("http", "https"):
            return self._http(location)
        if scheme == "file":
            return self._file(_path_of(location), location)
        if scheme:
            return self._fsspec(scheme, location)
        if location[:5].lower() == "data:":
            raise ImageError("unsupported_location", f"{_short(location)}: data URLs are not read; give a file.")
        return self._file(location, location)

    # Files

    def _file(self, path: str, location: str) -> bytes:
        try:
            with open(path, "rb", opener=_open_now) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise IsADirectoryError
                if status.st_size > self.limits.max_bytes:
                    raise self._too_big(location, status.st_size)
                data = file.read(status.st_size + 1)  # read(n) takes n bytes of memory first: not the limit's
                if len(data) > status.st_size:  # it grows, or (as in /proc) the system gives no size
                    data += file.read(self.limits.max_bytes + 1 - len(data))
                return self._checked(data, location)
        except (FileNotFoundError, NotADirectoryError):
            raise ImageError("not_found", f"{location}: no such file; correct the path in the catalogue.") from None
        except IsADirectoryError:
            raise ImageError("not_a_file", f"{location}: a directory, pipe or device; name an image file.") from None
        except PermissionError:
            raise ImageError("forbidden", f"{location}: this user may not read the file; change its rights.") from None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise ImageError("not_found", f"{_short(location)}: too long for a file name.") from None
            raise ImageError("read_failed", f"{location}: reading failed ({error.strerror or error}).") from error

    # Object stores

    def _fsspec(self, scheme: str, location: str) -> bytes:
        import fsspec  # only where needed: its registry of protocols is slow to load

        try:
            system, path = fsspec.core.url_to_fs(location)
        except ImportError as error:
            if scheme in _EXTRAS:
                raise MissingExtra(*_EXTRAS[scheme], f"Reading {scheme}:// addresses") from None
            raise ImageError("unsupported_location", f"{_short(location)}: {error}") from None
        except ValueError as error:  # protocol not known
            raise ImageError(
                "unsupported_location", f"{_short(location)}: {error}; allowed are a path, file, http(s), s3, gs."
            ) from None
        except Exception as error:  # opening a store can already read from it, and each has errors of its own
            raise ImageError("read_failed", f"{_short(location)}: {type(error).__name__}: {error}.") from error
        for attempt in range(self.limits.retries + 1):
            if attempt:
                self._sleep(self._wait(attempt, None))
            try:
                with system.open(path, "rb") as file:
                    return self._checked(file.read(self.limits.max_bytes + 1), location)
            except FileNotFoundError:
                raise ImageError("not_found", f"{location}: no such object; correct the catalogue.") from None
            except IsADirectoryError:
                raise ImageError("not_a_file", f"{location}: a directory; name an image file.") from None
            except PermissionError:
                raise ImageError("forbidden", f"{location}: access denied; check the credentials.") from None
            except ImageError:
                raise
            except Exception as error:
                failure = error
        raise ImageError(
            "read_failed", f"{location}: {type(failure).__name__}: {failure}, in {attempt + 1} attempts."
        ) from failure

    # HTTP

    def _http(self, location: str) -> bytes:
        failure: _Again | None = None
        for attempt in range(self.limits.retries + 1):
            if failure is not None:
                self._sleep(self._wait(attempt, failure.wait))
            try:
                return self._attempt(location)
            except _Again as again:
                failure = again
        assert failure is not None  # at least one attempt was made
        raise ImageError(failure.code, f"{_short(location)}: {failure.message}, in {attempt + 1} attempts.")

    def _attempt(self, location: str) -> bytes:
        """One try, with its redirects. Raises _Again where another one may help, else ImageError."""
        try:
            url = httpx.URL(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise ImageError("bad_location", f"{_short(location)}: not an address ({error}).") from None
        with self._deadline.within(self.limits.total_timeout):
            for _ in range(self.limits.redirects + 1):
                if not url.host or (url.port or 0) > 65535:
                    raise ImageError("bad_location", f"{_short(str(url))}: the address names no host, or no port.")
                answer = self._hop(url, location)
                if isinstance(answer, bytes):
                    return answer
                url = answer
        raise ImageError(
            "too_many_redirects", f"{_short(location)}: more than {self.limits.redirects} redirects; name the last one."
        )

    def _hop(self, url: httpx.URL, location: str) -> bytes | httpx.URL:
        """The body, or where it has moved to."""
        try:
            with self._host(url.host), self._connection().stream("GET", url) as response:
                if response.status_code in (301, 302, 303, 307, 308):
                    return _moved(response, location)
                _check_status(response, location)
                return self._body(response, location)
        except httpx.ConnectTimeout:
            raise _Again("connect_timeout", f"no connection in {self.limits.connect_timeout:g} s") from None
        except httpx.TimeoutException:
            raise _Again("read_timeout", self._too_slow()) from None
        except httpx.RemoteProtocolError as error:
            if "complete message body" in str(error):  # h11's words for a body shorter than announced
                raise _Again("truncated", f"the transfer broke off ({error})") from None
            raise _Again("connection_failed", f"not an HTTP answer ({error})") from None
        except httpx.TransportError as error:
            raise _Again("connection_failed", f"the connection failed ({error or type(error).__name__})") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise ImageError("bad_location", f"{_short(str(url))}: not an address ({error}).") from None

    def _body(self, response: httpx.Response, location: str) -> bytes:
        limit = self.limits.max_bytes
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise self._too_big(location, int(announced))
        decode = _decoder(response.headers.get("content-encoding", ""), limit, location)
        body = bytearray()
        for chunk in response.iter_raw():
            body += decode(chunk, limit + 1 - len(body))
            if len(body) > limit:
                raise self._too_big(location, len(body))
            if self._deadline.passed():
                raise _Again("read_timeout", self._too_slow())
        return bytes(body)

    def _too_slow(self) -> str:
        return f"silent for {self.limits.read_timeout:g} s, or not done in {self.limits.total_timeout:g} s"

    def _too_big(self, location: str, size: int) -> ImageError:
        return ImageError(
            "too_many_bytes", f"{_short(location)}: {size} bytes or more; {self.limits.max_bytes} are allowed."
        )

    def _checked(self, data: bytes, location: str) -> bytes:
        if len(data) > self.limits.max_bytes:
            raise self._too_big(location, len(data))
        return data

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Seconds before attempt number `attempt` (from 1): what the server asked for, else exponential with jitter."""
        if asked is None:
            # Random, so that the threads a busy server has turned away do not all come back at once.
            asked = self.limits.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
        return min(asked, self.limits.max_wait)

    def _host(self, host: str) -> threading.Semaphore:
        with self._lock:
            return self._hosts.setdefault(host, threading.Semaphore(self.limits.per_host))

    def _connection(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = _client(self.limits, self._deadline)
            return self._client


class _Again(Exception):
    """This attempt failed in a way that another may not; `wait` is what Retry-After asked for, seconds."""

    def __init__(self, code: str, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.wait = code, message, wait


def _open_now(path: str, flags: int) -> int:
    """Opens without waiting: a pipe that nobody writes to would otherwise hold the thread for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_status(response: httpx.Response, location: str) -> None:
    status, place = response.status_code, _short(location)
    if status == 200:
        return
    if status == 429:
        raise _Again("rate_limited", "HTTP 429, too many requests", _retry_after(response))
    if status >= 500:
        raise _Again("server_error", f"HTTP {status}", _retry_after(response))
    if status in (404, 410):
        raise ImageError("not_found", f"{place}: HTTP {status}; correct the address in the catalogue.")
    if status in (401, 403):
        raise ImageError("forbidden", f"{place}: HTTP {status}; the server wants a login or refuses this program.")
    raise ImageError("http_status", f"{place}: HTTP {status}; 200 was expected.")


def _moved(response: httpx.Response, location: str) -> httpx.URL:
    target = response.headers.get("location", "")
    try:
        url = response.url.join(target) if target else httpx.URL("")
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise ImageError(
            "redirect_refused",
            f"{_short(location)}: HTTP {response.status_code} to {_short(target)!r}; only http and https are followed.",
        )
    return url


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds asked for by Retry-After (RFC 9110, 10.2.3: a number or a date), or None."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _decoder(encoding: str, limit: int, location: str) -> Callable[[bytes, int], bytes]:
    """A function (chunk, room) that undoes the content encoding and gives at most `room` bytes.

    Done here instead of by httpx, which expands a whole chunk at once: 64 KiB of brotli can be gigabytes.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return lambda chunk, room: chunk
    if name not in ("gzip", "x-gzip", "deflate"):
        raise ImageError(
            "bad_encoding", f"{_short(location)}: content encoding {encoding!r}; allowed are gzip and deflate."
        )
    expand = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by the header

    def undo(chunk: bytes, room: int) -> bytes:
        try:
            return expand.decompress(chunk, room)
        except zlib.error as error:
            raise ImageError("bad_encoding", f"{_short(location)}: not the {name} it claims to be ({error}).") from None

    return undo


def _path_of(location: str) -> str:
    """Local path of a file URL (RFC 8089)."""
    parts = urlsplit(location)
    path = unquote(parts.path)
    if parts.netloc.lower() not in ("", "localhost") or not path or "\0" in path:
        raise ImageError(
            "bad_location", f"{_short(location)}: a file URL is file:///path; it names no other host and no NUL."
        )
    return path


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."


# The total time limit. httpx limits each single wait, so a server that sends a byte a second, even of its headers,
# could hold a thread for days. The socket reads of a thread are therefore also cut at that thread's deadline.


class _Deadline(threading.local):
    """When the current thread's attempt has to be done; `time.monotonic()` seconds."""

    at: float = float("inf")

    @contextmanager
    def within(self, seconds: float) -> Any:
        self.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self.at = float("inf")

    def passed(self) -> bool:
        return time.monotonic() > self.at

    def cut(self, timeout: float | None) -> float | None:
        """`timeout`, or what is left until the deadline if that is less; a little over 0 at least."""
        left = max(self.at - time.monotonic(), 0.001)
        return timeout if left == float("inf") else left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.cut(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.cut(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, self._deadline.cut(timeout))
        return _Stream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Network(httpcore.NetworkBackend):
    def __init__(self, deadline: _Deadline) -> None:
        self._backend, self._deadline = httpcore.SyncBackend(), deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._backend.connect_tcp(host, port, self._deadline.cut(timeout), local_address, socket_options)
        return _Stream(stream, self._deadline)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


def _client(limits: Limits, deadline: _Deadline) -> httpx.Client:
    client = httpx.Client(
        headers={"User-Agent": f"agpis/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(limits.read_timeout, connect=limits.connect_timeout, pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=128),
        follow_redirects=False,  # each is looked at before it is followed
    )
    # httpx offers no way to name httpcore's network backend without giving up its proxies from the environment;
    # test_fetch.py's slow-header case fails should these attributes move.
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = _Network(deadline)
    return client
