"""The history: events, their later deliveries, large bodies, and what all of it takes."""

import sqlalchemy as sa
from alembic import op

revision = "conductor_0003"
down_revision = "conductor_0002"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "events",
        sa.Column("sequence", _BIG, nullable=False, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("state_at", sa.Double(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("body_size", sa.BigInteger(), nullable=False),
        sa.Column(
            "bytes", sa.BigInteger(), nullable=False, comment="what it takes, with deliveries and body"
        ),
        sa.Column(
            "apart", sa.SmallInteger(), nullable=False, comment="1: the body is in bodies, if it was kept"
        ),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column(
            "inline_attempt", sa.Integer(), nullable=False, comment="of the delivery in content; 0: none"
        ),
        sa.Column("inline_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=False),
        sa.Column("last_problem", sa.Text(), nullable=False),
        sa.Column("last_duration", sa.Double(), nullable=False),
        sa.Column("brief", sa.LargeBinary(), comment="Brief; null where content is encrypted"),
        sa.Column(
            "content", sa.LargeBinary(), comment="Content, sealed; null: only a delivery is known as yet"
        ),
        sa.PrimaryKeyConstraint("sequence", name="pk_events"),
        sa.UniqueConstraint("id", name="uq_events_id"),
    )
    op.create_index("ix_events_received", "events", ["project_id", "received_at"])
    op.create_index("ix_events_recorded", "events", ["project_id", "sequence"])
    op.create_table(
        "deliveries",
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False, comment="Delivery, sealed"),
        sa.PrimaryKeyConstraint("event_id", "attempt", "began_at", name="pk_deliveries"),
    )
    op.create_table(
        "bodies",
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("stored_at", sa.Double(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False, comment="sealed"),
        sa.PrimaryKeyConstraint("event_id", "part", name="pk_bodies"),
    )
    totals = op.create_table(
        "history_totals",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="the last that was given out"),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("pruned_at", sa.Double(), nullable=False, comment="when somebody last began to prune"),
        sa.PrimaryKeyConstraint("id", name="pk_history_totals"),
    )
    op.bulk_insert(totals, [{"id": 1, "sequence": 0, "events": 0, "bytes": 0, "pruned_at": 0.0}])
