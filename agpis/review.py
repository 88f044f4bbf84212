"""The review pages as an ASGI application, and the server that runs it. docs/reviewing.md says how to set it up."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from agpis.accounts import Accounts
from agpis.errors import AgpisError, SettingsError, StoreError
from agpis.review_desk import Desk, Forbidden, Options, SignedOut, answer
from agpis.review_guard import LOCAL, MAX_BODY, App, Guard
from agpis.review_login import router as login
from agpis.review_pages import router as pages
from agpis.review_work import Refusal
from agpis.review_work import router as work
from agpis.rulebook import Rulebook
from agpis.sources import Pictures
from agpis.store import Store
from agpis.wording import WORDS, say

log = logging.getLogger("agpis.review")


def make_app(
    store: Store,
    rulebook: Rulebook,
    options: Options | None = None,
    *,
    pictures: Pictures | None = None,
    accounts: Accounts | None = None,
) -> FastAPI:
    """The application on an open store. The store stays the caller's to close; `pictures` are closed with the app."""
    desk = Desk(store, rulebook, options or Options(), pictures or Pictures(), accounts or Accounts(store))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.pictures.close()

    app = FastAPI(title="AGPIS review", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.desk = desk
    for router in (login, work, pages):
        app.include_router(router)
    app.add_middleware(Guard, refusal=_refusal(desk), hosts=LOCAL if desk.options.open else ())
    _add_handlers(app)
    return app


def _refusal(desk: Desk) -> Callable[[MutableMapping[str, Any], int], App]:
    """What the guard answers, before any route is reached."""

    def refuse(scope: MutableMapping[str, Any], status: int) -> App:
        request = Request(dict(scope, app=None))
        log.warning("refused %s %s with %d", scope["method"], scope["path"], status)
        return _problem(desk, request, status)

    return refuse


def _problem(desk: Desk, request: Request, status: int, message: str = "") -> Response:
    """A problem in words: JSON for a call, a page for a reader."""
    known = status if f"problem_{status}" in WORDS else 422 if 400 <= status < 500 else 500
    title, hint = say(f"problem_{known}"), message or say(f"problem_{known}_hint", n=MAX_BODY)
    if request.url.path.startswith(("/api/", "/image/")):
        return answer({"code": f"http_{status}", "message": f"{title} {hint}"}, status)
    return desk.page(request, "problem.html", status, title=title, hint=hint)


def _add_handlers(app: FastAPI) -> None:
    desk: Desk = app.state.desk

    @app.exception_handler(SignedOut)
    def signed_out(request: Request, error: SignedOut) -> Response:
        if request.url.path.startswith(("/api/", "/image/")):
            return answer({"code": "signed_out", "message": say("signed_out")}, 401)
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        login = request.url.replace(path="/login", query="").include_query_params(next=wanted)
        return RedirectResponse(f"/login?{login.query}", 303)

    @app.exception_handler(Forbidden)
    def forbidden(request: Request, error: Forbidden) -> Response:
        return _problem(desk, request, 403, " ")

    @app.exception_handler(Refusal)
    def refused(request: Request, error: Refusal) -> Response:
        return answer({"code": error.code, "message": error.message}, error.status)

    @app.exception_handler(RequestValidationError)
    def not_meant(request: Request, error: RequestValidationError) -> Response:
        return _problem(desk, request, 422)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return _problem(desk, request, error.status_code)

    @app.exception_handler(AgpisError)
    def ours(request: Request, error: AgpisError) -> Response:
        if isinstance(error, SettingsError) or getattr(error, "code", "") == "unknown_decision":
            return _problem(desk, request, 422 if isinstance(error, SettingsError) else 404)
        log.error("%s %s: %s [%s]", request.method, request.url.path, error.message, error.code)
        return _problem(desk, request, 503 if isinstance(error, StoreError) else 500)


def serve(app: FastAPI, *, host: str, port: int, proxies: str = "", ready: Callable[[int], None] | None = None) -> None:
    """Run the app until Ctrl-C.

    Args:
        host: address to listen at; in open mode one of this machine.
        port: 0 for any that is free.
        proxies: addresses whose X-Forwarded-* headers are believed, comma-separated; "*" for all.
        ready: told the port once it listens.

    Raises SettingsError (`open_host`, `port_taken`).
    """
    import socket

    import uvicorn

    desk: Desk = app.state.desk
    if desk.options.open and host not in ("127.0.0.1", "localhost", "::1"):
        raise SettingsError(
            "open_host", f"--open listens on this machine only, not at {host}: without accounts, anyone could review."
        )
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SettingsError(
            "port_taken",
            f"Cannot listen at {host}:{port}: {error.strerror}. Choose another --port; 0 is any free.",
        ) from error
    # asyncio does not set it on sockets of protocol 0, as this one is: each answer would wait some 40 ms for the
    # acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if ready is not None:
        ready(listener.getsockname()[1])
    config = uvicorn.Config(
        app, log_level="warning", proxy_headers=bool(proxies), forwarded_allow_ips=proxies or None, server_header=False
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
        uvicorn.Server(config).run([listener])
