"""Reviewers' accounts, their sessions, and logins that failed. Hashing of passwords and tokens is the caller's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from agpis.errors import StoreError
from agpis.leases import release
from agpis.records import Reviewer, Session
from agpis.schema import failed_logins, plain, reviewers, sessions

REMEMBERED = timedelta(days=2)
"""How long a failed login is kept."""


def folded(name: str) -> str:
    """The name by which an account is found."""
    return plain(name).casefold()


def add(connection: sa.Connection, now: datetime, name: str, password_hash: str, admin: bool) -> Reviewer:
    """See `Store.add_reviewer`."""
    if not 0 < len(name) <= 100 or plain(name) != name or name != name.strip() or not name.isprintable():
        raise StoreError(
            "bad_name", f"found the name {name[:60]!r}; wanted 1 to 100 printable letters, no space around"
        )
    if find(connection, name) is not None:
        raise StoreError("reviewer_exists", f"there is a reviewer {name!r} already; choose another name")
    row = {
        "folded": folded(name),
        "name": name,
        "password_hash": password_hash,
        "admin": int(admin),
        "disabled": 0,
        "created": now,
    }
    connection.execute(reviewers.insert().values(row))
    return Reviewer(name=name, password_hash=password_hash, admin=admin, disabled=False, created=now)


def find(connection: sa.Connection, name: str) -> Reviewer | None:
    """See `Store.reviewer`."""
    row = connection.execute(sa.select(reviewers).where(reviewers.c.folded == folded(name))).first()
    return None if row is None else _reviewer(row)


def everyone(connection: sa.Connection) -> list[Reviewer]:
    """See `Store.reviewers`."""
    return sorted(map(_reviewer, connection.execute(sa.select(reviewers))), key=lambda one: one.name.casefold())


def _reviewer(row: Any) -> Reviewer:
    return Reviewer(
        name=row.name,
        password_hash=row.password_hash,
        admin=bool(row.admin),
        disabled=bool(row.disabled),
        created=row.created,
    )


def change(connection: sa.Connection, name: str, **values: Any) -> None:
    """Set columns of an account and close its sessions. Raises StoreError (`unknown_reviewer`)."""
    changed = connection.execute(
        reviewers.update().where(reviewers.c.folded == folded(name)).values(**values).returning(reviewers.c.name)
    ).first()
    if changed is None:
        raise _unknown(name)
    connection.execute(sessions.delete().where(sessions.c.reviewer == folded(name)))


def disable(connection: sa.Connection, now: datetime, name: str, disabled: bool) -> None:
    """See `Store.disable`."""
    change(connection, name, disabled=int(disabled))
    account = find(connection, name)
    if disabled and account is not None:
        release(connection, now, account.name, None)


def _unknown(name: str) -> StoreError:
    return StoreError("unknown_reviewer", f"found no reviewer {name[:60]!r} who may log in")


def open_session(connection: sa.Connection, now: datetime, name: str, token_hash: str, expires: datetime) -> Session:
    """See `Store.open_session`."""
    reviewer = find(connection, name)
    if reviewer is None or reviewer.disabled:
        raise _unknown(name)
    connection.execute(sessions.delete().where(sessions.c.expires <= now))
    row = {"token_hash": plain(token_hash), "reviewer": folded(name), "created": now, "expires": expires}
    connection.execute(sessions.insert().values(row))
    return Session(reviewer=reviewer, created=now, expires=expires)


def session(connection: sa.Connection, now: datetime, token_hash: str) -> Session | None:
    """See `Store.session`."""
    wanted = (
        sa.select(reviewers, sessions.c.created.label("opened"), sessions.c.expires)
        .join_from(sessions, reviewers)
        .where(sessions.c.token_hash == plain(token_hash), sessions.c.expires > now, reviewers.c.disabled == 0)
    )
    row = connection.execute(wanted).first()
    return None if row is None else Session(reviewer=_reviewer(row), created=row.opened, expires=row.expires)


def close_session(connection: sa.Connection, token_hash: str) -> None:
    """See `Store.close_session`."""
    connection.execute(sessions.delete().where(sessions.c.token_hash == plain(token_hash)))


def note_failed_login(connection: sa.Connection, now: datetime, name: str, address: str) -> None:
    """See `Store.note_failed_login`."""
    connection.execute(failed_logins.delete().where(failed_logins.c.time < now - REMEMBERED))
    row = {"name": folded(name)[:200], "address": plain(address)[:200], "time": now}
    connection.execute(failed_logins.insert().values(row))


def count_failed_logins(connection: sa.Connection, since: datetime, name: str, address: str) -> int:
    """See `Store.failed_logins`."""
    c = failed_logins.c
    wanted = sa.select(sa.func.count()).select_from(failed_logins).where(c.time >= since)
    if name:
        wanted = wanted.where(c.name == folded(name)[:200])
    if address:
        wanted = wanted.where(c.address == plain(address)[:200])
    return connection.execute(wanted).scalar_one()


def clear_failed_logins(connection: sa.Connection, name: str) -> None:
    """See `Store.clear_failed_logins`."""
    connection.execute(failed_logins.delete().where(failed_logins.c.name == folded(name)[:200]))
