"""Fetching, against real files and a real server that misbehaves."""

from __future__ import annotations

import email.utils
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import fsspec
import pytest

from agpis.errors import ImageError, MissingExtra, SettingsError
from agpis.fetch import Fetcher
from agpis.images import IMAGE_CODES, Limits, decode
from tests.image_server import ImageServer, picture_bytes

QUICK = Limits(max_bytes=100_000, connect_timeout=0.6, read_timeout=0.6, total_timeout=1.2, retries=2, backoff=1.0)


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ImageServer]:
    with ImageServer() as running:
        yield running


@pytest.fixture
def server(shared_server: ImageServer) -> ImageServer:
    shared_server.hits.clear()
    shared_server.ports.clear()
    shared_server.peak = 0
    return shared_server


class Naps:
    """Stands in for the clock's sleep: remembers instead of waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def fetcher(naps: Naps) -> Iterator[Fetcher]:
    with Fetcher(QUICK, sleep=naps) as fetcher:
        yield fetcher


def refused(fetcher: Fetcher, location: str, code: str, match: str) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        fetcher(location)
    assert caught.value.code == code
    assert code in IMAGE_CODES


# Files


def test_file_by_path_and_by_url(tmp_path: Path, fetcher: Fetcher) -> None:
    path = tmp_path / "a b#1%.jpg"
    path.write_bytes(picture_bytes())
    assert fetcher(str(path)) == picture_bytes()
    assert fetcher(path.as_uri()) == picture_bytes()
    assert fetcher("file://localhost" + path.as_uri()[len("file://") :]) == picture_bytes()
    assert fetcher(path.as_uri().replace("file", "FILE", 1)) == picture_bytes()


def test_files_that_cannot_be_read(tmp_path: Path, fetcher: Fetcher) -> None:
    refused(fetcher, str(tmp_path / "none.jpg"), "not_found", "no such file; correct the path")
    (tmp_path / "file").write_bytes(b"x")
    refused(fetcher, str(tmp_path / "file" / "none.jpg"), "not_found", "no such file")
    refused(fetcher, str(tmp_path), "not_a_file", "a directory, pipe or device; name an image file")
    refused(fetcher, "/dev/zero", "not_a_file", "a directory, pipe or device")
    os.mkfifo(tmp_path / "pipe")
    refused(fetcher, str(tmp_path / "pipe"), "not_a_file", "a directory, pipe or device")
    refused(fetcher, "a\0b.jpg", "bad_location", "cannot be a path or address; correct the catalogue")
    refused(fetcher, "file:///a%00b.jpg", "bad_location", "it names no other host and no NUL")
    refused(fetcher, "file://server/a.jpg", "bad_location", "it names no other host")
    refused(fetcher, "  ", "bad_location", "cannot be a path or address")
    refused(fetcher, "x" * 5000, "not_found", "too long for a file name")
    refused(fetcher, "data:image/png;base64,AAAA", "unsupported_location", "data URLs are not read; give a file")


def test_directories_leave_no_file_open(tmp_path: Path, fetcher: Fetcher) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(ImageError):
            fetcher(str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_forbidden_file(tmp_path: Path, fetcher: Fetcher) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.geteuid() != 0:
        refused(fetcher, str(path), "forbidden", "this user may not read the file; change its rights")
        return
    # Root may read it all the same, so a child process without root's rights looks.
    script = (
        "import os, sys; from agpis.fetch import Fetcher; from agpis.errors import ImageError\n"
        "os.setuid(65534)\n"
        "try: Fetcher()('/etc/shadow')\n"
        "except ImageError as error: print(error.code, error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("forbidden /etc/shadow: this user may not read the file"), done.stderr


def test_file_over_the_limit(tmp_path: Path, fetcher: Fetcher) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(200_000)
    refused(fetcher, str(path), "too_many_bytes", "200000 bytes or more; 100000 are allowed")
    with path.open("wb") as file:
        file.truncate(100_000)
    assert len(fetcher(str(path))) == 100_000


def test_a_file_takes_no_more_memory_than_it_has_bytes(tmp_path: Path) -> None:
    path = tmp_path / "small.jpg"
    path.write_bytes(b"x" * 50_000)
    fetcher = Fetcher()
    fetcher(str(path))
    tracemalloc.start()
    assert len(fetcher(str(path))) == 50_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 250_000 < Limits().max_bytes


def test_a_file_longer_than_the_system_says_is_read_to_its_end_or_to_the_limit(fetcher: Fetcher) -> None:
    path = Path("/proc/filesystems")
    assert path.stat().st_size == 0
    assert fetcher(str(path)) == path.read_bytes()
    refused(Fetcher(Limits(max_bytes=20)), str(path), "too_many_bytes", "21 bytes or more; 20 are allowed")


# Object stores


def test_object_store(fetcher: Fetcher) -> None:
    with fsspec.open("memory://shop/a.jpg", "wb") as file:
        file.write(picture_bytes())
    with fsspec.open("memory://shop/huge.jpg", "wb") as file:
        file.write(bytes(100_001))
    assert fetcher("memory://shop/a.jpg") == picture_bytes()
    refused(fetcher, "memory://shop/none.jpg", "not_found", "no such object; correct the catalogue")
    refused(fetcher, "memory://shop/huge.jpg", "too_many_bytes", "100000 are allowed")
    refused(fetcher, "gopherus://shop/a.jpg", "unsupported_location", r"allowed are a path, file, http\(s\), s3, gs")


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gs")])
def test_object_store_without_its_package(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python then finds no such package, where it is installed too
    with pytest.raises(MissingExtra, match=rf"`{package}`. Install it: pip install 'agpis\[{extra}\]'") as caught:
        fetcher(f"{scheme}://bucket/a.jpg")
    assert caught.value.code == "missing_extra"


def test_object_store_that_fails(fetcher: Fetcher, naps: Naps, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 this is no archive")
    location = f"zip://a.jpg::{(tmp_path / 'bad.zip').as_uri()}"
    refused(fetcher, location, "read_failed", "BadZipFile: File is not a zip file")


def test_object_that_fails_while_read_is_tried_again(fetcher: Fetcher, naps: Naps, tmp_path: Path) -> None:
    archive = tmp_path / "good.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", picture_bytes())
    location = f"zip://a.jpg::{archive.as_uri()}"
    assert fetcher(location) == picture_bytes()
    data = bytearray(archive.read_bytes())
    data[len(data) // 3] ^= 255  # a checksum no longer fits
    archive.write_bytes(data)
    refused(fetcher, location, "read_failed", "BadZipFile: Bad CRC-32 .*, in 3 attempts")
    assert len(naps.seconds) == 2


# HTTP


def test_http(server: ImageServer, fetcher: Fetcher, naps: Naps) -> None:
    assert fetcher(server.url("/ok.jpg")) == server.image
    assert fetcher(server.url("/ok.jpg").replace("http", "HTTP", 1)) == server.image
    assert fetcher(server.url("/wrong-type")) == server.image
    assert fetcher(server.url("/gzip")) == server.image
    assert naps.seconds == []


def test_connections_are_used_again(server: ImageServer, fetcher: Fetcher) -> None:
    for _ in range(5):
        fetcher(server.url("/ok.jpg"))
    assert len(server.ports) == 1


@pytest.mark.parametrize(
    ("path", "code", "match"),
    [
        ("/none.jpg", "not_found", "HTTP 404; correct the address"),
        ("/status?410", "not_found", "HTTP 410"),
        ("/status?401", "forbidden", "HTTP 401; the server wants a login"),
        ("/status?403", "forbidden", "HTTP 403"),
        ("/status?400", "http_status", "HTTP 400; 200 was expected"),
        ("/status?206", "http_status", "HTTP 206"),
        ("/loop", "too_many_redirects", "more than 5 redirects; name the last one"),
        ("/redirect?file:///etc/passwd", "redirect_refused", "to 'file:///etc/passwd'; only http and https"),
        ("/redirect?s3://bucket/a.jpg", "redirect_refused", "only http and https are followed"),
        ("/redirect-nowhere", "redirect_refused", "HTTP 302 to ''"),
        ("/announced", "too_many_bytes", "999999999999 bytes or more; 100000 are allowed"),
        ("/endless", "too_many_bytes", "100000 are allowed"),
        ("/gzip-bomb", "too_many_bytes", "100001 bytes or more; 100000 are allowed"),
        ("/not-gzip", "bad_encoding", "not the gzip it claims to be"),
        ("/brotli", "bad_encoding", "content encoding 'br'; allowed are gzip and deflate"),
    ],
)
def test_http_refusals_are_final(
    server: ImageServer, fetcher: Fetcher, naps: Naps, path: str, code: str, match: str
) -> None:
    refused(fetcher, server.url(path), code, match)
    assert naps.seconds == []
    assert fetcher(server.url("/ok.jpg")) == server.image, "the fetcher is usable afterwards"


@pytest.mark.parametrize(
    ("path", "code", "match"),
    [
        ("/busy", "rate_limited", "HTTP 429, too many requests, in 3 attempts"),
        ("/status?500", "server_error", "HTTP 500, in 3 attempts"),
        ("/status?503", "server_error", "HTTP 503, in 3 attempts"),
        ("/drip-headers", "read_timeout", r"silent for 0.6 s, or not done in 1.2 s, in 3 attempts"),
        ("/drip-body", "read_timeout", "not done in 1.2 s"),
        ("/silent", "read_timeout", "silent for 0.6 s"),
        ("/stalls", "read_timeout", "silent for 0.6 s"),
        ("/short", "truncated", "the transfer broke off"),
        ("/short-chunk", "truncated", "the transfer broke off"),
        ("/hang-up", "connection_failed", "not an HTTP answer"),
        ("/not-http", "connection_failed", "not an HTTP answer"),
    ],
)
def test_http_troubles_are_tried_again(
    server: ImageServer, fetcher: Fetcher, naps: Naps, path: str, code: str, match: str
) -> None:
    start = time.monotonic()
    refused(fetcher, server.url(path), code, match)
    assert time.monotonic() - start < 3 * 1.2 + 3
    assert server.hits[path.split("?")[0]] == 3
    assert len(naps.seconds) == 2
    assert 0.5 <= naps.seconds[0] <= 1.5
    assert 1.0 <= naps.seconds[1] <= 3.0


def test_jitter_differs(server: ImageServer, fetcher: Fetcher, naps: Naps) -> None:
    for _ in range(3):
        refused(fetcher, server.url("/busy"), "rate_limited", "429")
    assert len(set(naps.seconds)) == 6


def test_retry_after(server: ImageServer, fetcher: Fetcher, naps: Naps) -> None:
    assert fetcher(server.url("/busy-once.a?7")) == server.image
    assert fetcher(server.url("/busy-once.b?9999999")) == server.image, "capped"
    assert fetcher(server.url("/busy-once.c?soon")) == server.image, "not a number: back-off"
    assert naps.seconds[:2] == [7.0, QUICK.max_wait]
    assert 0.5 <= naps.seconds[2] <= 1.5


def test_retry_after_as_a_date(server: ImageServer, fetcher: Fetcher, naps: Naps) -> None:
    date = email.utils.formatdate(time.time() + 12, usegmt=True)
    fetcher(server.url(f"/busy-once.d?{quote(date)}"))
    assert 9 <= naps.seconds[0] <= 13


def test_comes_good_after_errors(server: ImageServer, fetcher: Fetcher, naps: Naps) -> None:
    assert fetcher(server.url("/error-twice")) == server.image
    assert fetcher(server.url("/short-once")) == server.image
    assert len(naps.seconds) == 3


def test_no_retries(server: ImageServer, naps: Naps) -> None:
    with Fetcher(Limits(retries=0), sleep=naps) as fetcher:
        refused(fetcher, server.url("/busy"), "rate_limited", "in 1 attempts")
    assert server.hits["/busy"] == 1
    assert naps.seconds == []


def test_nobody_listens(fetcher: Fetcher, naps: Naps) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused(fetcher, f"http://127.0.0.1:{port}/a.jpg", "connection_failed", "the connection failed .*, in 3 attempts")
    assert len(naps.seconds) == 2


def test_https_to_a_plain_server(server: ImageServer, fetcher: Fetcher) -> None:
    refused(fetcher, server.url("/ok.jpg").replace("http", "https", 1), "connection_failed", "SSL")


def test_connect_timeout(fetcher: Fetcher) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # nobody accepts: once the queue is full the kernel lets connections wait
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(full.getsockname())
            waiting.append(client)
        try:
            port = full.getsockname()[1]
            refused(fetcher, f"http://127.0.0.1:{port}/a.jpg", "connect_timeout", "no connection in 0.6 s, in 3 att")
        finally:
            for client in waiting:
                client.close()


@pytest.mark.parametrize(
    ("location", "match"),
    [
        ("http://", "names no host"),
        ("http:///a.jpg", "names no host"),
        ("http://[::1/a.jpg", "not an address"),
        ("http://127.0.0.1:99999/a.jpg", "or no port"),
        ("https://a" + "b" * 70000 + ".jpg", "not an address"),
    ],
)
def test_addresses_that_are_none(fetcher: Fetcher, location: str, match: str) -> None:
    refused(fetcher, location, "bad_location", match)


def test_bodies_that_are_no_images(server: ImageServer, fetcher: Fetcher) -> None:
    for path, code, match in (("/html", "html", "a web page"), ("/empty", "empty", "there are no bytes")):
        with pytest.raises(ImageError, match=match) as caught:
            decode(fetcher(server.url(path)))
        assert caught.value.code == code


def test_redirects_are_followed(server: ImageServer, fetcher: Fetcher) -> None:
    assert fetcher(server.url("/redirect?/redirect?/ok.jpg")) == server.image
    assert fetcher(server.url(f"/redirect?{server.url('/ok.jpg')}")) == server.image


@pytest.mark.parametrize("per_host", [2, 6])
def test_requests_per_host_are_bounded(per_host: int) -> None:
    with (
        ImageServer() as server,
        Fetcher(Limits(per_host=per_host)) as fetcher,
        ThreadPoolExecutor(8) as pool,
    ):
        assert list(pool.map(fetcher, [server.url(f"/slow.{i}") for i in range(24)])) == [server.image] * 24
    assert per_host - 1 <= server.peak <= per_host


def test_a_host_that_hangs_does_not_hold_up_others(server: ImageServer) -> None:
    limits = Limits(per_host=1, read_timeout=2, retries=0)
    with Fetcher(limits) as fetcher:
        thread = threading.Thread(target=refused, args=(fetcher, server.url("/silent"), "read_timeout", "2 s"))
        thread.start()
        time.sleep(0.1)
        start = time.monotonic()
        fetcher(server.url("/ok.jpg").replace("127.0.0.1", "localhost"))
        assert time.monotonic() - start < 1.5
        thread.join()


def test_deadline_does_not_leak_into_the_next_request(server: ImageServer) -> None:
    with Fetcher(Limits(total_timeout=0.6, retries=0)) as fetcher:
        fetcher(server.url("/ok.jpg"))
        time.sleep(0.7)
        assert fetcher(server.url("/ok.jpg")) == server.image


def test_proxy_from_the_environment(server: ImageServer, monkeypatch: pytest.MonkeyPatch, naps: Naps) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    with Fetcher(QUICK, sleep=naps) as fetcher:
        assert fetcher("http://shop.invalid/ok.jpg") == server.image
        refused(fetcher, "http://shop.invalid/drip-headers", "read_timeout", "not done in 1.2 s")


def test_pickles_and_closes(server: ImageServer) -> None:
    with Fetcher(QUICK) as fetcher:
        fetcher(server.url("/ok.jpg"))
        other = pickle.loads(pickle.dumps(fetcher))
    with other:
        assert other.limits == QUICK
        assert other(server.url("/ok.jpg")) == server.image
    assert pickle.loads(pickle.dumps(QUICK)) == QUICK


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("max_bytes", 0, "Limits.max_bytes must be over 0, got 0"),
        ("per_host", 0, "Limits.per_host must be over 0, got 0"),
        ("retries", -1, "Limits.retries must be 0 or more, got -1"),
    ],
)
def test_limits_that_cannot_be_meant(name: str, value: int, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        Limits(**{name: value})
