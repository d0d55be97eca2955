"""What the control API decides: who may open a tunnel, and where.

Called by `api`, which only gives it the shape of HTTP. Every refusal is a `ProblemError` with a stable kind.
Holds no state of its own; rights are auth's to judge, projects the store's, relays placement's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from whook.backplane.ports import Auth, AuthDenied, Principal, Project, Projects, Route, Unavailable
from whook.chassis.admission import Admission, Place
from whook.chassis.drain import Drain
from whook.chassis.names import check_project_name
from whook.chassis.problem import ProblemError
from whook_conductor.placement import Placement
from whook_conductor.projects import ProjectCache
from whook_conductor.resolver import Refusal, Resolver
from whook_conductor.routes import RouteTable

_RETRY_AFTER: Final = (1, 5)
"""Seconds, drawn at random, that spread the clients of a full or restarting cluster."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission for one tunnel: where to connect, and the token for exactly that."""

    websocket_url: str
    token: str
    project_id: str
    public_url: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"<Grant for {self.project_id} until {self.expires_at.isoformat()}>"


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project as its people see it. `route` is None while nobody is connected."""

    project: Project
    public_url: str
    route: Route | None


class Control:
    """The decisions behind the API of one conductor."""

    def __init__(
        self,
        *,
        auth: Auth,
        projects: Projects,
        cache: ProjectCache,
        table: RouteTable,
        resolver: Resolver,
        placement: Placement,
        admission: Admission,
        public_url: Callable[[str], str],
        drain: Drain,
    ) -> None:
        """`public_url` gives the address of a project by its name.

        `admission` bounds how many tunnels are decided about. It counts only those whose token is good, so
        that strangers cannot use it up.
        """
        self._auth = auth
        self._projects = projects
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
        await self._auth.authorize_tunnel(principal, name, create=not watch)
        holder = await self._holder(name) if watch else None
        relay = self._placement.choose(holder=holder)
        if relay is None:
            raise _no_relay()
        project = await self._projects.create(name)
        self._cache.remember(project)
        minted = await self._auth.mint_tunnel_token(principal, project, relay.id)
        return Grant(relay.tunnel_url, minted.token, project.id, self._public_url(name), minted.expires_at)

    async def projects(self, token: str) -> list[ProjectView]:
        """Return the projects that the token's owner may see, by name. Raises `ProblemError`."""
        with _refusals():
            principal = await self._authenticate(token)
            visible = await self._auth.projects_of(principal)
            found = await self._projects.list()
            return [self._view(project) for project in found if visible is None or project.name in visible]

    async def project(self, token: str, name: str) -> ProjectView:
        """Return one project. Raises `ProblemError`: 404 also for one that is another's."""
        with _refusals():
            principal = await self._authenticate(token)
            visible = await self._auth.projects_of(principal)
            project = await self._projects.get(name)
            if project is None or (visible is not None and name not in visible):
                detail = "You have no project of this name."
                raise ProblemError(404, "unknown-project", "Unknown project", detail)
            return self._view(project)

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
        if not token:
            raise ProblemError(401, "unauthorized", "Unauthorized", "Send an access token as a Bearer token.")
        return await self._auth.authenticate(token)

    async def _holder(self, name: str) -> str:
        try:
            route = self._table.lookup(name) or await self._resolver.find(name)
        except Refusal as refusal:
            detail = f"Nobody is connected to {name}, so there is nothing to watch yet."
            raise _busy(refusal.answer.slug, refusal.answer.title, detail) from None
        return route.relay_id

    def _view(self, project: Project) -> ProjectView:
        return ProjectView(project, self._public_url(project.name), self._table.lookup(project.name))


def _check_name(name: str) -> None:
    try:
        check_project_name(name)
    except ValueError as error:
        raise ProblemError(422, "invalid-project-name", "Invalid project name", f"{error}") from None


def _no_relay() -> ProblemError:
    return _busy("no-relay", "No relay", "No relay has room for another tunnel now.")


def _busy(slug: str, title: str, detail: str) -> ProblemError:
    return ProblemError(503, slug, title, detail, retry_after=random.randint(*_RETRY_AFTER))  # noqa: S311


@contextmanager
def _refusals() -> Generator[None]:
    """Turn what the ports refuse into problems."""
    try:
        yield
    except AuthDenied as denied:
        if denied.reason == "forbidden":
            raise ProblemError(403, "forbidden", "Forbidden", denied.detail) from None
        raise ProblemError(401, "unauthorized", "Unauthorized", denied.detail, reason=denied.reason) from None
    except Unavailable:
        raise _busy("unavailable", "Temporarily unavailable", "The server cannot decide this now.") from None
