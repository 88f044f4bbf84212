"""Decisions, leases and verdicts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "decisions",
        sa.Column("id", ID, nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("search", sa.Text(), nullable=False, comment="sku and title, case folded"),
        sa.Column("p_qualified", sa.Double(), nullable=True),
        sa.Column("doubt", sa.Double(), nullable=False, comment="|p_qualified - 0.5|; 1 without one"),
        sa.Column(
            "lot", sa.Double(), nullable=False, comment="0 to 1, a hash of sku and bundle: who is reviewed twice"
        ),
        sa.Column("digest", sa.Text(), nullable=False, comment="of the body"),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("wanted", sa.SmallInteger(), server_default="1", nullable=False, comment="verdicts that it needs"),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("verdicts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("accepted", sa.SmallInteger(), nullable=True, comment="what its last verdict says"),
        sa.Column("free_at", sa.BigInteger(), server_default="0", nullable=False, comment="when it can be leased next"),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
        sa.UniqueConstraint("sku", "bundle", name="uq_decisions_sku_bundle"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_decisions_added", "decisions", ["added", "id"])
    op.create_index("ix_decisions_age", "decisions", ["state", "id"])
    op.create_index("ix_decisions_bundle", "decisions", ["bundle", "added", "id"])
    op.create_index("ix_decisions_cube", "decisions", ["state", "category", "status", "bundle", "p_qualified"])
    op.create_index("ix_decisions_doubt", "decisions", ["state", "doubt", "id"])
    op.create_table(
        "decision_bodies",
        sa.Column("decision", ID, autoincrement=False, nullable=False),
        sa.Column("row", sa.Text(), nullable=False, comment="Decision.row() as JSON"),
        sa.ForeignKeyConstraint(["decision"], ["decisions.id"], name="fk_decision_bodies_decision", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("decision", name="pk_decision_bodies"),
    )
    op.create_table(
        "decision_rules",
        sa.Column("decision", ID, autoincrement=False, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="that of the decision"),
        sa.ForeignKeyConstraint(["decision"], ["decisions.id"], name="fk_decision_rules_decision", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("decision", "rule", name="pk_decision_rules"),
    )
    op.create_index("ix_decision_rules_rule", "decision_rules", ["rule", "state", "decision"])
    op.create_table(
        "leases",
        sa.Column("decision", ID, autoincrement=False, nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False, comment="order among those taken together"),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["decision"], ["decisions.id"], name="fk_leases_decision", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("decision", "reviewer", name="pk_leases"),
    )
    op.create_index("ix_leases_reviewer", "leases", ["reviewer", "taken"])
    op.create_table(
        "verdicts",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("decision", ID, nullable=True),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=True, comment="null for an imported one without"),
        sa.Column("accepted", sa.SmallInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("blind", sa.SmallInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="of what was judged and how"),
        sa.Column("undone", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["decision"], ["decisions.id"], name="fk_verdicts_decision", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_verdicts"),
        sa.UniqueConstraint("key", name="uq_verdicts_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_verdicts_decision", "verdicts", ["decision", "reviewer"])
    op.create_index("ix_verdicts_digest", "verdicts", ["digest"])
    op.create_index("ix_verdicts_reviewer", "verdicts", ["reviewer", "time"])
    op.create_index("ix_verdicts_sku", "verdicts", ["sku"])
    op.create_index("ix_verdicts_time", "verdicts", ["time"])
    op.create_table(
        "verdict_bodies",
        sa.Column("verdict", ID, autoincrement=False, nullable=False),
        sa.Column("row", sa.Text(), nullable=False, comment="agpis.data.Verdict as JSON"),
        sa.ForeignKeyConstraint(["verdict"], ["verdicts.id"], name="fk_verdict_bodies_verdict", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("verdict", name="pk_verdict_bodies"),
    )
    op.create_table(
        "verdict_rules",
        sa.Column("verdict", ID, autoincrement=False, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["verdict"], ["verdicts.id"], name="fk_verdict_rules_verdict", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("verdict", "rule", name="pk_verdict_rules"),
    )
