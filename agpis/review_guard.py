"""What every request to the review pages passes, before any page sees it: host, size, origin and mark; and headers.

A POST carries a form or JSON of limited size, comes from our own pages (Sec-Fetch-Site, else Origin), and has the mark
that only a page of the same session knows: in the form's field `csrf`, or in the header `X-CSRF`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from agpis.accounts import csrf_mark, same

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Refusal = Callable[[MutableMapping[str, Any], int], App]
"""(scope, status) -> the answer to a request that is refused."""

MAX_BODY = 64 * 1024
"""Bytes of a request; the longest feedback in four-byte letters fits."""
SESSION, VISIT = "agpis_session", "agpis_visit"
"""Cookies: of who has signed in, and of who has not yet (or need not)."""
LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""Names under which a server on this machine answers: another name that leads here is DNS rebinding."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""On every response, unless it says otherwise itself."""


class Guard:
    """ASGI middleware. `hosts`: the names it answers to, without port; empty for any."""

    def __init__(self, app: App, *, refusal: Refusal, hosts: Collection[str] = ()) -> None:
        self._app, self._refusal, self._hosts = app, refusal, frozenset(hosts)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name.lower() for name, _ in message["headers"]}
                missing = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in named]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            await self._refusal(scope, 421)(scope, receive, guarded)
        elif scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, guarded)
        else:
            await self._post(scope, headers, receive, guarded)

    async def _post(
        self, scope: MutableMapping[str, Any], headers: dict[str, str], receive: Receive, send: Send
    ) -> None:
        body = await _body(headers, receive)
        if body is None:
            await self._refusal(scope, 413)(scope, receive, send)
            return
        form: dict[str, str] = {}
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded":
            form = _form(body)
        given = headers.get("x-csrf", "") if kind == "application/json" else form.get("csrf", "")
        token = cookie_token(cookies(headers.get("cookie", "")))
        if not (_own_page(headers) and token and given and same(given, csrf_mark(token))):
            await self._refusal(scope, 403)(scope, receive, send)
            return
        scope.setdefault("state", {})["form"] = form
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()  # waits for the client to go away
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def cookies(header: str) -> dict[str, str]:
    """Name -> value of a Cookie header; nothing where it cannot be read."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


def cookie_name(kind: str, secure: bool) -> str:
    """Behind https with the prefix that keeps other hosts of the domain from setting it (RFC 6265bis, 4.1.3.2)."""
    return f"__Host-{kind}" if secure else kind


def cookie_token(found: dict[str, str], kinds: tuple[str, ...] = (SESSION, VISIT)) -> str:
    """The first token among the cookies, the prefixed ones first; "" without one."""
    names = [cookie_name(kind, secure) for kind in kinds for secure in (True, False)]
    return next((found[name] for name in names if found.get(name)), "")


def _host_name(host: str) -> str:
    return (host[: host.rindex(":")] if ":" in host and not host.endswith("]") else host).lower()


def _own_page(headers: dict[str, str]) -> bool:
    """Whether the browser says that one of our own pages has sent it. Programs send neither header."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


async def _body(headers: dict[str, str], receive: Receive) -> bytes | None:
    """The whole body; None as soon as it is over MAX_BODY, whatever length was announced."""
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY:
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:  # not UTF-8, or too many fields
        return {}
