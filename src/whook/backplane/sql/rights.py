"""Who owns a project and who is what in it: the two questions behind every tunnel, asked in batches.

Owned by the auth stores of this folder. What is asked while a query is under way shares the next one, so a
storm of reconnects costs some dozen queries instead of thousands. Every answer is read after its question was
asked: nothing is remembered here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from whook.backplane.ports import Role
from whook.backplane.sql.auth_tables import project_members, project_owners
from whook.backplane.sql.database import Database
from whook.chassis.batches import Batcher

LARGEST: Final = 200
"""Names in one query: SQLite takes 999 parameters in its oldest versions."""


class SqlRights:
    """Owners and roles of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owners: Batcher[str, str | None] = Batcher(self._read_owners, largest=LARGEST)
        self._roles: Batcher[tuple[str, str], Role | None] = Batcher(self._read_roles, largest=LARGEST)

    async def owner(self, project: str) -> str | None:
        """Return the user id of the project's first owner. Raises Unavailable."""
        return await self._owners.ask(project)

    async def role(self, project: str, user_id: str) -> Role | None:
        """Return what the user is in the project. Raises Unavailable."""
        return await self._roles.ask((project, user_id))

    async def _read_owners(self, names: Sequence[str]) -> list[str | None]:
        found = await self._database.read(lambda connection: _owners(connection, names))
        return [found.get(name) for name in names]

    async def _read_roles(self, pairs: Sequence[tuple[str, str]]) -> list[Role | None]:
        return await self._database.read(lambda connection: _roles(connection, pairs))


def _owners(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    query = sa.select(project_owners.c.project, project_owners.c.user_id)
    rows = connection.execute(query.where(project_owners.c.project.in_(names)))
    return {row.project: row.user_id for row in rows}


def _roles(connection: Connection, pairs: Sequence[tuple[str, str]]) -> list[Role | None]:
    names = [project for project, _ in pairs]
    owners = _owners(connection, names)
    query = sa.select(project_members.c.project, project_members.c.user_id, project_members.c.role).where(
        project_members.c.project.in_(names), project_members.c.user_id.in_([user for _, user in pairs])
    )
    members: dict[tuple[str, str], Role] = {
        (row.project, row.user_id): known_role(row.role) for row in connection.execute(query)
    }

    def role(project: str, user: str) -> Role | None:
        return "owner" if owners.get(project) == user else members.get((project, user))

    return [role(project, user) for project, user in pairs]


def known_role(role: str) -> Role:
    """Return the role of that name. Raises ValueError for what is none."""
    known: Role
    for known in get_args(Role):
        if role == known:
            return known
    raise ValueError(f"{role!r} is no role: the project_members table was changed by hand")
