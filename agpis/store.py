"""Decisions and verdicts in SQLite (default) or PostgreSQL, for several reviewers at once.

    with open_store("reviews.db") as store:
        store.add(read_decisions(paths), base="shop")
        for item in store.lease("ann", Query()):
            store.give(Given(key=str(uuid4()), decision=item.id, reviewer="ann", accepted=True))

A decision is leased to a reviewer for a limited time; meanwhile nobody else gets it. A verdict carries a key that the
client made, so that sending it again changes nothing. Every method is one transaction: after a kill it has happened or
not. A store may be used by several threads, and a database by several processes and machines.

Times are datetimes with a zone (UTC comes out; one without a zone is taken for UTC); windows are since <= time < until.
Every method may raise StoreError (`disk_full`, `not_writable`, `database_busy`, `database_lost`, `database_failed`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from agpis.errors import MissingExtra

try:
    import sqlalchemy as sa
except ModuleNotFoundError:
    raise MissingExtra("SQLAlchemy", "web", "The store of decisions and verdicts") from None

from agpis import account_rows, decision_rows, filters, giving, leases, reviewed, verdict_rows
from agpis.consensus import Consensus, consensus
from agpis.data import Decision, Verdict
from agpis.database import Database
from agpis.records import (
    Added,
    Count,
    Day,
    Facets,
    Given,
    Group,
    Item,
    Kept,
    Listed,
    Pair,
    Past,
    Query,
    Reviewer,
    Session,
)
from agpis.schema import EPOCH
from agpis.settled import sequence_key
from agpis.verdicts import in_utc

T = TypeVar("T")
Now = Callable[[], datetime]


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


def open_store(where: str | Path, *, now: Now = utc_now, make: bool = True) -> Store:
    """The store in a SQLite file (made where there is none) or at a database URL, brought to the newest schema.

    Args:
        where: a path, `sqlite:///path`, or `postgresql://user:password@host/database`.
        now: the clock; every method that depends on the time asks it.
        make: a SQLite file where there is none; False for those who only read, whom an empty store would mislead.

    Raises:
        StoreError: `database_missing`, `database_url`, `database_unreachable`, `database_foreign` (neither empty nor
            of AGPIS), `database_newer` (of a later version of AGPIS), `not_writable`, `disk_full`, `no_folder`,
            `not_a_folder`, `database_busy`.
        MissingExtra: psycopg (`postgres`) is not installed. (Without SQLAlchemy, `web`, this module does not load.)
    """
    return Store(Database(where, make=make), now)


class Store:
    """See the module. Made by `open_store`; a context manager that closes its connections."""

    def __init__(self, database: Database, now: Now) -> None:
        self._database = database
        self._clock = now

    def _now(self) -> datetime:
        return in_utc(self._clock())

    def _read(self, work: Callable[[sa.Connection, datetime], T]) -> T:
        now = self._now()
        return self._database.read(lambda connection: work(connection, now))

    def _write(self, work: Callable[[sa.Connection, datetime], T]) -> T:
        now = self._now()
        return self._database.write(lambda connection: work(connection, now))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # Decisions ------------------------------------------------------------------------------------------------------

    def add(self, decisions: Iterable[Decision], *, base: str = "") -> Added:
        """Put decisions in; one of the same sku and bundle is left as it is. Some hundred a transaction.

        Args:
            base: folder or URL that relative uris are relative to.

        Raises StoreError `bad_decision` for an empty sku or one with a NUL or half a surrogate pair in it.
        """
        new = known = changed = 0
        for batch in decision_rows.chunks(decisions):
            added = self._write(lambda c, now, batch=batch: decision_rows.add(c, now, batch, base))  # type: ignore[misc]
            new, known, changed = new + added.new, known + added.known, changed + added.changed
        if new >= decision_rows.BATCH:
            self._database.analyze()
        return Added(new=new, known=known, changed=changed)

    def item(self, decision_id: int) -> Item:
        """The decision, without a lease. Raises StoreError `unknown_decision`."""
        return self._read(lambda c, now: decision_rows.item(c, decision_id))

    def decisions(
        self, *, since: datetime | None = None, until: datetime | None = None, bundle: str = ""
    ) -> Iterator[Decision]:
        """Decisions by the time at which they came in, the oldest first; a few hundred in memory at a time."""
        last = EPOCH, 0
        while True:
            batch = self._read(lambda c, now, last=last: decision_rows.window(c, since, until, bundle, last))  # type: ignore[misc]
            yield from (item.decision for item in batch)
            if len(batch) < decision_rows.BATCH:
                return
            last = batch[-1].added, batch[-1].id

    def bundles(self) -> dict[str, datetime]:
        """Every bundle that decisions are of, with the time of its first decision, the oldest first."""
        return self._read(lambda c, now: decision_rows.bundles(c))

    # The queue ------------------------------------------------------------------------------------------------------

    def count(self, query: Query) -> int:
        """How many decisions the query finds. Raises SettingsError (`bad_query`)."""
        return self._read(lambda c, now: filters.count(c, query))

    def find(self, query: Query, *, after: int | None = None, limit: int = 50) -> list[Listed]:
        """A page of the decisions that the query finds, in its order.

        Args:
            after: id of the last decision of the page before.
            limit: 1 to 1000.

        Raises SettingsError (`bad_query`).
        """
        return self._read(lambda c, now: filters.find(c, now, query, after, limit))

    def facets(self) -> Facets:
        """Counts of open decisions for the filters of the queue page."""
        return self._read(lambda c, now: filters.facets(c))

    def lease(
        self,
        reviewer: str,
        query: Query,
        *,
        count: int = 1,
        seconds: float = 600.0,
        double: float = 0.0,
        passing: Sequence[int] = (),
    ) -> list[Item]:
        """Give out up to `count` open decisions of the query, in its order, for `seconds` from now.

        What the reviewer holds already (or held last, if nobody took it since) and the query finds comes first, in the
        order in which he got it, with a new end of the lease. Nobody gets what another holds or what he himself has
        judged.

        Args:
            double: share of decisions, chosen by a hash of sku and bundle, that are to be judged by exactly two
                different reviewers. Decided when a decision is given out for the first time.
            passing: ids that he does not want now.

        Raises SettingsError (`bad_query`, `bad_lease`).
        """
        return self._write(
            lambda c, now: leases.lease(
                c, now, reviewer, query, count=count, seconds=seconds, double=double, passing=passing
            )
        )

    def take(self, reviewer: str, decision_id: int, seconds: float = 600.0) -> Item | None:
        """Lease this decision; None where it is not open, others hold it, or he has judged it.

        Raises StoreError `unknown_decision`.
        """
        return self._write(lambda c, now: leases.take(c, now, reviewer, decision_id, seconds))

    def renew(self, reviewer: str, decision_ids: Sequence[int], seconds: float = 600.0) -> list[int]:
        """`take` each of these that can be had; their ids, in the same order. Unknown ids are passed over."""
        return self._write(lambda c, now: leases.renew(c, now, reviewer, decision_ids, seconds))

    def release(self, reviewer: str, decision_id: int | None = None) -> int:
        """Give back one lease, or all that the reviewer has. Returns how many there were."""
        return self._write(lambda c, now: leases.release(c, now, reviewer, decision_id))

    def give(self, given: Given) -> Kept:
        """Keep a verdict and end the lease. The same key again is the same verdict.

        A lease that ran out is no obstacle while nobody else has taken the decision.

        Raises:
            LeaseLost: somebody else has the decision now, it has all the verdicts it needs, or this reviewer has
                judged it under another key.
            StoreError: `unknown_decision`; `bad_verdict`, one that contradicts itself or its decision; `verdict_key`,
                a key that was used for another decision or by another reviewer.
        """
        return self._write(lambda c, now: giving.give(c, now, given))

    def undo(self, reviewer: str, *, key: str = "", seconds: float = 600.0) -> Item | None:
        """Take back the reviewer's last verdict, or the one with this key, and lease him its decision again.

        The verdict stays in the history, marked. With a key, a retry changes nothing. None where there is no such
        verdict. `Item.until` is None where others' verdicts keep the decision closed, or he has judged it anew.
        """
        return self._write(lambda c, now: giving.undo(c, now, reviewer, key, seconds))

    # What was done --------------------------------------------------------------------------------------------------

    def history(self, sku: str) -> list[Past]:
        """Every decision of the sku and every verdict on it, the oldest first."""
        return self._read(lambda c, now: reviewed.history(c, sku))

    def seen(self, skus: Collection[str]) -> dict[str, int]:
        """How many verdicts stand on each of the skus, all its decisions together; one without any is left out."""
        return self._read(lambda c, now: reviewed.seen(c, skus))

    def day(self, reviewer: str, day: date, zone: str = "UTC") -> Day:
        """What a reviewer did on a day of an IANA time zone. Raises SettingsError (`bad_zone`)."""
        return self._read(lambda c, now: reviewed.day(c, reviewer, day, zone))

    def tally(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        by: Sequence[Group] = ("day",),
        zone: str = "UTC",
    ) -> list[Count]:
        """Counts of verdicts (undone ones left out) by any of day, bundle, category, rule and reviewer.

        Sorted by the groups in the order of `by`. By rule, a rejection that names two rules counts in both groups.
        Days are those of `zone`. Raises SettingsError (`bad_zone`, `bad_query`).
        """
        return self._read(lambda c, now: reviewed.tally(c, since, until, by, zone))

    def consensus(self, since: datetime | None = None, until: datetime | None = None) -> list[Consensus]:
        """Every sequence that was settled (`agpis.consensus`) at since <= time < until, once.

        A sequence is settled by its last verdict that decides, so that it is in one window only. Verdicts without a
        time are left out.
        """
        votes = self._read(lambda c, now: reviewed.votes(c, since, until, sequence_key))
        begin, end = since and in_utc(since), until and in_utc(until)
        return [
            one for one in consensus(votes) if (begin is None or begin <= one.time) and (end is None or one.time < end)
        ]

    def pairs(self, since: datetime | None = None, until: datetime | None = None) -> list[Pair]:
        """Decisions that two reviewers have judged, by the time of the second verdict, the oldest first."""
        return self._read(lambda c, now: reviewed.pairs(c, since, until))

    def verdicts(
        self, since: datetime | None = None, until: datetime | None = None, *, after: int | None = None
    ) -> Iterator[Verdict]:
        """Verdicts in the order in which they came in, undone ones left out: what `agpis train` reads.

        A corrected product that had no sequence comes out as its corrected sequence, accepted. A few hundred in memory
        at a time.

        Args:
            after: id of a verdict (`Kept.verdict_id`): only later ones.
        """
        last = after or 0
        while True:
            batch = self._read(lambda c, now, last=last: verdict_rows.batch(c, since, until, last))  # type: ignore[misc]
            yield from (verdict_rows.sample(one.verdict) for one in batch)
            if len(batch) < decision_rows.BATCH:
                return
            last = batch[-1].verdict_id

    def import_verdicts(self, verdicts: Iterable[Verdict]) -> Added:
        """Put in verdicts that were given elsewhere; one that is there already is left as it is.

        The same verdict is one with the same fields. It is tied to the decision of its sku and bundle where the
        store has it, which then counts as judged.
        """
        new = known = 0
        for batch in decision_rows.chunks(verdicts):
            added = self._write(lambda c, now, batch=batch: verdict_rows.add(c, now, batch))  # type: ignore[misc]
            new, known = new + added.new, known + added.known
        return Added(new=new, known=known)

    # Accounts -------------------------------------------------------------------------------------------------------

    def add_reviewer(self, name: str, password_hash: str, *, admin: bool = False) -> Reviewer:
        """Make an account. Raises StoreError `reviewer_exists` (names differ by more than case), `bad_name`."""
        return self._write(lambda c, now: account_rows.add(c, now, name, password_hash, admin))

    def reviewer(self, name: str) -> Reviewer | None:
        """The account of that name; case does not matter."""
        return self._read(lambda c, now: account_rows.find(c, name))

    def reviewers(self) -> list[Reviewer]:
        """All accounts by name, disabled ones among them."""
        return self._read(lambda c, now: account_rows.everyone(c))

    def set_password(self, name: str, password_hash: str) -> None:
        """Change the password and close the reviewer's sessions. Raises StoreError `unknown_reviewer`."""
        self._write(lambda c, now: account_rows.change(c, name, password_hash=password_hash))

    def disable(self, name: str, disabled: bool = True) -> None:
        """Shut an account (closing sessions and releasing leases) or open it. Raises StoreError `unknown_reviewer`."""
        self._write(lambda c, now: account_rows.disable(c, now, name, disabled))

    def open_session(self, name: str, token_hash: str, expires: datetime) -> Session:
        """Raises StoreError `unknown_reviewer`, also for a disabled one."""
        return self._write(lambda c, now: account_rows.open_session(c, now, name, token_hash, expires))

    def session(self, token_hash: str) -> Session | None:
        """The session, if it has not expired and its reviewer is not disabled."""
        return self._read(lambda c, now: account_rows.session(c, now, token_hash))

    def close_session(self, token_hash: str) -> None:
        """Forget the session; none is no error."""
        self._write(lambda c, now: account_rows.close_session(c, token_hash))

    def note_failed_login(self, name: str, address: str) -> None:
        """Record a login that failed, for the rate limit of all server processes together."""
        self._write(lambda c, now: account_rows.note_failed_login(c, now, name, address))

    def failed_logins(self, since: datetime, *, name: str = "", address: str = "") -> int:
        """How many logins failed since then for this name or from this address (both, where both are given)."""
        return self._read(lambda c, now: account_rows.count_failed_logins(c, since, name, address))

    def clear_failed_logins(self, name: str) -> None:
        """Forget the failures of a name (after a login that succeeded)."""
        self._write(lambda c, now: account_rows.clear_failed_logins(c, name))
