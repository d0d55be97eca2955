"""The conductor's projects in SQL.

The composition root builds it on the conductor's database and hands it to the conductor. It announces new
projects on the bus; it must never decide who may make one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from whook.backplane.ports import TOPIC_PROJECTS, Bus, Project, ProjectPolicy, ProjectSet, encode_event
from whook.backplane.sql.columns import NAMING, UtcDateTime
from whook.backplane.sql.database import Database, insert_if_absent
from whook.chassis.batches import Batcher
from whook.chassis.names import check_project_name

LARGEST: Final = 200
"""Names in one query."""

metadata = sa.MetaData(naming_convention=NAMING)

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False, unique=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("policy", sa.Text, nullable=False, server_default="", comment="JSON; empty: the default one"),
)

_policies = msgspec.json.Decoder(ProjectPolicy)
_DEFAULT = ProjectPolicy()


class SqlProjects:
    """The Projects store."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        # What is asked for while a query is under way shares the next one.
        self._batches: Batcher[str, Project | None] = Batcher(self._read, largest=LARGEST)

    async def get(self, name: str) -> Project | None:
        """Return the project of that name."""
        return await self._batches.ask(name)

    async def _read(self, names: Sequence[str]) -> list[Project | None]:
        query = sa.select(projects).where(projects.c.name.in_(names))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        found = {row.name: _project(row) for row in rows}
        return [found.get(name) for name in names]

    async def create(self, name: str, project_id: str) -> Project:
        """Return the project of that name, made if needed. Raises ValueError for a bad name."""
        check_project_name(name)
        found = await self.get(name)
        if found is not None and found.id >= project_id:
            return found
        wanted = Project(id=project_id, name=name, created_at=datetime.now(UTC))
        project = await self._database.write(lambda connection: _create(connection, wanted))
        if project == wanted:
            # Lost if we are cancelled just here: readers look a name up that they do not know.
            await self._bus.publish(TOPIC_PROJECTS, encode_event(ProjectSet(project)))
        return project

    async def delete(self, name: str, made_before: datetime) -> bool:
        """Delete a project of that name that was made before that time."""
        old = projects.delete().where(projects.c.name == name, projects.c.created_at < made_before)
        return await self._database.execute(old) > 0

    async def set_policy(self, project_id: str, policy: ProjectPolicy) -> Project | None:
        """Give a project another policy and publish it; None if it is gone."""
        project = await self._database.write(lambda connection: _set_policy(connection, project_id, policy))
        if project is not None:
            # Lost if we are cancelled just here: the others read it again when they next ask the store.
            await self._bus.publish(TOPIC_PROJECTS, encode_event(ProjectSet(project)))
        return project

    async def with_policies(self) -> list[Project]:
        """Return the projects whose policy is not the default one."""
        special = sa.select(projects).where(projects.c.policy != "")
        return await self._database.read(lambda found: [_project(row) for row in found.execute(special)])

    async def list(self) -> list[Project]:
        """Return all projects by name."""
        return await self._database.read(_list)


def _get(connection: Connection, name: str) -> Project | None:
    row = connection.execute(sa.select(projects).where(projects.c.name == name)).one_or_none()
    return None if row is None else _project(row)


def _create(connection: Connection, wanted: Project) -> Project:
    connection.execute(projects.delete().where(projects.c.name == wanted.name, projects.c.id < wanted.id))
    insert = projects.insert().values(id=wanted.id, name=wanted.name, created_at=wanted.created_at)
    if insert_if_absent(connection, insert):
        return wanted
    found = _get(connection, wanted.name)
    if found is None:
        raise RuntimeError(f"project {wanted.name} can neither be made nor be found")
    return found


def _list(connection: Connection) -> list[Project]:
    # Sorted here: databases differ in how they sort text.
    return sorted((_project(row) for row in connection.execute(sa.select(projects))), key=lambda p: p.name)


def _set_policy(connection: Connection, project_id: str, policy: ProjectPolicy) -> Project | None:
    stored = "" if policy == _DEFAULT else msgspec.json.encode(policy).decode()
    connection.execute(projects.update().where(projects.c.id == project_id).values(policy=stored))
    row = connection.execute(sa.select(projects).where(projects.c.id == project_id)).one_or_none()
    return None if row is None else _project(row)


def _project(row: Row[*tuple[str, str, datetime, str]]) -> Project:
    policy = _policies.decode(row.policy) if row.policy else _DEFAULT
    return Project(id=row.id, name=row.name, created_at=row.created_at, policy=policy)
