"""The history: packs, rows that hold many events of a project that gets many."""

import sqlalchemy as sa
from alembic import op

revision = "conductor_0005"
down_revision = "conductor_0004"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "packs",
        sa.Column("sequence", _BIG, nullable=False, autoincrement=False, comment="of its first event"),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False, comment="the earliest received_at in it"),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("first_id", sa.String(64), nullable=False, comment="the least id in it"),
        sa.Column("last_id", sa.String(64), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False, comment="how many; their sequences have no gap"),
        sa.Column("refused", sa.Integer(), nullable=False, comment="how many of them are in that state"),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "ids", sa.LargeBinary(), nullable=False, comment="of its events in their order, 30 bytes each"
        ),
        sa.Column("content", sa.LargeBinary(), nullable=False, comment="array of Record, sealed"),
        sa.PrimaryKeyConstraint("sequence", name="pk_packs"),
    )
    op.create_index("ix_packs_begun", "packs", ["project_id", "first_at"])
    op.create_index("ix_packs_ended", "packs", ["project_id", "last_at"])
    op.create_index("ix_packs_recorded", "packs", ["project_id", "sequence"])
    op.create_index("ix_packs_ids", "packs", ["last_id"])
