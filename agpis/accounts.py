"""Who may review: password hashes (argon2id), sessions by random token, and a limit on failed logins.

The browser holds a token of 256 random bits; the store holds its SHA-256, so that a stolen database opens no session.
The mark against cross-site requests is another hash of the same token: who knows it has read a page of that session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from agpis.errors import MissingExtra, SettingsError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from agpis.records import Reviewer, Session
    from agpis.store import Store

SESSION = timedelta(hours=12)
"""How long a login lasts: a working day."""
WINDOW = timedelta(minutes=15)
"""Failed logins count for that long."""
MAX_BY_BOTH = 8
"""Failures of one account from one address within the window; more are refused, the right password too."""
MAX_BY_NAME = 40
"""The same for an account from all addresses: higher, so that a stranger does not lock a reviewer out at once."""
MAX_BY_ADDRESS = 60
"""The same for one address and all accounts; a whole office may sit behind it."""
SHORTEST, LONGEST = 10, 1024
"""Letters of a password."""

_HASHING = threading.Semaphore(2)
"""Each hash takes 64 MiB and some 50 ms: a flood of logins must not take all of the machine."""


class Refused(Exception):
    """A login that failed. `code` is `bad_login`, or `too_many_logins`, which no password would have changed."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def new_token() -> str:
    """256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What the store keeps of a session's token."""
    return hashlib.sha256(b"session:" + token.encode()).hexdigest()


def csrf_mark(token: str) -> str:
    """The mark that every POST of a session must carry. Does not reveal the token."""
    return hashlib.sha256(b"csrf:" + token.encode()).hexdigest()


def same(first: str, second: str) -> bool:
    """Compare two secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(first.encode("utf-8", "replace"), second.encode("utf-8", "replace"))


class Accounts:
    """Logins on top of a store; thread-safe. Several processes share their limits through the store."""

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        hasher: PasswordHasher | None = None,
    ) -> None:
        """`hasher`: argon2id with RFC 9106's second recommendation, 3 passes over 64 MiB, where none is given."""
        self._store = store
        self._now = now
        self._hasher = hasher or _hasher()
        self._nobody = ""

    def add(self, name: str, password: str, *, admin: bool = False) -> Reviewer:
        """Make an account. Raises SettingsError (`bad_password`) and StoreError (`reviewer_exists`, `bad_name`)."""
        return self._store.add_reviewer(name, self._hash(password), admin=admin)

    def set_password(self, name: str, password: str) -> None:
        """Change it, which closes all sessions. Raises SettingsError (`bad_password`), StoreError."""
        self._store.set_password(name, self._hash(password))

    def sign_in(self, name: str, password: str, address: str) -> str:
        """The token of a new session. Raises Refused."""
        reviewer = self.confirm(name, password, address)
        if self._hasher.check_needs_rehash(reviewer.password_hash):
            self._store.set_password(reviewer.name, self._hash(password))
        token = new_token()
        self._store.open_session(reviewer.name, token_hash(token), self._now() + SESSION)
        return token

    def confirm(self, name: str, password: str, address: str) -> Reviewer:
        """The account with that name and password. Raises Refused.

        An unknown name takes as long as a wrong password and is refused with the same words. Names are case-blind.
        """
        key = name.strip().casefold()[:200]
        if self._too_many(key, address):
            raise Refused("too_many_logins")
        # Noted before the check and taken back after it: guesses sent all at once count as well.
        self._store.note_failed_login(key, address)
        reviewer = self._store.reviewer(name.strip()) if "\0" not in name else None
        self._nobody = self._nobody or self._hasher.hash(new_token())
        known = self._verify(reviewer.password_hash if reviewer else self._nobody, password)
        if reviewer is None or not known or reviewer.disabled:
            raise Refused("bad_login")
        self._store.clear_failed_logins(key)
        return reviewer

    def _too_many(self, key: str, address: str) -> bool:
        since = self._now() - WINDOW
        return (
            self._store.failed_logins(since, name=key, address=address) >= MAX_BY_BOTH
            or self._store.failed_logins(since, name=key) >= MAX_BY_NAME
            or self._store.failed_logins(since, address=address) >= MAX_BY_ADDRESS
        )

    def session(self, token: str) -> Session | None:
        """The session of a token, if it is open."""
        return self._store.session(token_hash(token)) if token else None

    def sign_out(self, token: str) -> None:
        """Close the session; others of the same account stay open."""
        self._store.close_session(token_hash(token))

    def _hash(self, password: str) -> str:
        if not SHORTEST <= len(password) <= LONGEST:
            raise SettingsError(
                "bad_password",
                f"The password has {len(password)} characters; {SHORTEST} to {LONGEST} are allowed. Take a sentence.",
            )
        with _HASHING:
            return str(self._hasher.hash(password))

    def _verify(self, hashed: str, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            with _HASHING:
                return bool(self._hasher.verify(hashed, password[: LONGEST + 1]))
        except (VerificationError, InvalidHashError):
            return False


def _hasher() -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ImportError:
        raise MissingExtra("argon2-cffi", "web", "Accounts of reviewers") from None
    return PasswordHasher()
