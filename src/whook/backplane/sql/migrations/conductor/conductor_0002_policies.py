"""The policies of projects: what becomes of webhooks that cannot be delivered at once."""

import sqlalchemy as sa
from alembic import op

revision = "conductor_0002"
down_revision = "conductor_0001"


def upgrade() -> None:
    """Give every project the default policy."""
    op.add_column(
        "projects",
        sa.Column(
            "policy", sa.Text(), nullable=False, server_default="", comment="JSON; empty: the default one"
        ),
    )
