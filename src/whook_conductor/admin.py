"""What operators see and do through the API: relays, tunnels, projects, the queue; drains and kicks.

Called by `admin_api`, which only gives it the shape of HTTP. Whether somebody is an operator is auth's to
judge and to audit, for every request anew. What is told to relays goes over the bus and is kept there for
those that miss it. It must never be asked on a webhook's way, nor hold up the loop over a large table.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from whook.backplane.ports import (
    TOPIC_KICK,
    TOPIC_ORDERS,
    Auth,
    Backlog,
    Bus,
    Directory,
    History,
    Kick,
    Principal,
    Project,
    Projects,
    Queue,
    RelayLease,
    RelayOrder,
    Route,
    Unavailable,
    encode_event,
)
from whook.chassis.problem import ProblemError
from whook_conductor.refusals import authenticate, refusals
from whook_conductor.routes import RouteTable

ORDER_KEPT: Final = 3_600.0
"""Seconds for which an order to a relay can still be read by one that the bus could not reach."""
KICK_KEPT: Final = 3_660.0
"""The same for a kick: longer than a tunnel's token lives, and the tunnel with it."""
_PATIENCE: Final = 5.0
"""Seconds for a store whose word is only a part of the answer."""
_NOTHING: Final = Backlog(count=0, bytes=0, oldest_at=0.0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RelayView:
    """A relay as operators see it."""

    lease: RelayLease
    routes: int
    """Projects that it holds, as this conductor knows them."""


@dataclass(frozen=True, slots=True)
class TunnelPage:
    """Tunnels by project."""

    routes: list[Route]
    next: str | None
    complete: bool
    """False while this conductor may lack routes."""


@dataclass(frozen=True, slots=True)
class ProjectEntry:
    """A project, who is connected, and what waits: None while the queue does not answer."""

    project: Project
    route: Route | None
    backlog: Backlog | None


@dataclass(frozen=True, slots=True)
class ProjectPage:
    """Projects by name."""

    projects: list[ProjectEntry]
    next: str | None


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """What of one project waits or is dead."""

    project_id: str
    project: str | None
    """None for one that is no more."""
    backlog: Backlog
    dead: int | None
    """None while the history does not answer."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """The whole queue, and the projects in which something has waited for longest."""

    total: Backlog
    dead: int | None
    projects: list[QueueEntry]
    left_out: int


class Admin:
    """The decisions behind the operators' part of the API."""

    def __init__(
        self,
        *,
        auth: Auth,
        directory: Directory,
        bus: Bus,
        projects: Projects,
        queue: Queue,
        history: History,
        table: RouteTable,
    ) -> None:
        """Nothing is asked until somebody does."""
        self._auth = auth
        self._directory = directory
        self._bus = bus
        self._projects = projects
        self._queue = queue
        self._history = history
        self._table = table

    # -- looking ---------------------------------------------------------------------------------------

    async def relays(self, token: str) -> list[RelayView]:
        """Return the relays by id. Raises `ProblemError`."""
        with refusals():
            await self._enter(token, "admin.relays")
            leases = await self._directory.leases()
        return [self._relay(lease) for lease in sorted(leases, key=lambda lease: lease.relay.id)]

    async def tunnels(
        self, token: str, *, project: str | None, relay_id: str | None, after: str, limit: int
    ) -> TunnelPage:
        """Return tunnels by project, from behind the project `after`. Raises `ProblemError`."""
        with refusals():
            await self._enter(token, "admin.tunnels")
        found = self._table.page(project=project, relay_id=relay_id, after=after, limit=limit + 1)
        more = len(found) > limit
        return TunnelPage(found[:limit], found[limit - 1].project if more else None, self._table.ready)

    async def projects(self, token: str, *, after: str, limit: int) -> ProjectPage:
        """Return projects by name, from behind `after`. Raises `ProblemError`."""
        with refusals():
            await self._enter(token, "admin.projects")
            every = await self._projects.list()
        chosen = heapq.nsmallest(limit + 1, (one for one in every if one.name > after), key=_name)
        backlogs = await self._backlogs()
        entries = [
            ProjectEntry(
                one,
                self._route_of(one),
                None if backlogs is None else backlogs.get(one.id, _NOTHING),
            )
            for one in chosen[:limit]
        ]
        return ProjectPage(entries, chosen[limit - 1].name if len(chosen) > limit else None)

    async def queue(self, token: str, *, limit: int) -> QueueView:
        """Return what waits and what is dead. Raises `ProblemError`, also while the queue does not answer."""
        with refusals():
            await self._enter(token, "admin.queue")
            backlogs = await self._queue.backlogs()
            names = {one.id: one.name for one in await self._projects.list()}
        dead = await self._dead()
        some = {**dict.fromkeys(dead or (), _NOTHING), **backlogs}
        entries = [
            QueueEntry(
                project_id,
                names.get(project_id),
                some[project_id],
                None if dead is None else dead.get(project_id, 0),
            )
            for project_id in heapq.nsmallest(limit, some, key=lambda one: _urgency(one, some, names))
        ]
        return QueueView(
            _total(backlogs), None if dead is None else sum(dead.values()), entries, len(some) - len(entries)
        )

    # -- doing -----------------------------------------------------------------------------------------

    async def drain(self, token: str, relay_id: str, *, undo: bool) -> RelayView:
        """Have a relay send its clients elsewhere and take no new ones, or take that back.

        Returns the relay as it was when it was told. The relay that alone takes tunnels is never drained: its
        clients could go nowhere. Raises `ProblemError`.
        """
        action = "relay.undrain" if undo else "relay.drain"
        with refusals():
            principal = await self._enter(token, action, relay_id)
            leases = {lease.relay.id: lease for lease in await self._directory.leases()}
            wanted = leases.get(relay_id)
            if wanted is None:
                raise ProblemError(404, "unknown-relay", "Unknown relay", "There is no relay of this id.")
            if not undo and not _has_other(leases, relay_id):
                detail = "No other relay takes tunnels, so its clients could go nowhere. Start one first."
                raise ProblemError(409, "last-relay", "Last relay", detail)
            await self._auth.authorize_admin(principal, action, relay_id, change=True)
            order = RelayOrder(relay_id=relay_id, drain=not undo, at=time.time(), by=principal.user)
            await self._bus.publish(TOPIC_ORDERS, encode_event(order), keep=ORDER_KEPT)
        return self._relay(wanted)

    async def kick(self, token: str, tunnel_id: str) -> Route:
        """Have a tunnel closed, and return what it was. Raises `ProblemError`."""
        with refusals():
            principal = await self._enter(token, "tunnel.kick", tunnel_id)
            route = self._table.of_tunnel(tunnel_id)
            if route is None:
                raise ProblemError(
                    404, "unknown-tunnel", "Unknown tunnel", "No project is held by a tunnel of this id."
                )
            await self._auth.authorize_admin(principal, "tunnel.kick", tunnel_id, change=True)
            now = time.time()
            kick = Kick(tunnel_id=tunnel_id, reason="an operator closed it", at=now, until=now + KICK_KEPT)
            await self._bus.publish(TOPIC_KICK, encode_event(kick), keep=KICK_KEPT)
        return route

    # -- helpers ---------------------------------------------------------------------------------------

    async def _enter(self, token: str, action: str, target: str = "") -> Principal:
        principal = await authenticate(self._auth, token)
        await self._auth.authorize_admin(principal, action, target)
        return principal

    async def _backlogs(self) -> dict[str, Backlog] | None:
        try:
            with trio.fail_after(_PATIENCE):
                return await self._queue.backlogs()
        except (Unavailable, trio.TooSlowError):
            return None

    async def _dead(self) -> dict[str, int] | None:
        try:
            with trio.fail_after(_PATIENCE):
                return await self._history.dead_letters()
        except (Unavailable, trio.TooSlowError):
            return None

    def _relay(self, lease: RelayLease) -> RelayView:
        return RelayView(lease, self._table.count(lease.relay.id))

    def _route_of(self, project: Project) -> Route | None:
        route = self._table.lookup(project.name)
        return route if route is not None and route.project_id == project.id else None


def _has_other(leases: Mapping[str, RelayLease], relay_id: str) -> bool:
    return any(one.relay.id != relay_id and not one.relay.draining for one in leases.values())


def _name(project: Project) -> str:
    return project.name


def _urgency(
    project_id: str, backlogs: Mapping[str, Backlog], names: Mapping[str, str]
) -> tuple[float, str, str]:
    """Give what to sort by: what has waited for longest comes first, then dead letters alone, by name."""
    oldest = backlogs[project_id].oldest_at
    return oldest or float("inf"), names.get(project_id, ""), project_id


def _total(backlogs: Mapping[str, Backlog]) -> Backlog:
    return Backlog(
        count=sum(one.count for one in backlogs.values()),
        bytes=sum(one.bytes for one in backlogs.values()),
        oldest_at=min((one.oldest_at for one in backlogs.values() if one.count), default=0.0),
    )
