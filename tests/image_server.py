"""A real HTTP server on a free port of this machine that misbehaves on request. The path says how."""

from __future__ import annotations

import gzip
import io
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import numpy as np
from PIL import Image


def picture_bytes(width: int = 40, height: int = 30, seed: int = 0, kind: str = "JPEG") -> bytes:
    """A smooth coloured picture, encoded."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


class ImageServer:
    """Context manager. `url("/ok.jpg")` is an address; `hits` counts requests by path; `peak` is the most at a time."""

    def __init__(self) -> None:
        self.image = picture_bytes()
        self.bomb = gzip.compress(bytes(5_000_000))
        self.hits: Counter[str] = Counter()
        self.ports: set[int] = set()
        """Client ports seen: one for each connection."""
        self.peak = 0
        self.stopping = threading.Event()
        self._now = 0
        self._lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_ = owner

        self._http = _Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self) -> ImageServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def enter(self, path: str, port: int) -> int:
        with self._lock:
            self.hits[path] += 1
            self.ports.add(port)
            self._now += 1
            self.peak = max(self.peak, self._now)
            return self.hits[path]

    def leave(self) -> None:
        with self._lock:
            self._now -= 1


class _Quiet(ThreadingHTTPServer):
    """A client that hangs up, as tests of timeouts and limits do, is no error to be printed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_: ImageServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.removeprefix("http://shop.invalid")  # asked as a proxy
        path, _, query = path.partition("?")
        hit = self.server_.enter(path, self.client_address[1])
        try:
            _ROUTES.get(path.split(".")[0], _missing)(self, hit, query)
        except (BrokenPipeError, ConnectionResetError):  # the client has had enough
            self.close_connection = True
        finally:
            self.server_.leave()

    def answer(self, status: int, body: bytes = b"", kind: str = "image/jpeg", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True


def _ok(h: _Handler, hit: int, query: str) -> None:
    h.answer(200, h.server_.image)


def _missing(h: _Handler, hit: int, query: str) -> None:
    h.answer(404, b"<html>gone</html>", "text/html")


def _status(h: _Handler, hit: int, query: str) -> None:
    h.answer(int(query), b"no")


def _busy_once(h: _Handler, hit: int, query: str) -> None:
    if hit == 1:
        h.answer(429, b"slow down", Retry_After=unquote(query))
    else:
        _ok(h, hit, query)


def _busy(h: _Handler, hit: int, query: str) -> None:
    h.answer(429, b"slow down")


def _error_twice(h: _Handler, hit: int, query: str) -> None:
    if hit <= 2:
        h.answer(503, b"oops")
    else:
        _ok(h, hit, query)


def _drip_headers(h: _Handler, hit: int, query: str) -> None:
    h.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not h.server_.stopping.wait(0.02):
        h.wfile.write(b"a")
    h.hang_up()


def _drip_body(h: _Handler, hit: int, query: str) -> None:
    h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not h.server_.stopping.wait(0.02):
        h.wfile.write(b"a")
    h.hang_up()


def _silent(h: _Handler, hit: int, query: str) -> None:
    h.server_.stopping.wait(30)
    h.hang_up()


def _stalls(h: _Handler, hit: int, query: str) -> None:
    h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + h.server_.image)
    h.wfile.flush()
    h.server_.stopping.wait(30)
    h.hang_up()


def _slow(h: _Handler, hit: int, query: str) -> None:
    h.server_.stopping.wait(0.05)
    h.answer(200, h.server_.image)


def _loop(h: _Handler, hit: int, query: str) -> None:
    h.answer(302, Location="/loop")


def _redirect(h: _Handler, hit: int, query: str) -> None:
    h.answer(302, Location=query)


def _redirect_nowhere(h: _Handler, hit: int, query: str) -> None:
    h.answer(302)


def _short(h: _Handler, hit: int, query: str) -> None:
    half = h.server_.image[: len(h.server_.image) // 2]
    h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(h.server_.image) + half)
    h.hang_up()


def _short_once(h: _Handler, hit: int, query: str) -> None:
    (_short if hit == 1 else _ok)(h, hit, query)


def _short_chunk(h: _Handler, hit: int, query: str) -> None:
    h.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc")
    h.hang_up()


def _endless(h: _Handler, hit: int, query: str) -> None:
    h.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not h.server_.stopping.is_set():
        h.wfile.write(bytes(65536))
    h.hang_up()


def _announced(h: _Handler, hit: int, query: str) -> None:
    h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
    h.hang_up()


def _html(h: _Handler, hit: int, query: str) -> None:
    h.answer(200, b"<!DOCTYPE html><html><body>Please sign in</body></html>", "text/html")


def _empty(h: _Handler, hit: int, query: str) -> None:
    h.answer(200)


def _gzip(h: _Handler, hit: int, query: str) -> None:
    h.answer(200, gzip.compress(h.server_.image), Content_Encoding="gzip")


def _gzip_bomb(h: _Handler, hit: int, query: str) -> None:
    h.answer(200, h.server_.bomb, Content_Encoding="gzip")


def _not_gzip(h: _Handler, hit: int, query: str) -> None:
    h.answer(200, h.server_.image, Content_Encoding="gzip")


def _brotli(h: _Handler, hit: int, query: str) -> None:
    h.answer(200, b"\x0b\x02\x80abc\x03", Content_Encoding="br")


def _wrong_type(h: _Handler, hit: int, query: str) -> None:
    h.answer(200, h.server_.image, "text/plain")


def _hang_up(h: _Handler, hit: int, query: str) -> None:
    h.hang_up()


def _not_http(h: _Handler, hit: int, query: str) -> None:
    h.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    h.hang_up()


_ROUTES: dict[str, Callable[[_Handler, int, str], None]] = {
    "/ok": _ok,
    "/status": _status,
    "/busy-once": _busy_once,
    "/busy": _busy,
    "/error-twice": _error_twice,
    "/drip-headers": _drip_headers,
    "/drip-body": _drip_body,
    "/silent": _silent,
    "/stalls": _stalls,
    "/slow": _slow,
    "/loop": _loop,
    "/redirect": _redirect,
    "/redirect-nowhere": _redirect_nowhere,
    "/short": _short,
    "/short-once": _short_once,
    "/short-chunk": _short_chunk,
    "/endless": _endless,
    "/announced": _announced,
    "/html": _html,
    "/empty": _empty,
    "/gzip": _gzip,
    "/gzip-bomb": _gzip_bomb,
    "/not-gzip": _not_gzip,
    "/brotli": _brotli,
    "/wrong-type": _wrong_type,
    "/hang-up": _hang_up,
    "/not-http": _not_http,
}
