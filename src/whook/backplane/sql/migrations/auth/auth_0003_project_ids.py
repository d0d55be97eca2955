"""Each claim of a project's name knows the id of the project that it is for."""

import sqlalchemy as sa
from alembic import op

from whook.chassis.ids import new_id

revision = "auth_0003"
down_revision = "auth_0002"


def upgrade() -> None:
    """Give every claim an id: conductors take it over when its project is used next."""
    op.add_column("project_owners", sa.Column("project_id", sa.String(64), nullable=False, server_default=""))
    owners = sa.table("project_owners", sa.column("project"), sa.column("project_id"))
    connection = op.get_bind()
    for project in list(connection.scalars(sa.select(owners.c.project))):
        connection.execute(
            owners.update().where(owners.c.project == project).values(project_id=new_id("prj"))
        )
