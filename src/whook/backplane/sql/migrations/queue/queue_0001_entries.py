"""The queue: what waits, how much of it there is, and who delivers it."""

import sqlalchemy as sa
from alembic import op

revision = "queue_0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "entries",
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("given", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body_size", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_entries"),
        # A position is never used again, or settling one twice could remove another event.
        sqlite_autoincrement=True,
    )
    op.create_index("ix_entries_project_id", "entries", ["project_id"])
    op.create_index(
        "ix_entries_deferred", "entries", ["project_id", "due_at"], sqlite_where=sa.text("due_at > 0")
    )
    op.create_table(
        "backlogs",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name="pk_backlogs"),
    )
    op.create_table(
        "leases",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("renewed_at", sa.Float(), nullable=False),
        sa.Column("ends_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_leases"),
    )
    op.create_table(
        "ownerships",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name="pk_ownerships"),
    )
    op.create_table(
        "deliveries",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("ends_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_ends_at", "deliveries", ["ends_at"])
    totals = op.create_table(
        "totals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_totals"),
    )
    op.bulk_insert(totals, [{"id": 1, "count": 0, "bytes": 0, "version": 0, "fence": 0}])
