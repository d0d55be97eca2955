"""What the control API decides: who may open a tunnel, and where.

Called by `api`, which only gives it the shape of HTTP. Every refusal is a `ProblemError` with a stable kind.
Holds no state of its own; rights are auth's to judge, projects the store's, relays placement's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import trio

from whook.backplane.ports import (
    Auth,
    Backlog,
    Principal,
    Project,
    Projects,
    Queue,
    Route,
    Unavailable,
)
from whook.chassis.admission import Admission, Place
from whook.chassis.drain import Drain
from whook.chassis.names import check_project_name
from whook.chassis.problem import ProblemError
from whook_conductor.backlogs import BacklogTable
from whook_conductor.placement import Placement
from whook_conductor.policy_api import PolicyChange
from whook_conductor.projects import ProjectCache
from whook_conductor.refusals import authenticate, unknown_project
from whook_conductor.refusals import busy as _busy
from whook_conductor.refusals import refusals as _refusals
from whook_conductor.resolver import Refusal, Resolver
from whook_conductor.routes import RouteTable

_BACKLOG_TIME: Final = 2.0
"""Seconds that an answer waits for the queue, whose word is only for information here."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission for one tunnel: where to connect, and the token for exactly that."""

    websocket_url: str
    token: str
    project_id: str
    public_url: str
    expires_at: datetime
    backlog: int
    """Webhooks that wait to be delivered; 0 also while the queue cannot tell."""

    def __repr__(self) -> str:
        return f"<Grant for {self.project_id} until {self.expires_at.isoformat()}>"


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project as its people see it. `route` is None while nobody is connected."""

    project: Project
    public_url: str
    route: Route | None
    backlog: Backlog | None = None
    """None where it was not asked for, or the queue does not answer."""


class Control:
    """The decisions behind the API of one conductor."""

    def __init__(
        self,
        *,
        auth: Auth,
        projects: Projects,
        queue: Queue,
        backlogs: BacklogTable,
        cache: ProjectCache,
        table: RouteTable,
        resolver: Resolver,
        placement: Placement,
        admission: Admission,
        public_url: Callable[[str], str],
        drain: Drain,
    ) -> None:
        """`public_url` gives the address of a project by its name.

        `admission` bounds how many tunnels are decided about; it counts only those whose token is good, so
        that strangers cannot use it up.
        """
        self._auth = auth
        self._projects = projects
        self._queue = queue
        self._backlogs = backlogs
        self._cache = cache
        self._table = table
        self._resolver = resolver
        self._placement = placement
        self._admission = admission
        self._public_url = public_url
        self._drain = drain

    async def open_tunnel(self, token: str, name: str, *, watch: bool) -> Grant:
        """Return permission for one tunnel of the project `name`.

        The project is made on first use if the token may; a watcher never makes one. A watcher is sent to
        the relay of the project's holder, which is the only one that sees its requests. Raises
        `ProblemError`.
        """
        if self._drain.begun:
            raise _busy("draining", "Shutting down", "This server is being stopped. Ask again.")
        with _refusals():
            principal = await self._authenticate(token)
            with self._admitted():
                return await self._open_tunnel(principal, name, watch=watch)

    async def _open_tunnel(self, principal: Principal, name: str, *, watch: bool) -> Grant:
        _check_name(name)
        if self._table.cut_off and not watch:
            detail = "The directory is out of reach: no tunnel can be opened, those that are open go on."
            raise _busy("unavailable", "Temporarily unavailable", detail)
        if not watch and not self._placement.has_room:
            raise _no_relay()  # before auth is asked: when relays restart, thousands are told so
        project_id = await self._auth.authorize_tunnel(principal, name, create=not watch)
        holder = await self._holder(name) if watch else None
        relay = self._placement.choose(None if watch else name, holder=holder)
        if relay is None:
            raise _no_relay()
        project = await self._projects.create(name, project_id)
        self._cache.remember(project)
        minted = await self._auth.mint_tunnel_token(principal, project, relay.id)
        backlog = await self._backlog(project.id) if self._backlogs.waits(project.id) else None
        return Grant(
            relay.tunnel_url,
            minted.token,
            project.id,
            self._public_url(name),
            minted.expires_at,
            backlog.count if backlog is not None else 0,
        )

    async def projects(self, token: str) -> list[ProjectView]:
        """Return the projects that the token's owner may see, by name. Raises `ProblemError`."""
        with _refusals():
            principal = await self._authenticate(token)
            visible = await self._auth.projects_of(principal)
            found = await self._projects.list()
            return [self._view(project) for project in found if _may_see(visible, project)]

    async def project(self, token: str, name: str) -> ProjectView:
        """Return one project. Raises `ProblemError`: 404 also for one that is another's."""
        with _refusals():
            principal = await self._authenticate(token)
            visible = await self._auth.projects_of(principal)
            project = await self._projects.get(name)
            if project is None or not _may_see(visible, project):
                raise unknown_project()
            return self._view(project, await self._backlog(project.id))

    async def change_policy(self, token: str, name: str, change: PolicyChange) -> ProjectView:
        """Change a project's policy and return the project. Raises `ProblemError`."""
        with _refusals():
            principal = await self._authenticate(token)
            project_id = await self._auth.authorize_project(principal, name, "projects:write")
            project = await self._projects.get(name)
            if project is None or project.id != project_id:
                raise unknown_project()
            changed = await self._projects.set_policy(project.id, change.apply(project.policy))
            if changed is None:
                raise unknown_project()
            self._cache.remember(changed)
            return self._view(changed, await self._backlog(changed.id))

    async def _backlog(self, project_id: str) -> Backlog | None:
        try:
            with trio.fail_after(_BACKLOG_TIME):
                return await self._queue.backlog(project_id)
        except (Unavailable, trio.TooSlowError):
            return None

    @contextmanager
    def _admitted(self) -> Generator[None]:
        """Take one of the places for those who ask for a tunnel, or say when there will be one."""
        place = self._admission.enter()
        if not isinstance(place, Place):
            detail = "Many clients ask for tunnels at the same time. Come back as Retry-After says."
            raise ProblemError(503, "busy", "Busy", detail, retry_after=math.ceil(place))
        try:
            yield
        finally:
            place.leave()

    async def _authenticate(self, token: str) -> Principal:
        return await authenticate(self._auth, token)

    async def _holder(self, name: str) -> str:
        try:
            route = self._table.lookup(name) or await self._resolver.find(name)
        except Refusal as refusal:
            detail = f"Nobody is connected to {name}, so there is nothing to watch yet."
            raise _busy(refusal.answer.slug, refusal.answer.title, detail) from None
        return route.relay_id

    def _view(self, project: Project, backlog: Backlog | None = None) -> ProjectView:
        route = self._table.lookup(project.name)
        if route is not None and route.project_id != project.id:
            route = None  # of another owner of the name
        return ProjectView(project, self._public_url(project.name), route, backlog)


def _may_see(visible: Mapping[str, str] | None, project: Project) -> bool:
    """Tell whether it is one of these; one of the same name with another id is an earlier owner's."""
    return visible is None or visible.get(project.name) == project.id


def _check_name(name: str) -> None:
    try:
        check_project_name(name)
    except ValueError as error:
        raise ProblemError(422, "invalid-project-name", "Invalid project name", f"{error}") from None


def _no_relay() -> ProblemError:
    return _busy("no-relay", "No relay", "No relay has room for another tunnel now.")
