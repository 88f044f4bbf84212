"""The pictures of a decision for a reviewer's screen: only from the decision's own sources, made smaller, kept.

A picture is asked for by decision and number, never by a path. Its uri comes from the decision, and is a place in a
catalogue that strangers may have written: so a file must lie below the decision's base (symbolic links followed), an
address must be http(s), s3 or gs, and a relative one must stay below the base's own address.
"""

from __future__ import annotations

import io
import posixpath
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from agpis.data import Decision
from agpis.errors import AgpisError, ImageError
from agpis.fetch import Fetcher
from agpis.images import Limits, decode, thumbnail

REMOTE = ("http", "https", "s3", "s3a", "gs", "gcs")
"""Schemes that a picture may be fetched by; others of fsspec reach local files."""

WIDTHS = {"small": 280, "large": 1000, "zoom": 2400}
"""Names of the sizes that are served -> longer side in pixels; never enlarged."""

LIMITS = Limits(connect_timeout=5.0, read_timeout=10.0, total_timeout=25.0, retries=1, max_wait=5.0)
"""For a person who waits: fewer and shorter attempts than a run makes."""

OUTSIDE = "outside_base"
"""Code of a picture whose place the decision may not name."""


def uris(decision: Decision) -> tuple[str, ...]:
    """The pictures of a decision by number: its candidates in their order, then what only the sequence names."""
    known = dict.fromkeys(candidate.uri for candidate in decision.candidates)
    return tuple({**known, **dict.fromkeys(decision.sequence)})


def location(uri: str, base: str) -> str:
    """Where the picture may be read. Raises ImageError (`outside_base`, `unsupported_location`, `bad_location`)."""
    if not uri.strip() or "\0" in uri:
        raise ImageError("bad_location", "The decision names no place for this picture.")
    scheme = _scheme(uri)
    if scheme in REMOTE:
        return uri
    if scheme not in ("", "file"):
        raise ImageError("unsupported_location", f"Pictures are not read from {scheme} addresses.")
    if scheme == "" and _scheme(base) in REMOTE:
        return _below_address(uri, base)
    if _scheme(base) not in ("", "file"):
        raise ImageError("unsupported_location", f"Pictures are not read from {_scheme(base)} addresses.")
    return _below_folder(_path(uri), _path(base))


def _scheme(text: str) -> str:
    if "://" in text:
        return text.split("://", 1)[0].lower()
    return "data" if text[:5].lower() == "data:" else ""


def _path(text: str) -> str:
    """A plain path, or that of a file URL of this machine."""
    if _scheme(text) != "file":
        return text
    parts = urlsplit(text)
    if parts.netloc.lower() not in ("", "localhost"):
        raise ImageError("bad_location", "A file URL of another host is not read.")
    return unquote(parts.path)


def _below_folder(path: str, base: str) -> str:
    if not base or "\0" in path:
        raise ImageError(OUTSIDE, "The decision has no folder that its pictures would lie below.")
    root = Path(base).resolve()
    found = (root / path).resolve()
    if not found.is_relative_to(root):
        raise ImageError(OUTSIDE, "The picture lies outside the folder of its decision.")
    return str(found)


def _below_address(uri: str, base: str) -> str:
    """`uri` on `base`, which it must stay below however its path is spelt (%2e%2e, backslashes)."""
    plain = uri
    while (once := unquote(plain)) != plain:
        plain = once
    steps = plain.replace("\\", "/").split("?", 1)[0].split("#", 1)[0].split("/")
    if plain.startswith(("/", "\\")) or ".." in steps:
        raise ImageError(OUTSIDE, "The picture lies outside the address of its decision.")
    return posixpath.join(base, uri)


@dataclass(frozen=True, slots=True)
class Served:
    """One picture, ready to be sent."""

    data: bytes
    media_type: str
    failed: str = ""
    """Code of what went wrong: then `data` is a placeholder that says so."""


class Pictures:
    """Reduced pictures, the latest kept in memory; thread-safe. Close it to close its connections.

    The same picture asked for twice at a time is fetched once. Failures are not kept, so that a server which is back
    is found again.
    """

    def __init__(self, fetch: Callable[[str], bytes] | None = None, *, memory: int = 256 * 1024 * 1024) -> None:
        """`memory`: bytes of reduced pictures that are kept, about 60 kB a large one."""
        self._fetcher = Fetcher(LIMITS)
        self._fetch = fetch or self._fetcher
        self._memory = memory
        self._kept: OrderedDict[tuple[str, str], Served] = OrderedDict()
        self._size = 0
        self._running: dict[tuple[str, str], Future[Served]] = {}
        self._lock = threading.Lock()
        self.threads = ThreadPoolExecutor(8, thread_name_prefix="pictures")
        """For a server to fetch in: a slow picture server must not hold up those who do not ask for pictures."""

    def close(self) -> None:
        """Ends the threads and the connections."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self._fetcher.close()

    def get(self, decision: Decision, base: str, number: int, size: str) -> Served | None:
        """Picture `number` of `uris(decision)` in one of WIDTHS; None where there is no such number.

        Never raises for what is wrong with the picture or its place: then it is a placeholder with the code. Raises
        KeyError on an unknown `size`.
        """
        longest = WIDTHS[size]
        names = uris(decision)
        if not 0 <= number < len(names):
            return None
        try:
            place = location(names[number], base)
        except ImageError as error:
            return placeholder(error.code)
        except (OSError, ValueError, RuntimeError):  # a name too long, or a circle of links
            return placeholder("bad_location")
        return self._shared((place, size), lambda: self._made(place, longest))

    def _shared(self, key: tuple[str, str], make: Callable[[], Served]) -> Served:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            waiting = self._running.get(key)
            mine: Future[Served] = waiting or self._running.setdefault(key, Future())
        if waiting is not None:
            return waiting.result()
        try:
            served = make()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(served)
        finally:
            with self._lock:
                del self._running[key]
        if not served.failed:
            self._keep(key, served)
        return served

    def _keep(self, key: tuple[str, str], served: Served) -> None:
        with self._lock:
            self._kept[key] = served
            self._size += len(served.data)
            while self._size > self._memory and self._kept:
                self._size -= len(self._kept.popitem(last=False)[1].data)

    def _made(self, place: str, longest: int) -> Served:
        try:
            picture = decode(self._fetch(place), target=longest, limits=LIMITS)
        except AgpisError as error:  # MissingExtra too: s3 without its package
            return placeholder(error.code)
        if longest <= WIDTHS["small"]:
            return Served(thumbnail(picture.pixels, longest), "image/webp")
        return Served(_reduced(Image.fromarray(picture.pixels), longest), "image/webp")


def _reduced(image: Image.Image, longest: int) -> bytes:
    """WebP good enough to see compression damage of the source in, longer side at most `longest` pixels."""
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=88, method=1)
    return out.getvalue()


def placeholder(code: str) -> Served:
    """A drawn card that says why there is no picture; `code` is one of `images.IMAGE_CODES` or `outside_base`."""
    words = "".join(letter for letter in code if letter.isalnum() or letter == "_").replace("_", " ")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="400" viewBox="0 0 400 400">'
        '<rect width="400" height="400" fill="#f1efea"/>'
        '<path d="M130 140h140v110H130zM130 225l40-40 30 30 25-20 45 40" fill="none" stroke="#8b877d"'
        ' stroke-width="6"/>'
        '<text x="200" y="300" text-anchor="middle" font-family="sans-serif" font-size="22" fill="#55514a">No picture'
        f'</text><text x="200" y="330" text-anchor="middle" font-family="sans-serif" font-size="17" fill="#55514a">'
        f"{words}</text></svg>"
    )
    return Served(svg.encode(), "image/svg+xml", code)
