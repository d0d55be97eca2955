"""An index of the dead letters, so that they can be counted without reading every event."""

import sqlalchemy as sa
from alembic import op

revision = "conductor_0004"
down_revision = "conductor_0003"


def upgrade() -> None:
    """Make the index."""
    dead = sa.text("state = 'dead'")
    op.create_index("ix_events_dead", "events", ["project_id"], sqlite_where=dead, postgresql_where=dead)
