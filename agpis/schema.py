"""The tables of the store (SQLAlchemy Core), as the newest migration leaves them.

What is listed, counted and locked stands in narrow rows (`decisions`, `verdicts`); the whole decision or verdict is
JSON in a row of its own (`decision_bodies`, `verdict_bodies`), so that a page of the queue reads no bodies. The columns
that say how far a decision is (`state`, `verdicts`, `accepted`, `free_at`) follow from its verdicts and leases and are
set by `agpis.leases` alone, under the decision's lock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

VERSION = "0002"
"""The newest migration."""
VERSION_TABLE = "agpis_schema_version"

OPEN, EMPTY, DONE, DEAD = 1, 2, 0, 3
"""Values of `state`: waits for a verdict; waits, but has no sequence; has its verdicts; has no image at all."""
SEQUENCED = ("generated", "below_threshold")
"""Statuses of decisions with a sequence; the others are EMPTY or DEAD."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Moment(sa.types.TypeDecorator[datetime]):
    """A time as microseconds since 1970, UTC: exact, and the same in both databases."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """A time without a zone is taken for UTC."""
        if value is None:
            return None
        return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """In UTC."""
        return None if value is None else EPOCH + value * MICROSECOND


def plain(text: str) -> str:
    """The text as a column can hold it: NUL and halves of surrogate pairs, which databases refuse, become U+FFFD."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite counts only INTEGER keys up by itself."""


def _decision(**more: Any) -> sa.Column[int]:
    return sa.Column("decision", Id, sa.ForeignKey("decisions.id", ondelete="CASCADE"), **more)


def _verdict() -> sa.Column[int]:
    parent = sa.ForeignKey("verdicts.id", ondelete="CASCADE")
    return sa.Column("verdict", Id, parent, primary_key=True, autoincrement=False)


decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("sku", sa.Text, nullable=False),
    sa.Column("bundle", sa.Text, nullable=False),
    sa.Column("base", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("search", sa.Text, nullable=False, comment="sku and title, case folded"),
    sa.Column("p_qualified", sa.Double, nullable=True),
    sa.Column("doubt", sa.Double, nullable=False, comment="|p_qualified - 0.5|; 1 without one"),
    sa.Column("lot", sa.Double, nullable=False, comment="0 to 1, a hash of sku and bundle: who is reviewed twice"),
    sa.Column("digest", sa.Text, nullable=False, comment="of the body"),
    sa.Column("added", Moment, nullable=False),
    sa.Column("wanted", sa.SmallInteger, nullable=False, server_default="1", comment="verdicts that it needs"),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("verdicts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("accepted", sa.SmallInteger, nullable=True, comment="what its last verdict says"),
    sa.Column("free_at", Moment, nullable=False, server_default="0", comment="when it can be leased next"),
    sa.UniqueConstraint("sku", "bundle"),
    sa.Index("ix_decisions_doubt", "state", "doubt", "id"),
    sa.Index("ix_decisions_age", "state", "id"),
    sa.Index("ix_decisions_cube", "state", "category", "status", "bundle", "p_qualified"),
    sa.Index("ix_decisions_added", "added", "id"),
    sa.Index("ix_decisions_bundle", "bundle", "added", "id"),
    sqlite_autoincrement=True,
)
decision_bodies = sa.Table(
    "decision_bodies",
    metadata,
    _decision(primary_key=True, autoincrement=False),
    sa.Column("row", sa.Text, nullable=False, comment="Decision.row() as JSON"),
)
decision_rules = sa.Table(
    "decision_rules",
    metadata,
    _decision(primary_key=True, autoincrement=False),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False, comment="that of the decision"),
    sa.Index("ix_decision_rules_rule", "rule", "state", "decision"),
)
leases = sa.Table(
    "leases",
    metadata,
    _decision(primary_key=True, autoincrement=False),
    sa.Column("reviewer", sa.Text, primary_key=True),
    sa.Column("taken", Moment, nullable=False),
    sa.Column("place", sa.Integer, nullable=False, comment="order among those taken together"),
    sa.Column("until", Moment, nullable=False),
    sa.Index("ix_leases_reviewer", "reviewer", "taken"),
)
verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    _decision(nullable=True),
    sa.Column("sku", sa.Text, nullable=False),
    sa.Column("bundle", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("reviewer", sa.Text, nullable=False),
    sa.Column("time", Moment, nullable=True, comment="null for an imported one without"),
    sa.Column("accepted", sa.SmallInteger, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("blind", sa.SmallInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, comment="of what was judged and how"),
    sa.Column("undone", Moment, nullable=True),
    sa.Index("ix_verdicts_decision", "decision", "reviewer"),
    sa.Index("ix_verdicts_sku", "sku"),
    sa.Index("ix_verdicts_reviewer", "reviewer", "time"),
    sa.Index("ix_verdicts_time", "time"),
    sa.Index("ix_verdicts_digest", "digest"),
    sqlite_autoincrement=True,
)
verdict_bodies = sa.Table(
    "verdict_bodies",
    metadata,
    _verdict(),
    sa.Column("row", sa.Text, nullable=False, comment="agpis.data.Verdict as JSON"),
)
verdict_rules = sa.Table(
    "verdict_rules",
    metadata,
    _verdict(),
    sa.Column("rule", sa.Text, primary_key=True),
)

reviewers = sa.Table(
    "reviewers",
    metadata,
    sa.Column("folded", sa.Text, primary_key=True, comment="the name, case folded"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("admin", sa.SmallInteger, nullable=False),
    sa.Column("disabled", sa.SmallInteger, nullable=False),
    sa.Column("created", Moment, nullable=False),
)
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("token_hash", sa.Text, primary_key=True),
    sa.Column("reviewer", sa.Text, sa.ForeignKey("reviewers.folded", ondelete="CASCADE"), nullable=False),
    sa.Column("created", Moment, nullable=False),
    sa.Column("expires", Moment, nullable=False),
    sa.Index("ix_sessions_reviewer", "reviewer"),
)
failed_logins = sa.Table(
    "failed_logins",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("time", Moment, nullable=False),
    sa.Index("ix_failed_logins_name", "name", "time"),
    sa.Index("ix_failed_logins_address", "address", "time"),
    sa.Index("ix_failed_logins_time", "time"),
)
