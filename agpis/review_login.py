"""Routes of accounts: signing in and out, one's own password, and the people whom an administrator lets in."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import RedirectResponse

from agpis.accounts import LONGEST, SESSION, SHORTEST, WINDOW, Refused, new_token
from agpis.errors import SettingsError, StoreError
from agpis.review_desk import Visitor, admin, desk_of, is_secure, set_cookie, visitor
from agpis.review_guard import SESSION as SESSION_COOKIE
from agpis.review_guard import VISIT, cookie_name, cookie_token
from agpis.wording import say

router = APIRouter()
Who = Annotated[Visitor, Depends(visitor)]
Admin = Annotated[Visitor, Depends(admin)]


def with_visit(request: Request) -> Response | None:
    """A redirect that gives a token to a browser that has none; forms need one for their mark."""
    if cookie_token(dict(request.cookies)):
        return None
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    response = RedirectResponse(_own(address), 303)
    set_cookie(request, response, VISIT, new_token())
    return response


def _own(address: str) -> str:
    """`address` if it is a path of this server, else the queue: no sign-in leads to another site."""
    parts = urlsplit(address)
    plain = address.startswith("/") and not address.startswith("//") and "\\" not in address and address.isprintable()
    return quote(address, safe="/?&=%+-_.~:,") if plain and not parts.netloc and not parts.scheme else "/queue"


@router.get("/login")
def login_page(request: Request, next: str = "/queue") -> Response:
    """The form."""
    desk = desk_of(request)
    if desk.options.open:
        return RedirectResponse("/queue", 303)
    return with_visit(request) or desk.page(
        request, "login.html", next=next, name="", problem="", any_account=bool(desk.store.reviewers())
    )


@router.post("/login")
def login(request: Request) -> Response:
    """Check name and password; on to where the reader wanted to go."""
    desk, form = desk_of(request), request.state.form
    name, wanted = form.get("name", ""), form.get("next", "/queue")
    address = request.client.host if request.client else ""
    try:
        token = desk.accounts.sign_in(name, form.get("password", ""), address)
    except Refused as refused:
        problem = say(refused.code, minutes=int(WINDOW.total_seconds() // 60))
        status = 429 if refused.code == "too_many_logins" else 403
        return desk.page(request, "login.html", status, next=wanted, name=name, problem=problem, any_account=True)
    response = RedirectResponse(_own(wanted), 303)
    set_cookie(request, response, SESSION_COOKIE, token, seconds=int(SESSION.total_seconds()))
    secure = is_secure(request)
    response.delete_cookie(cookie_name(VISIT, secure), secure=secure, httponly=True, samesite="lax", path="/")
    return response


@router.post("/logout")
def logout(request: Request) -> Response:
    """Close the session and give back what its reviewer holds."""
    desk = desk_of(request)
    token = cookie_token(dict(request.cookies), (SESSION_COOKIE,))
    response = RedirectResponse("/login", 303)
    if token and not desk.options.open:
        session = desk.accounts.session(token)
        if session is not None:
            desk.store.release(session.reviewer.name)
        desk.accounts.sign_out(token)
        desk.forget(token)
        for secure in (True, False):
            name = cookie_name(SESSION_COOKIE, secure)
            response.delete_cookie(name, secure=secure, httponly=True, samesite="lax", path="/")
    return response


@router.get("/account")
def account_page(request: Request, who: Who) -> Response:
    """One's own password."""
    return desk_of(request).page(request, "account.html", visitor=who, message="", problem="", shortest=SHORTEST)


@router.post("/account")
def change_password(request: Request, who: Who) -> Response:
    """A new password for the one who knows the present one; signs out everywhere, here as well."""
    desk, form = desk_of(request), request.state.form
    address = request.client.host if request.client else ""
    problem = ""
    try:
        desk.accounts.confirm(who.name, form.get("old", ""), address)
        desk.accounts.set_password(who.name, form.get("new", ""))
    except Refused as refused:
        problem = say("wrong_password") if refused.code == "bad_login" else say(refused.code, minutes=15)
    except SettingsError as error:
        problem = error.message
    if problem:
        return desk.page(request, "account.html", 422, visitor=who, message="", problem=problem, shortest=SHORTEST)
    desk.forget(cookie_token(dict(request.cookies), (SESSION_COOKIE,)))
    return RedirectResponse("/login", 303)


@router.get("/people")
def people_page(request: Request, who: Admin) -> Response:
    """All accounts."""
    return _people(request, who)


@router.post("/people")
def change_people(request: Request, who: Admin) -> Response:
    """Add, disable or enable an account, or set its password."""
    desk, form = desk_of(request), request.state.form
    name, action, password = form.get("name", "").strip(), form.get("action", ""), form.get("password", "")
    try:
        if action == "add":
            desk.accounts.add(name, password, admin=form.get("admin") == "1")
            message = say("person_added", name=name)
        elif action == "password":
            desk.accounts.set_password(name, password)
            message = say("person_password", name=name)
        elif action == "disable" and name.casefold() == who.name.casefold():
            return _people(request, who, problem=say("not_yourself"))
        elif action in ("disable", "enable"):
            desk.store.disable(name, action == "disable")
            message = say("person_disabled" if action == "disable" else "person_added", name=name)
        else:
            return _people(request, who, problem=say("problem_422"))
    except (SettingsError, StoreError) as error:
        return _people(request, who, problem=error.message)
    return _people(request, who, message=message)


def _people(request: Request, who: Visitor, *, message: str = "", problem: str = "") -> Response:
    desk = desk_of(request)
    return desk.page(
        request,
        "people.html",
        422 if problem else 200,
        visitor=who,
        people=desk.store.reviewers(),
        message=message,
        problem=problem,
        shortest=SHORTEST,
        longest=LONGEST,
    )
