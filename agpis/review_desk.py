"""What the routes of the review pages share: store, accounts, pictures, rulebook, templates, and who is asking."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import PurePath
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import QueryParams

from agpis.accounts import Accounts, csrf_mark
from agpis.data import STATUSES
from agpis.errors import SettingsError
from agpis.records import Item, Query
from agpis.report import STATUS_TEXTS
from agpis.review_guard import SESSION, cookie_name, cookie_token
from agpis.review_item import fingerprint, rule_list, rule_name
from agpis.rulebook import Rulebook
from agpis.sources import Pictures
from agpis.store import Store
from agpis.wording import EVERYWHERE, KEYS, WORDS, say

MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
"""Of the files that come with the pages, by suffix."""
BANDS = ("0-0.3", "0.3-0.5", "0.5-0.7", "0.7-0.9", "0.9-1")
"""Confidence bands that the queue offers: low <= p_qualified < high."""
_ITEMS = 500
_SESSION_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """How the pages are served."""

    open: bool = False
    """No accounts: everybody who reaches the server is `reviewer`. Only for one person on his own machine."""
    reviewer: str = "me"
    """Name of that one person in his verdicts."""
    double: float = 0.0
    """Share of decisions that two reviewers are to judge, 0 to 1."""
    blind: bool = False
    """Nobody is shown the model's opinion, whatever he prefers."""
    seconds: float = 600.0
    """A sequence is kept for its reviewer for that long after his browser last asked."""
    https: bool = False
    """Cookies are Secure even where the request does not look like https (a proxy that does not say so)."""

    def __post_init__(self) -> None:
        if not 0 <= self.double <= 1:
            raise SettingsError("bad_double", f"--double is {self.double}; it is a share of 0 to 1.")
        if self.seconds < 30:
            raise SettingsError("bad_lease", f"A lease of {self.seconds:g} seconds is too short; 30 is the least.")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks."""

    name: str
    admin: bool


class SignedOut(Exception):
    """A page or call that needs a session was asked for without one."""


class Forbidden(Exception):
    """A page for administrators was asked for by another."""


@dataclass(slots=True)
class Desk:
    """The state of one server process; `request.app.state.desk`."""

    store: Store
    rulebook: Rulebook
    options: Options
    pictures: Pictures
    accounts: Accounts
    names: dict[str, str] = field(init=False)
    rules: list[dict[str, Any]] = field(init=False)
    static: dict[str, bytes] = field(init=False)
    """Scripts and styles: file name -> content."""
    version: str = field(init=False)
    """Mark of `static`, for its address: one for all, because scripts import each other by name."""
    _templates: Environment = field(init=False)
    _items: OrderedDict[int, Item] = field(default_factory=OrderedDict)
    _sessions: dict[str, tuple[float, Visitor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rules = rule_list(self.rulebook)
        self.names = {rule.id: rule.name for rule in self.rulebook.rules}
        self.static = _static()
        self.version = hashlib.sha256(repr(sorted(self.static.items())).encode()).hexdigest()[:12]
        loader = PackageLoader("agpis", "templates/review")
        self._templates = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._templates.globals.update(
            w=WORDS,
            say=say,
            keys=KEYS,
            status_texts=STATUS_TEXTS,
            everywhere={key: WORDS[key] for key in EVERYWHERE},
            static=f"/static/{self.version}",
            scripts=sorted(name for name in self.static if name.endswith(".js")),
            band_counts=dict.fromkeys(BANDS),
            band_name=band_name,
            status_name=lambda status: STATUS_TEXTS[status][0],
            rule_name=lambda rule: rule_name(rule, self.names),
        )
        self._templates.filters["address"] = lambda pairs: urlencode([(k, v) for k, v in pairs if v not in ("", None)])

    # Who asks

    def visitor(self, request: Request, *, lately: bool = False) -> Visitor:
        """The one who has signed in. `lately`: a check of the last seconds is good enough (pictures).

        Raises SignedOut.
        """
        if self.options.open:
            return Visitor(self.options.reviewer, admin=True)
        token = cookie_token(dict(request.cookies), (SESSION,))
        until, known = self._sessions.get(token, (0.0, None))
        if lately and known is not None and time.monotonic() < until:
            return known
        session = self.accounts.session(token)
        if session is None:
            self._sessions.pop(token, None)
            raise SignedOut
        found = Visitor(session.reviewer.name, session.reviewer.admin)
        if len(self._sessions) > 1000:
            self._sessions.clear()
        self._sessions[token] = (time.monotonic() + _SESSION_SECONDS, found)
        return found

    def forget(self, token: str) -> None:
        """A session was closed."""
        self._sessions.pop(token, None)

    def blind(self, request: Request) -> bool:
        """Whether pages hide the model's opinion: by option, or because this reviewer wants it so."""
        return self.options.blind or request.cookies.get("agpis_blind") == "1"

    # Decisions

    def item(self, number: int) -> Item:
        """The decision, its content kept for the pictures that follow. Raises StoreError (`unknown_decision`)."""
        found = self._items.get(number)
        return found if found is not None else self.keep(self.store.item(number))

    def keep(self, item: Item) -> Item:
        """Remember the content of an item."""
        self._items[item.id] = item
        while len(self._items) > _ITEMS:
            self._items.popitem(last=False)
        return item

    def picture(self, item: Item, number: int, size: str = "small") -> str:
        """Address of a picture; its mark changes with the decision, so that a browser may keep it."""
        return f"/image/{item.id}/{number}/{size}?v={fingerprint(item)}"

    # Answers

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page of HTML. `values` go to the template, where every text is escaped."""
        token = cookie_token(dict(request.cookies))
        values.setdefault("visitor", None)
        text = self._templates.get_template(template).render(
            csrf=csrf_mark(token) if token else "",
            path=request.url.path,
            open_mode=self.options.open,
            blind=self.blind(request),
            **values,
        )
        return Response(text.encode("utf-8", "replace"), status, media_type="text/html; charset=utf-8")


def answer(value: Any, status: int = 200) -> Response:
    """JSON in ASCII: half a surrogate pair in a title does not end the request."""
    return Response(json.dumps(value, allow_nan=False), status, media_type="application/json")


def _static() -> dict[str, bytes]:
    files = (resources.files("agpis") / "static").iterdir()
    return {file.name: file.read_bytes() for file in files if PurePath(file.name).suffix in MEDIA_TYPES}


def is_secure(request: Request) -> bool:
    """Whether cookies are to be sent back over https only."""
    return desk_of(request).options.https or request.url.scheme == "https"


def set_cookie(request: Request, response: Response, kind: str, token: str, *, seconds: int | None = None) -> None:
    """Give the browser a token that no script can read; without `seconds` until the browser is closed."""
    secure = is_secure(request)
    response.set_cookie(
        cookie_name(kind, secure), token, max_age=seconds, httponly=True, samesite="lax", secure=secure, path="/"
    )


def desk_of(request: Request) -> Desk:
    """The desk of the server that got the request."""
    desk: Desk = request.app.state.desk
    return desk


def visitor(request: Request) -> Visitor:
    """For Depends: who asks. Raises SignedOut."""
    return desk_of(request).visitor(request)


def admin(request: Request) -> Visitor:
    """For Depends: an administrator. Raises SignedOut, Forbidden."""
    found = visitor(request)
    if not found.admin:
        raise Forbidden
    return found


def zone_of(request: Request) -> str:
    """The reader's time zone, as his browser has told; UTC before it has."""
    name = request.cookies.get("agpis_zone", "UTC").replace("%2F", "/")
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, or a name too long
        return "UTC"


def local(moment: datetime, zone: str) -> datetime:
    """The same moment on the reader's clock."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(ZoneInfo(zone))


FILTERS = ("status", "rule", "category", "band", "bundle", "reviewed", "text")
"""Parameters of the queue's address."""


def filters_of(params: Mapping[str, str] | QueryParams) -> dict[str, str]:
    """The filters among the parameters of an address, those that ask for something."""
    found = {name: params.get(name, "").replace("\0", "").strip()[:500] for name in FILTERS}
    return {name: value for name, value in found.items() if value}


def band_name(band: str) -> str:
    """A band for a person: "30 to 50 %"."""
    low, high = band.split("-")
    return f"{100 * float(low):.0f} – {100 * float(high):.0f} %"


def query_of(filters: Mapping[str, str]) -> Query:
    """The store's query. Raises SettingsError (`bad_query`) for a status or band that cannot be."""
    status, band = filters.get("status", ""), filters.get("band", "")
    reviewed = filters.get("reviewed", "open")
    if (status and status not in STATUSES) or (band and band not in BANDS) or reviewed not in ("open", "done", "any"):
        raise SettingsError("bad_query", f"There is no filter {status or band or reviewed!r}.")
    low, high = (float(edge) for edge in band.split("-")) if band else (None, None)
    return Query(
        status=tuple(s for s in STATUSES if s == status),
        rule=filters.get("rule", ""),
        category=filters.get("category", ""),
        low=low,
        high=high,
        bundle=filters.get("bundle", ""),
        reviewed="done" if reviewed == "done" else "any" if reviewed == "any" else "open",
        text=filters.get("text", ""),
    )
