"""What a conductor under test stands on: projects in a dict, auth in a table, events in SQLite."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trio

from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import (
    TOPIC_PROJECTS,
    AuthDenied,
    Blobs,
    Bus,
    History,
    Principal,
    Project,
    ProjectPolicy,
    ProjectSet,
    Queue,
    TunnelToken,
    Unavailable,
    encode_event,
)
from whook.backplane.sql import (
    CONDUCTOR,
    SqlBlobs,
    SqlHistory,
    open_database,
    open_sqlite_queue,
    sqlite_url,
)
from whook.chassis.names import check_project_name
from whook.chassis.sealing import Sealer


class DictProjects:
    """Projects in a dict. `broken` makes it unavailable; `asked` are the names that were looked up."""

    def __init__(self) -> None:
        self.stored: dict[str, Project] = {}
        self.asked: list[str] = []
        self.broken = False
        self.bus: Bus | None = None
        self.policy = ProjectPolicy()

    async def get(self, name: str) -> Project | None:
        await trio.lowlevel.checkpoint()
        self.asked.append(name)
        if self.broken:
            raise Unavailable("the store is gone")
        return self.stored.get(name)

    async def create(self, name: str, project_id: str = "") -> Project:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise Unavailable("the store is gone")
        check_project_name(name)
        made = Project(
            id=project_id or f"prj_{name}",
            name=name,
            created_at=datetime(2025, 1, 1, tzinfo=UTC),
            policy=self.policy,
        )
        return self.stored.setdefault(name, made)

    async def delete(self, name: str, made_before: datetime) -> bool:
        await trio.lowlevel.checkpoint()
        found = self.stored.get(name)
        if found is None or found.created_at >= made_before:
            return False
        del self.stored[name]
        return True

    async def set_policy(self, project_id: str, policy: ProjectPolicy) -> Project | None:
        await trio.lowlevel.checkpoint()
        for name, project in self.stored.items():
            if project.id == project_id:
                self.stored[name] = changed = dataclasses.replace(project, policy=policy)
                if self.bus is not None:
                    await self.bus.publish(TOPIC_PROJECTS, encode_event(ProjectSet(changed)))
                return changed
        return None

    async def with_policies(self) -> list[Project]:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise Unavailable("the store is gone")
        return [project for project in self.stored.values() if project.policy != ProjectPolicy()]

    async def list(self) -> list[Project]:
        await trio.lowlevel.checkpoint()
        return [self.stored[name] for name in sorted(self.stored)]


class TableAuth:
    """Auth from a table: `tokens` gives users, `owners` gives projects."""

    def __init__(self) -> None:
        self.tokens = {"whk_ada": "ada", "whk_bob": "bob"}
        self.owners: dict[str, str] = {}
        self.minted: list[tuple[str, str, str]] = []
        self.broken = False

    async def authenticate(self, token: str) -> Principal:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise Unavailable("auth is gone")
        user = self.tokens.get(token)
        if user is None:
            raise AuthDenied("unknown", "This token is not known.")
        return Principal(user_id=user, user=user, token_id=token, scopes=frozenset({"connect"}))

    async def authorize_tunnel(self, principal: Principal, project: str, *, create: bool) -> str:
        await trio.lowlevel.checkpoint()
        owner = self.owners.get(project)
        if owner is None and create:
            self.owners[project] = owner = principal.user
        if owner != principal.user:
            raise AuthDenied("forbidden", "The project is another's.")
        return f"prj_{project}"

    async def authorize_project(self, principal: Principal, project: str | None, scope: str) -> str:
        await trio.lowlevel.checkpoint()
        if project is not None and self.owners.get(project) != principal.user:
            raise AuthDenied("hidden", "You have no project of this name.")
        return f"prj_{project}" if project else ""

    async def authorize_admin(
        self, principal: Principal, action: str, target: str = "", *, change: bool = False
    ) -> None:
        await trio.lowlevel.checkpoint()
        raise AuthDenied("forbidden", "this takes a token of the scope admin")

    async def projects_of(self, principal: Principal) -> dict[str, str] | None:
        await trio.lowlevel.checkpoint()
        return {name: f"prj_{name}" for name, owner in self.owners.items() if owner == principal.user}

    async def mint_tunnel_token(self, principal: Principal, project: Project, relay_id: str) -> TunnelToken:
        await trio.lowlevel.checkpoint()
        self.minted.append((principal.user, project.name, relay_id))
        return TunnelToken(token="tunnel-token", expires_at=datetime(2030, 1, 1, tzinfo=UTC) + timedelta())

    async def jwks(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"keys": []}


class Stored:
    """The stores of events in SQLite: the queue, the history and the blobs."""

    def __init__(self, queue: Queue, history: History, blobs: Blobs) -> None:
        self.queue = queue
        self.history = history
        self.blobs = blobs


_templates: list[tempfile.TemporaryDirectory[str]] = []


async def _template() -> Path:
    """Return a folder with the empty databases: making them takes longer than a test."""
    if not _templates:
        made = tempfile.TemporaryDirectory(prefix="whook-empty-")
        async with open_memory_backplane() as backplane, open_stored(backplane.bus, Path(made.name)):
            pass
        _templates.append(made)
    return Path(_templates[0].name)


@asynccontextmanager
async def open_stored(bus: Bus, folder: Path | None = None) -> AsyncIterator[Stored]:
    """Open them in a folder, or in one that goes at the end."""
    with contextlib.ExitStack() as stack:
        where = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whook-stored-")))
        if folder is None:
            shutil.copytree(await _template(), where, dirs_exist_ok=True)
        async with (
            open_sqlite_queue(sqlite_url(where / "queue.sqlite3"), bus) as queue,
            open_database(sqlite_url(where / "conductor.sqlite3"), CONDUCTOR) as database,
        ):
            yield Stored(queue, SqlHistory(database, Sealer()), SqlBlobs(database, Sealer()))
